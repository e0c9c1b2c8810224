//! `breaker` and `eject`: who is still asked.

use std::time::Duration;

use gw_breaker::outlier::{OutlierConfig, Outliers};
use gw_breaker::{
    BreakerConfig, BreakerLayer, ContentClassifier, Fail, HalfOpen, LatencyFrom, OpenTime, Single,
    Window,
};

use super::super::Fault;
use crate::config::table;

/// The breaker in front of an upstream: its refusals are errors, which the answer stage renders.
pub(super) type UpstreamBreaker = BreakerLayer<Single, ContentClassifier, Fail>;

pub(super) fn breaker(name: &str, written: &table::Breaker) -> Result<UpstreamBreaker, Fault> {
    let config = BreakerConfig::new()
        .consecutive_failures(written.consecutive.get())
        .window(Window::Time(written.window))
        .min_calls(written.min_calls.get())
        .failure_rate(written.failure_rate.get())
        .slow_rate(written.slow_rate.get(), written.slow_over)
        .open_time(OpenTime::exponential(written.open, written.open_max))
        .half_open(half_open(written));
    let layer = BreakerLayer::builder(name)
        .config(config)
        .mode(written.mode)
        .build()
        .map_err(|error| {
            let key = match error.field() {
                "consecutive_failures" => "consecutive",
                "open_time.shortest" => "open",
                "open_time.longest" => "open_max",
                "half_open.probes" => "probes",
                same => same,
            };
            Fault::new(super::at(name).key("breaker").below(key), error.rule())
        })?;
    // Neither a slow client nor the gateway's own queue is a slow upstream.
    let layer = layer.latency_from(LatencyFrom::Sent);
    Ok(layer.on_reject(Fail))
}

fn half_open(written: &table::Breaker) -> HalfOpen {
    // More than it takes is refused where the layer is built.
    let probes = u8::try_from(written.probes.get()).unwrap_or(u8::MAX);
    // An answer that is not slow is in time for the first probe too, and for the next one after a success.
    HalfOpen::probes(probes).max_wait(written.slow_over.max(PROBE_WAIT))
}

const PROBE_WAIT: Duration = Duration::from_secs(10);

pub(super) fn outliers(name: &str, written: &table::Eject) -> Result<Outliers, Fault> {
    let usual = OutlierConfig::new();
    let config = usual
        .consecutive(written.consecutive.get())
        .base(written.base)
        // The longest is not in the file. One that would be shorter than the first is none.
        .max_ejection(written.base.max(LONGEST_EJECTION))
        .max_percent(written.max_percent.get().into())
        .panic_below(written.panic_below.get());
    let outliers = Outliers::new(name, &config).map_err(|error| {
        let key = super::at(name).key("eject").below(error.field());
        Fault::new(key, error.rule())
    })?;
    outliers.set_mode(written.mode);
    Ok(outliers)
}

const LONGEST_EJECTION: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: a breaker whose calls may take a minute waited ten seconds for its probes, and never closed.
    #[test]
    fn a_probe_may_take_as_long_as_a_call_that_is_not_slow() {
        for (slow_over, max_wait) in [(2, 10), (60, 60)] {
            let written = table::Breaker {
                slow_over: Duration::from_secs(slow_over),
                ..table::Breaker::default()
            };
            let expected = HalfOpen::probes(1).max_wait(Duration::from_secs(max_wait));
            assert_eq!(half_open(&written), expected);
        }
    }
}
