use std::time::Duration;

use gw_core::ConfigError;

use crate::codel::Codel;
use crate::lane::{Hold, LaneConfig, Sample};
use crate::share::Share;

/// The shares of a lane, once checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    pub(crate) guaranteed: Share,
    pub(crate) cap: Share,
}

/// The most lanes of one bulkhead.
pub(crate) const MAX_LANES: usize = 64;

/// Shares are decimal fractions: together they may miss the whole by rounding errors.
const ROUNDING: f64 = 1e-9;

/// Checks each lane alone and all of them together; the shares are in the order of the lanes.
pub(crate) fn check(lanes: &[LaneConfig]) -> Result<Vec<Shares>, ConfigError> {
    if !(1..=MAX_LANES).contains(&lanes.len()) {
        return Err(ConfigError::new("lanes", "must be 1 to 64 lanes"));
    }
    let mut checked = Vec::with_capacity(lanes.len());
    let mut guaranteed = 0.0;
    for (place, lane) in lanes.iter().enumerate() {
        let shares = check_lane(lane)?;
        if lanes
            .iter()
            .take(place)
            .any(|other| other.name == lane.name)
        {
            return Err(of_lane(lane, "name", "must not be used twice"));
        }
        guaranteed += shares.guaranteed.get();
        checked.push(shares);
    }
    if guaranteed > 1.0 + ROUNDING {
        return Err(ConfigError::new(
            "lanes",
            "the guaranteed shares must be at most 1 together",
        ));
    }
    Ok(checked)
}

fn check_lane(lane: &LaneConfig) -> Result<Shares, ConfigError> {
    let wrong = |field, rule| Err(of_lane(lane, field, rule));
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
    if !(1..=64).contains(&lane.name().len()) || !lane.name().bytes().all(plain) {
        return wrong("name", "must be 1 to 64 characters out of A-Z a-z 0-9 _ -");
    }
    let Some(guaranteed) = Share::new(lane.guaranteed) else {
        return wrong("guaranteed", "must be a number from 0 to 1");
    };
    let Some(cap) = Share::new(lane.cap).filter(|cap| cap.get() > 0.0) else {
        return wrong("cap", "must be a number above 0 and at most 1");
    };
    if cap.is_below(guaranteed) {
        return wrong("cap", "must be at least the guaranteed share");
    }
    if lane.queue > LaneConfig::MAX_QUEUE {
        return wrong("queue", "must be at most 1000000 requests");
    }
    if !within(lane.queue_timeout, LaneConfig::MAX_QUEUE_TIMEOUT) {
        return wrong("queue_timeout", "must be above zero and at most 1 hour");
    }
    if lane
        .max_hold
        .is_some_and(|limit| !within(limit, LaneConfig::MAX_MAX_HOLD))
    {
        return wrong("max_hold", "must be above zero and at most 24 hours");
    }
    if let Some(codel) = lane.codel {
        if lane.queue == 0 {
            return wrong("codel", "needs a queue");
        }
        if !within(codel.interval, Codel::MAX_INTERVAL) {
            return wrong("codel.interval", "must be above zero and at most 1 minute");
        }
        if !within(codel.target, codel.interval) {
            return wrong(
                "codel.target",
                "must be above zero and at most the interval",
            );
        }
        if codel.target >= lane.queue_timeout {
            // Nobody waits for so long, so the queue would never stand.
            return wrong("codel.target", "must be below the queue timeout");
        }
    }
    if lane.sample == Sample::Body && lane.hold == Hold::Head {
        return wrong(
            "sample",
            "must not be the body where the head ends the hold",
        );
    }
    if lane.threads > LaneConfig::MAX_THREADS {
        return wrong("threads", "must be at most 256");
    }
    if lane.nice > LaneConfig::MAX_NICE {
        return wrong("nice", "must be at most 19");
    }
    if lane.nice > 0 && lane.threads == 0 {
        return wrong("nice", "needs threads");
    }
    Ok(Shares { guaranteed, cap })
}

pub(crate) fn of_lane(lane: &LaneConfig, field: &str, rule: &'static str) -> ConfigError {
    ConfigError::new(format!("lanes.{}.{field}", lane.name()), rule)
}

fn within(duration: Duration, longest: Duration) -> bool {
    !duration.is_zero() && duration <= longest
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(lanes: &[LaneConfig]) -> String {
        check(lanes).unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_field_and_the_rule() {
        let lane = || LaneConfig::new("logs");
        for (lane, message) in [
            (
                lane().guaranteed(0.2).cap(0.1),
                "lanes.logs.cap: must be at least the guaranteed share",
            ),
            (
                lane().cap(0.0),
                "lanes.logs.cap: must be a number above 0 and at most 1",
            ),
            (
                lane().cap(f64::NAN),
                "lanes.logs.cap: must be a number above 0 and at most 1",
            ),
            (
                lane().guaranteed(1.5),
                "lanes.logs.guaranteed: must be a number from 0 to 1",
            ),
            (
                lane().queue(1_000_001),
                "lanes.logs.queue: must be at most 1000000 requests",
            ),
            (
                lane().queue_timeout(Duration::ZERO),
                "lanes.logs.queue_timeout: must be above zero and at most 1 hour",
            ),
            (
                lane().max_hold(Duration::MAX),
                "lanes.logs.max_hold: must be above zero and at most 24 hours",
            ),
            (
                lane().codel(Codel::new()),
                "lanes.logs.codel: needs a queue",
            ),
            (
                lane()
                    .queue(1)
                    .codel(Codel::new().target(Duration::from_secs(1))),
                "lanes.logs.codel.target: must be above zero and at most the interval",
            ),
            (
                lane().queue(1).codel(Codel::new().interval(Duration::MAX)),
                "lanes.logs.codel.interval: must be above zero and at most 1 minute",
            ),
            (
                lane()
                    .queue(1)
                    .queue_timeout(Duration::from_millis(5))
                    .codel(Codel::new()),
                "lanes.logs.codel.target: must be below the queue timeout",
            ),
            (
                lane().hold(Hold::Head).sample(Sample::Body),
                "lanes.logs.sample: must not be the body where the head ends the hold",
            ),
            (
                LaneConfig::new("a b"),
                "lanes.a b.name: must be 1 to 64 characters out of A-Z a-z 0-9 _ -",
            ),
        ] {
            assert_eq!(error(&[lane]), message);
        }
    }

    #[test]
    fn lanes_must_fit_together() {
        assert_eq!(error(&[]), "lanes: must be 1 to 64 lanes");
        let twice = [LaneConfig::new("a"), LaneConfig::new("a")];
        assert_eq!(error(&twice), "lanes.a.name: must not be used twice");
        let shares = |shares: &[f64]| -> Vec<_> {
            let lane =
                |(n, share): (usize, &f64)| LaneConfig::new(n.to_string()).guaranteed(*share);
            shares.iter().enumerate().map(lane).collect()
        };
        assert_eq!(
            error(&shares(&[0.5, 0.500_001])),
            "lanes: the guaranteed shares must be at most 1 together"
        );
        let third = 1.0 / 3.0;
        for fits in [
            // As floating-point numbers these make more than 1.
            &[0.2, 0.4, 0.3, 0.1][..],
            &[0.1; 10],
            // And as millionths these did.
            &[1.0 / 6.0; 6],
            &[2.0 * third, third / 2.0, third / 2.0],
        ] {
            assert!(check(&shares(fits)).is_ok(), "{fits:?}");
        }
        let computed = LaneConfig::new("a").guaranteed(0.1 + 0.2).cap(0.3);
        assert!(check(&[computed]).is_ok());
    }

    proptest! {
        #[test]
        fn parts_of_a_whole_fit_together(parts in prop::collection::vec(0..20u32, 1..=MAX_LANES)) {
            let whole = parts.iter().sum::<u32>().max(1);
            let lane = |(n, part): (usize, &u32)| {
                LaneConfig::new(n.to_string()).guaranteed(f64::from(*part) / f64::from(whole))
            };
            let lanes: Vec<_> = parts.iter().enumerate().map(lane).collect();
            prop_assert!(check(&lanes).is_ok());
        }
    }
}
