use gw_bulkhead::LaneSnapshot;

/// What happened in a second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Second {
    pub(crate) offered: u32,
    pub(crate) refused: u32,
    pub(crate) answered: u32,
    pub(crate) dropped: u32,
    /// How many were answered in each lane.
    pub(crate) by_lane: Vec<u32>,
    /// Of all answers together, in seconds.
    time: f64,
    /// Of all lanes together, as what is in flight.
    pub(crate) limit: u32,
    pub(crate) in_flight: u32,
    /// What the algorithm takes for normal, in seconds; the most of any lane.
    pub(crate) baseline: f64,
}

impl Second {
    pub(crate) fn answered(&mut self, nanos: u64) {
        self.answered += 1;
        self.time += nanos as f64 / 1e9;
    }

    pub(crate) fn over(mut self, lanes: &[LaneSnapshot]) -> Self {
        for lane in lanes {
            self.limit += lane.limit;
            self.in_flight += lane.in_flight;
            let report = lane.adaptive.as_ref().map(|adaptive| adaptive.report);
            let baseline = report.and_then(|report| report.baseline);
            let baseline = baseline.map_or(0.0, |baseline| baseline.as_secs_f64());
            self.baseline = self.baseline.max(baseline);
        }
        self
    }

    /// The mean time of answers, in seconds.
    pub(crate) fn latency(&self) -> f64 {
        self.time / f64::from(self.answered.max(1))
    }
}

/// What happened, second by second.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(pub(crate) Vec<Second>);

impl Trace {
    pub(crate) fn push(&mut self, second: Second) {
        self.0.push(second);
    }

    /// Means over so many seconds each.
    pub(crate) fn series(&self, over: usize, value: impl Fn(&Second) -> f64) -> Vec<f64> {
        let parts = self.0.chunks(over);
        parts
            .map(|part| part.iter().map(&value).sum::<f64>() / part.len() as f64)
            .collect()
    }

    /// From one second to another.
    pub(crate) fn between(&self, from: usize, to: usize) -> Part<'_> {
        Part(&self.0[from..to])
    }
}

/// A part of a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part<'a>(&'a [Second]);

impl Part<'_> {
    fn mean(self, value: impl Fn(&Second) -> f64) -> f64 {
        self.0.iter().map(value).sum::<f64>() / self.0.len() as f64
    }

    pub(crate) fn limit(self) -> f64 {
        self.mean(|second| f64::from(second.limit))
    }

    pub(crate) fn least_limit(self) -> u32 {
        self.0.iter().map(|second| second.limit).min().unwrap()
    }

    pub(crate) fn greatest_limit(self) -> u32 {
        self.0.iter().map(|second| second.limit).max().unwrap()
    }

    /// Answers per second.
    pub(crate) fn throughput(self) -> f64 {
        self.mean(|second| f64::from(second.answered))
    }

    /// The mean time of answers, in seconds.
    pub(crate) fn latency(self) -> f64 {
        self.mean(|second| second.time) / self.throughput()
    }

    pub(crate) fn greatest_baseline(self) -> f64 {
        let baselines = self.0.iter().map(|second| second.baseline);
        baselines.fold(0.0, f64::max)
    }

    /// Answers per second in one lane.
    pub(crate) fn throughput_of(self, lane: usize) -> f64 {
        self.mean(|second| f64::from(second.by_lane.get(lane).copied().unwrap_or(0)))
    }

    pub(crate) fn drops(self) -> f64 {
        self.mean(|second| f64::from(second.dropped))
            / self.mean(|second| f64::from(second.offered))
    }
}
