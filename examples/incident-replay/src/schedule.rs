//! The offered load: what happens when, drawn once from the seed and the same in every phase.
//!
//! The schedule is open: nothing in it waits for an answer, so a gateway that stalls does not lower the load on itself.

use std::time::Duration;

use fastrand::Rng;

use crate::scenario::{
    DEVICES, LOGINS_PER_SECOND, NOISY_DEVICES, NOISY_EVENTS, Timeline, USERS, USUAL_EVENTS,
};

/// One thing that happens at a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// Since the start of the phase.
    pub(crate) at: Duration,
    pub(crate) what: What,
}

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// This user logs in.
    Login(u16),
    /// This device has something to report.
    Event(u16),
}

/// All arrivals of a phase, in the order of their time.
#[derive(Debug, Clone)]
pub(crate) struct Schedule {
    arrivals: Vec<Arrival>,
}

impl Schedule {
    /// Draws a schedule: arrivals of each source are a Poisson process of their own.
    pub(crate) fn draw(seed: u64, timeline: Timeline) -> Self {
        let mut rng = Rng::with_seed(seed);
        let [usual, flood, end] = [timeline.idle, timeline.flood_begins(), timeline.seconds()]
            .map(|second| second as f64);
        let mut arrivals = Vec::new();
        poisson(&mut rng, LOGINS_PER_SECOND, 0.0, end, |rng, at| {
            let what = What::Login(rng.u16(..USERS));
            arrivals.push(Arrival { at, what });
        });
        for device in 0..DEVICES {
            let flooding = if device < NOISY_DEVICES {
                NOISY_EVENTS
            } else {
                USUAL_EVENTS
            };
            let mut report = |_: &mut Rng, at| {
                let what = What::Event(device);
                arrivals.push(Arrival { at, what });
            };
            poisson(&mut rng, USUAL_EVENTS, usual, flood, &mut report);
            poisson(&mut rng, flooding, flood, end, &mut report);
        }
        // Stable: what falls on one microsecond stays in the order in which it was drawn.
        arrivals.sort_by_key(|arrival| arrival.at);
        Self { arrivals }
    }

    /// The arrivals, first to last.
    pub(crate) fn arrivals(&self) -> &[Arrival] {
        &self.arrivals
    }

    /// The fingerprint of the whole schedule.
    #[cfg(test)]
    fn fingerprint(&self) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        self.arrivals
            .iter()
            .for_each(|arrival| fingerprint.add(*arrival));
        fingerprint
    }
}

/// Calls `happen` for each arrival of a Poisson process between two times, in seconds.
fn poisson(
    rng: &mut Rng,
    per_second: f64,
    from: f64,
    to: f64,
    mut happen: impl FnMut(&mut Rng, Duration),
) {
    let mut now = from;
    loop {
        // In (0, 1], so that the logarithm is finite.
        now -= (1.0 - rng.f64()).ln() / per_second;
        if now >= to {
            return;
        }
        happen(rng, Duration::from_micros((now * 1e6) as u64));
    }
}

/// A hash (FNV-1a) over arrivals, fed one by one by whoever offers them: two phases that print the same one have been
/// offered the same load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64);

impl Default for Fingerprint {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fingerprint {
    /// Takes the next arrival into account.
    pub(crate) fn add(&mut self, arrival: Arrival) {
        let (kind, who) = match arrival.what {
            What::Login(user) => (0, user),
            What::Event(device) => (1, device),
        };
        // Microseconds of a phase fit by far.
        let at = arrival.at.as_micros() as u64;
        let bytes = at
            .to_le_bytes()
            .into_iter()
            .chain([kind])
            .chain(who.to_le_bytes());
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMELINE: Timeline = Timeline {
        idle: 20,
        usual: 20,
        flood: 20,
    };

    #[test]
    fn a_seed_has_one_schedule() {
        let fingerprint = |seed| Schedule::draw(seed, TIMELINE).fingerprint();
        assert_eq!(fingerprint(7), fingerprint(7));
        assert_ne!(fingerprint(7), fingerprint(8));
        assert_eq!(fingerprint(7).to_string().len(), 16);
    }

    #[test]
    fn the_fingerprint_sees_time_kind_person_and_order() {
        let of = |arrivals: &[(u64, What)]| {
            let mut fingerprint = Fingerprint::default();
            for (at, what) in arrivals {
                let (at, what) = (Duration::from_micros(*at), *what);
                fingerprint.add(Arrival { at, what });
            }
            fingerprint
        };
        let different = [
            of(&[]),
            of(&[(1, What::Login(1))]),
            of(&[(2, What::Login(1))]),
            of(&[(1, What::Login(2))]),
            of(&[(1, What::Event(1))]),
            of(&[(1, What::Login(1)), (1, What::Event(1))]),
            of(&[(1, What::Event(1)), (1, What::Login(1))]),
        ];
        for (index, one) in different.iter().enumerate() {
            assert!(different.iter().skip(index + 1).all(|other| one != other));
        }
    }

    #[test]
    fn rates_are_those_of_the_scenario() {
        let schedule = Schedule::draw(1, TIMELINE);
        let count = |from: u64, to: u64, wanted: fn(What) -> bool| {
            let times = Duration::from_secs(from)..Duration::from_secs(to);
            let arrivals = schedule.arrivals().iter();
            arrivals
                .filter(|arrival| times.contains(&arrival.at) && wanted(arrival.what))
                .count() as f64
                / (to - from) as f64
        };
        // Within five standard deviations of a Poisson process.
        let near = |rate: f64, expected: f64| {
            assert!(
                (rate - expected).abs() < 5.0 * (expected / 20.0).sqrt(),
                "{rate} a second instead of {expected}"
            );
        };
        let event = |what| matches!(what, What::Event(_));
        let noisy = |what| matches!(what, What::Event(device) if device < NOISY_DEVICES);
        near(
            count(0, 20, |what| matches!(what, What::Login(_))),
            LOGINS_PER_SECOND,
        );
        assert!(count(0, 20, event) == 0.0, "no reports while idle");
        near(count(20, 40, event), f64::from(DEVICES) * USUAL_EVENTS);
        near(
            count(40, 60, noisy),
            f64::from(NOISY_DEVICES) * NOISY_EVENTS,
        );
    }

    #[test]
    fn arrivals_are_in_order_and_within_the_phase() {
        let schedule = Schedule::draw(3, TIMELINE);
        assert!(schedule.arrivals().is_sorted_by_key(|arrival| arrival.at));
        assert!(
            schedule
                .arrivals()
                .iter()
                .all(|arrival| arrival.at < Duration::from_secs(60))
        );
    }
}
