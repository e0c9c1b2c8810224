//! The success-rate rule as proxies publish it, for comparison: below the mean minus 1.9 standard deviations, among five
//! hosts or more with a hundred requests each.

#[derive(Debug)]
pub(crate) struct Published {
    /// Requests and failures.
    counts: Vec<(u32, u32)>,
}

const DEVIATIONS: f64 = 1.9;
const MIN_HOSTS: usize = 5;
const MIN_REQUESTS: u32 = 100;

impl Published {
    pub(crate) fn new(endpoints: usize) -> Self {
        Self {
            counts: vec![(0, 0); endpoints],
        }
    }

    pub(crate) fn report(&mut self, endpoint: usize, failed: bool) {
        self.counts[endpoint].0 += 1;
        self.counts[endpoint].1 += u32::from(failed);
    }

    /// How many healthy ones it would eject if nobody was out.
    pub(crate) fn end_interval(&mut self, healthy: impl Fn(usize) -> bool) -> u32 {
        let rates: Vec<_> = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, (requests, _))| *requests >= MIN_REQUESTS)
            .map(|(n, (requests, failures))| (n, 1.0 - f64::from(*failures) / f64::from(*requests)))
            .collect();
        self.counts.fill((0, 0));
        if rates.len() < MIN_HOSTS {
            return 0;
        }
        let mean = rates.iter().map(|(_, rate)| rate).sum::<f64>() / rates.len() as f64;
        let square = |(_, rate): &(usize, f64)| (rate - mean) * (rate - mean);
        let deviation = (rates.iter().map(square).sum::<f64>() / rates.len() as f64).sqrt();
        let below =
            |(n, rate): &&(usize, f64)| healthy(*n) && *rate < mean - DEVIATIONS * deviation;
        rates.iter().filter(below).count() as u32
    }
}
