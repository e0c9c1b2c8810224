mod recovery;

use std::time::Duration;

use gw_core::ConfigError;

pub use self::recovery::{HalfOpen, Jitter, OpenTime};
use crate::word::MOST_PROBES;

/// Where an answer is judged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JudgeAt {
    /// At its head. What the head does not tell, such as the status of a gRPC call with an answer, is success.
    Head,
    /// At its end, unless the head is bad already: a body that breaks off is a failure. A stream with a good head
    /// ends a row of failures when it has gone on for a second. The default.
    #[default]
    End,
}

/// From when on a call takes time, where slow calls matter.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LatencyFrom {
    /// From the call on. What the client takes to send its request is part of it, and what the service inside waits for by
    /// itself, such as a place in its pool. The default: it needs nobody's help, and allocates nothing.
    #[default]
    Call,
    /// From when the request was sent whole, or from when it went out if it has no body. A wait for the client or in the
    /// gateway's own queue is no latency, and whoever leaves then, or has its deadline pass, leaves nothing behind. Nor is a probe
    /// late that waits so, see [`HalfOpen::max_wait`].
    ///
    /// The service inside says when that is, by the [`Awaited`](gw_core::awaited::Awaited) in the request's extensions, which
    /// is allocated for each call. The upstreams of gw-pipeline say it; in front of any other service
    /// [`UploadLayer`](crate::upload::UploadLayer) says it for the body. If nobody does, it is as [`LatencyFrom::Call`]. Of
    /// two breakers around each other both are told; where nobody tells them, both measure from the inner one's call.
    Sent,
}

/// What a throttled call (429, RESOURCE_EXHAUSTED) is for the failure rate. It never counts for consecutive failures, and
/// always fails a probe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Throttling {
    /// A call that has not failed. The default: the upstream works, and asks for less.
    #[default]
    Counted,
    /// A call that has failed.
    Failure,
    /// No call.
    Ignored,
}

/// Over which calls rates are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// The last so many calls: 1 to 65,536. Each takes 8 bytes, and the oldest leaves when a new one comes.
    Calls(u32),
    /// The calls of the last while: 10 ms to 10 minutes, in ten parts of equal length, of which the oldest leaves as a
    /// whole. Each call asks the clock once more than with [`Window::Calls`]. A part counts up to 8 million calls.
    Time(Duration),
}

/// When a breaker opens, for how long, and how it comes back.
///
/// Three policies can open it, and any of them is enough: so many failures in a row, the share of failures, and the share
/// of slow calls; the latter two over one window and from a least number of calls on. Thresholds are reached, not passed:
/// at 50 % one failure of two calls opens. A rate is looked at when a call fails or is slow, so a success never opens.
///
/// What is set can be read, as from [`BreakerHandle::config`](crate::BreakerHandle::config).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_breaker::{BreakerConfig, HalfOpen, OpenTime, Window};
///
/// let config = BreakerConfig::new()
///     .consecutive_failures(7)
///     .window(Window::Time(Duration::from_secs(10)))
///     .min_calls(50)
///     .failure_rate(0.4)
///     .slow_rate(0.8, Duration::from_millis(800))
///     .open_time(OpenTime::exponential(Duration::from_secs(2), Duration::from_secs(60)))
///     .half_open(HalfOpen::probes(2).successes(4))
///     .ramp(Duration::from_secs(30));
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct BreakerConfig {
    /// How many failures in a row open it, if that does.
    pub consecutive_failures: Option<u32>,
    /// Over which calls rates are taken.
    pub window: Window,
    /// From how many calls in the window on a rate means something.
    pub min_calls: u32,
    /// Which share of failed calls opens it, if that does.
    pub failure_rate: Option<f64>,
    /// Which share of slow calls opens it, if that does, and from when on a call is slow.
    pub slow_rate: Option<(f64, Duration)>,
    /// What a throttled call is for the failure rate.
    pub throttling: Throttling,
    /// For how long it stays open.
    pub open_time: OpenTime,
    /// How it probes.
    pub half_open: HalfOpen,
    /// For how long after closing only a share passes.
    pub ramp: Duration,
    /// The share that passes at first.
    pub ramp_from: f64,
}

impl BreakerConfig {
    /// Opens after 5 failures in a row, or when half of the last 100 calls failed, of which there are 20 at least; the
    /// open time is 5 s to 5 minutes, and after closing it lets more and more pass for 10 s.
    pub const fn new() -> Self {
        Self {
            consecutive_failures: Some(5),
            window: Window::Calls(100),
            min_calls: 20,
            failure_rate: Some(0.5),
            slow_rate: None,
            throttling: Throttling::Counted,
            open_time: OpenTime::exponential(Duration::from_secs(5), Duration::from_secs(300)),
            half_open: HalfOpen::probes(1),
            ramp: Duration::from_secs(10),
            ramp_from: 0.1,
        }
    }

    /// Without any policy: nothing opens it until one is added.
    pub const fn without_policies() -> Self {
        let mut config = Self::new();
        config.consecutive_failures = None;
        config.failure_rate = None;
        config
    }

    /// Opens after so many failures in a row, 1 to a million. A call that is ignored or throttled is not in the row.
    #[must_use]
    pub const fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive_failures = Some(failures);
        self
    }

    /// Over which calls rates are taken.
    #[must_use]
    pub const fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// From how many calls in the window on a rate means something: 1 to a million, and not more than a [`Window::Calls`]
    /// holds.
    #[must_use]
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// Opens when this share of the calls in the window has failed: above 0, and 1 at most. Kept in millionths.
    #[must_use]
    pub const fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Opens when this share of the calls in the window took `slow` or longer until the head of their answer; a probe
    /// that does so fails. The share is above 0, and 1 at most, and kept in millionths; `slow` is above 0, and 7 days at most.
    /// Then each call asks the clock twice more.
    #[must_use]
    pub const fn slow_rate(mut self, rate: f64, slow: Duration) -> Self {
        self.slow_rate = Some((rate, slow));
        self
    }

    /// What a throttled call is for the failure rate.
    #[must_use]
    pub const fn throttling(mut self, throttling: Throttling) -> Self {
        self.throttling = throttling;
        self
    }

    /// For how long it stays open.
    #[must_use]
    pub const fn open_time(mut self, open_time: OpenTime) -> Self {
        self.open_time = open_time;
        self
    }

    /// How it probes.
    #[must_use]
    pub const fn half_open(mut self, half_open: HalfOpen) -> Self {
        self.half_open = half_open;
        self
    }

    /// For how long after closing only a share passes, which grows evenly to all: 7 days at most. With zero all pass at once.
    #[must_use]
    pub const fn ramp(mut self, ramp: Duration) -> Self {
        self.ramp = ramp;
        self
    }

    /// The share that passes at first, above 0 and 1 at most; a tenth unless it is said otherwise. Kept in millionths.
    #[must_use]
    pub const fn ramp_from(mut self, share: f64) -> Self {
        self.ramp_from = share;
        self
    }

    /// Whether a breaker can be built with it.
    ///
    /// # Errors
    ///
    /// The field that breaks a rule. The setters have the rules, as do [`Window`], [`OpenTime`] and [`HalfOpen`].
    pub fn check(&self) -> Result<(), ConfigError> {
        let rule = |holds: bool, field, rule| match holds {
            true => Ok(()),
            false => Err(ConfigError::new(field, rule)),
        };
        let share = |share: f64| share > 0.0 && share <= 1.0 && millionths(share) > 0;
        let time = |time: Duration| time >= MILLISECOND && time <= MAX_TIME;
        const SHARE: &str = "must be above 0, a millionth at least, and 1 at most";
        const TIME: &str = "must be 1 ms to 7 days";
        let in_a_row = self.consecutive_failures.unwrap_or(1);
        rule(
            (1..=1_000_000).contains(&in_a_row),
            "consecutive_failures",
            "must be 1 to 1,000,000",
        )?;
        match self.window {
            Window::Calls(calls) => {
                rule(
                    (1..=65_536).contains(&calls),
                    "window",
                    "must be 1 to 65,536 calls",
                )?;
                rule(
                    self.min_calls <= calls,
                    "min_calls",
                    "must not exceed the window",
                )?;
            }
            Window::Time(time) => {
                let holds = time >= Duration::from_millis(10) && time <= Duration::from_secs(600);
                rule(holds, "window", "must be 10 ms to 10 minutes")?;
            }
        }
        rule(
            (1..=1_000_000).contains(&self.min_calls),
            "min_calls",
            "must be 1 to 1,000,000",
        )?;
        rule(self.failure_rate.is_none_or(share), "failure_rate", SHARE)?;
        if let Some((rate, slow)) = self.slow_rate {
            rule(share(rate), "slow_rate", SHARE)?;
            rule(
                slow > Duration::ZERO && slow <= MAX_TIME,
                "slow_rate",
                "must have a time above 0 and up to 7 days",
            )?;
        }
        let open = &self.open_time;
        rule(time(open.shortest), "open_time.shortest", TIME)?;
        rule(time(open.longest), "open_time.longest", TIME)?;
        rule(
            open.shortest <= open.longest,
            "open_time.longest",
            "must not be below the shortest",
        )?;
        rule(
            open.retry_after_cap <= Duration::from_secs(65_535),
            "open_time.retry_after_cap",
            "must be 65,535 s at most",
        )?;
        rule(
            open.forget_after.is_none_or(time),
            "open_time.forget_after",
            TIME,
        )?;
        let half = &self.half_open;
        rule(
            (1..=MOST_PROBES).contains(&half.probes),
            "half_open.probes",
            "must be 1 to 31",
        )?;
        rule(
            (1..=MOST_PROBES).contains(&half.successes),
            "half_open.successes",
            "must be 1 to 31",
        )?;
        rule(time(half.max_wait), "half_open.max_wait", TIME)?;
        rule(self.ramp <= MAX_TIME, "ramp", "must be 7 days at most")?;
        rule(share(self.ramp_from), "ramp_from", SHARE)
    }
}

const MILLISECOND: Duration = Duration::from_millis(1);
const MAX_TIME: Duration = Duration::from_secs(7 * 24 * 3600);

impl Default for BreakerConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// A share in millionths. It is within 0 to 1: see [`BreakerConfig::check`].
pub(crate) fn millionths(share: f64) -> u32 {
    (share * 1e6).round() as u32
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn bad_configuration_is_named() {
        const NEW: BreakerConfig = BreakerConfig::new();
        let seconds = Duration::from_secs;
        assert_eq!(NEW.check(), Ok(()));
        assert_eq!(BreakerConfig::without_policies().check(), Ok(()));
        for (config, field) in [
            (NEW.consecutive_failures(0), "consecutive_failures"),
            (NEW.window(Window::Calls(0)), "window"),
            (NEW.window(Window::Calls(65_537)), "window"),
            (NEW.window(Window::Calls(19)), "min_calls"),
            (NEW.window(Window::Time(Duration::from_millis(9))), "window"),
            (NEW.window(Window::Time(seconds(601))), "window"),
            (NEW.min_calls(0), "min_calls"),
            (NEW.min_calls(101), "min_calls"),
            (NEW.failure_rate(0.0), "failure_rate"),
            (NEW.failure_rate(1e-9), "failure_rate"),
            (NEW.failure_rate(-0.1), "failure_rate"),
            (NEW.failure_rate(1.000_001), "failure_rate"),
            (NEW.failure_rate(f64::NAN), "failure_rate"),
            (NEW.failure_rate(f64::INFINITY), "failure_rate"),
            (NEW.slow_rate(0.0, seconds(1)), "slow_rate"),
            (NEW.slow_rate(0.5, Duration::ZERO), "slow_rate"),
            (
                NEW.open_time(OpenTime::exponential(Duration::ZERO, seconds(1))),
                "open_time.shortest",
            ),
            (
                NEW.open_time(OpenTime::exponential(seconds(2), seconds(1))),
                "open_time.longest",
            ),
            (
                NEW.open_time(OpenTime::exponential(seconds(2), Duration::MAX)),
                "open_time.longest",
            ),
            (
                NEW.open_time(OpenTime::default().retry_after_cap(seconds(65_536))),
                "open_time.retry_after_cap",
            ),
            (
                NEW.open_time(OpenTime::default().forget_after(Duration::ZERO)),
                "open_time.forget_after",
            ),
            (NEW.half_open(HalfOpen::probes(0)), "half_open.probes"),
            (NEW.half_open(HalfOpen::probes(32)), "half_open.probes"),
            (
                NEW.half_open(HalfOpen::default().successes(0)),
                "half_open.successes",
            ),
            (
                NEW.half_open(HalfOpen::default().max_wait(Duration::ZERO)),
                "half_open.max_wait",
            ),
            (NEW.ramp(Duration::MAX), "ramp"),
            (NEW.ramp_from(0.0), "ramp_from"),
        ] {
            let error = config.check().unwrap_err();
            assert_eq!(error.field(), field);
            assert!(error.to_string().starts_with(field));
        }
    }
}
