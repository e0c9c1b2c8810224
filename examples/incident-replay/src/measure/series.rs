use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

/// How a request ended, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// This status.
    Status(u16),
    /// No answer: the connection failed, or the client's patience ended.
    None,
}

impl Outcome {
    /// Whether the client got what it asked for.
    pub(crate) const fn is_ok(self) -> bool {
        matches!(self, Self::Status(200..=299))
    }

    /// The status, if there was an answer.
    pub(crate) const fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::None => None,
        }
    }
}

/// One route in one phase, second by second.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    seconds: Vec<Second>,
}

/// The requests that were scheduled for one second.
#[derive(Debug, Clone)]
pub(crate) struct Second {
    sent: u64,
    ok: u64,
    statuses: BTreeMap<u16, u64>,
    /// Microseconds from the scheduled instant to the end, however it ended.
    latency: Histogram<u64>,
}

/// A stretch of seconds in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// All that were sent.
    pub(crate) sent: u64,
    /// Those that got what they asked for.
    pub(crate) ok: u64,
    pub(crate) bad_request: u64,
    pub(crate) too_many: u64,
    pub(crate) unavailable: u64,
    pub(crate) gateway_timeout: u64,
    /// Other failures, and those without an answer.
    pub(crate) other: u64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl Series {
    /// So many seconds without requests.
    pub(crate) fn new(seconds: usize) -> Self {
        let seconds = (0..seconds).map(|_| Second::default()).collect();
        Self { seconds }
    }

    /// A request was sent, scheduled for this time since the start.
    pub(super) fn sent(&mut self, scheduled: Duration) {
        if let Some(second) = self.at(scheduled) {
            second.sent += 1;
        }
    }

    /// A request that was scheduled for this time has ended, so long after it.
    pub(super) fn ended(&mut self, scheduled: Duration, took: Duration, outcome: Outcome) {
        if let Some(second) = self.at(scheduled) {
            second.ended(took, outcome);
        }
    }

    /// What is scheduled for the very end counts in the last second.
    fn at(&mut self, scheduled: Duration) -> Option<&mut Second> {
        let last = self.seconds.len().checked_sub(1)?;
        let second = usize::try_from(scheduled.as_secs()).unwrap_or(last);
        self.seconds.get_mut(second.min(last))
    }

    /// Each second.
    pub(crate) fn seconds(&self) -> &[Second] {
        &self.seconds
    }

    /// All seconds together.
    pub(crate) fn total(&self) -> Summary {
        self.summary(0..self.seconds.len())
    }

    /// Some seconds together.
    pub(crate) fn summary(&self, seconds: Range<usize>) -> Summary {
        let mut all = Second::default();
        for second in self.seconds.get(seconds).unwrap_or_default() {
            all.add(second);
        }
        all.summary()
    }
}

impl Default for Second {
    fn default() -> Self {
        Self {
            sent: 0,
            ok: 0,
            statuses: BTreeMap::new(),
            latency: histogram(),
        }
    }
}

/// Three significant digits, up to a minute: longer than any client waits.
fn histogram() -> Histogram<u64> {
    #[allow(clippy::expect_used, reason = "constants that the library accepts")]
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("valid bounds and digits")
}

impl Second {
    fn ended(&mut self, took: Duration, outcome: Outcome) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.latency.saturating_record(micros.max(1));
        if outcome.is_ok() {
            self.ok += 1;
        } else if let Some(status) = outcome.status() {
            *self.statuses.entry(status).or_default() += 1;
        }
    }

    fn add(&mut self, other: &Self) {
        self.sent += other.sent;
        self.ok += other.ok;
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        // Both have the same bounds, so there is nothing that cannot be added.
        _ = self.latency.add(&other.latency);
    }

    /// Requests sent.
    pub(crate) const fn sent(&self) -> u64 {
        self.sent
    }

    /// The share of requests that got what they asked for; none if none was sent.
    pub(crate) fn answered(&self) -> Option<f64> {
        (self.sent > 0).then(|| self.ok as f64 / self.sent as f64)
    }

    /// The 99th percentile of the time from schedule to end; none if nothing ended.
    pub(crate) fn p99(&self) -> Option<Duration> {
        (!self.latency.is_empty()).then(|| self.quantile(0.99))
    }

    fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    fn summary(&self) -> Summary {
        let status = |status| self.statuses.get(&status).copied().unwrap_or(0);
        let named = [400, 429, 503, 504].map(status);
        let [bad_request, too_many, unavailable, gateway_timeout] = named;
        let mut summary = Summary {
            sent: self.sent,
            ok: self.ok,
            bad_request,
            too_many,
            unavailable,
            gateway_timeout,
            other: self
                .sent
                .saturating_sub(self.ok + named.into_iter().sum::<u64>()),
            ..Summary::default()
        };
        if !self.latency.is_empty() {
            summary.p50 = self.quantile(0.5);
            summary.p99 = self.quantile(0.99);
            summary.max = Duration::from_micros(self.latency.max());
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_request_counts_in_its_scheduled_second_with_the_whole_wait() {
        let mut series = Series::new(3);
        series.sent(millis(900));
        // It ends two seconds later, and is charged to the first one.
        series.ended(millis(900), millis(2_500), Outcome::Status(504));
        let [first, second, third] = series.seconds() else {
            panic!("three seconds");
        };
        assert_eq!((first.sent(), second.sent(), third.sent()), (1, 0, 0));
        assert_eq!(first.answered(), Some(0.0));
        let p99 = first.p99().expect("something ended");
        assert!((millis(2_500)..millis(2_530)).contains(&p99), "{p99:?}");
        assert_eq!((second.answered(), second.p99()), (None, None));
    }

    #[test]
    fn what_comes_after_the_end_counts_in_the_last_second() {
        let mut series = Series::new(2);
        series.sent(millis(2_000));
        assert_eq!(series.summary(1..2).sent, 1);
        Series::new(0).sent(millis(1));
    }

    #[test]
    fn a_summary_accounts_for_every_request() {
        let mut series = Series::new(2);
        let outcomes = [200, 202, 400, 429, 503, 504, 502].map(Outcome::Status);
        for outcome in outcomes.into_iter().chain([Outcome::None]) {
            series.sent(millis(0));
            series.ended(millis(0), millis(10), outcome);
        }
        series.sent(millis(1_000));
        let all = series.total();
        assert_eq!((all.sent, all.ok), (9, 2));
        let refused = (
            all.bad_request,
            all.too_many,
            all.unavailable,
            all.gateway_timeout,
        );
        assert_eq!(refused, (1, 1, 1, 1));
        // 502, no answer, and the one that has not ended.
        assert_eq!(all.other, 3);
        assert_eq!(series.summary(0..1).sent, 8);
    }

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut series = Series::new(1);
        for took in 1..=100 {
            series.sent(millis(0));
            series.ended(millis(0), millis(took), Outcome::Status(200));
        }
        let near = |value: Duration, expected: u64| {
            let (low, high) = (millis(expected), millis(expected).mul_f64(1.01));
            assert!((low..=high).contains(&value), "{value:?}");
        };
        let all = series.total();
        near(all.p50, 50);
        near(all.p99, 99);
        near(all.max, 100);
    }
}
