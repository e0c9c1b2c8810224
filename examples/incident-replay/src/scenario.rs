//! What is replayed: who sends how much, when, and what stands in the way. The numbers are small, so that two cores are
//! enough; the proportions are what matters.

use std::time::Duration;

/// Logins a second, from the first to the last second of a phase.
pub(crate) const LOGINS_PER_SECOND: f64 = 150.0;
/// People who log in.
pub(crate) const USERS: u16 = 50;
/// Devices that report telemetry.
pub(crate) const DEVICES: u16 = 40;
/// The small set of devices that begins to report much more than usual: the first ones.
pub(crate) const NOISY_DEVICES: u16 = 8;
/// Events a second of each device on a usual day.
pub(crate) const USUAL_EVENTS: f64 = 1.0;
/// Events a second of each noisy device during the flood.
pub(crate) const NOISY_EVENTS: f64 = 30.0;

/// Documents a second that the single search node can index: more than what comes on a usual day (40), less than what
/// comes in the flood (272).
pub(crate) const SINK_DOCUMENTS: u32 = 50;
/// Documents that wait at the search node before it rejects with 429: a good two seconds of work.
pub(crate) const SINK_QUEUE: u32 = 130;

/// Requests that either gateway works on at a time: the pool that all routes share, and the lanes' total.
pub(crate) const WORKERS: u32 = 32;
/// A request that has waited so long for one of them is answered 504 by the unprotected gateway.
pub(crate) const WORKER_WAIT: Duration = Duration::from_secs(2);
/// An upstream that has not answered for so long is given up by either gateway, with 504.
pub(crate) const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// After this time a client takes it that there will be no answer.
pub(crate) const CLIENT_PATIENCE: Duration = Duration::from_secs(10);

/// What a login takes in the auth service, however many there are: it checks a password hash, which is slow by design.
pub(crate) const LOGIN_MILLIS: std::ops::RangeInclusive<u64> = 20..=60;

/// Where the gateways and services listen for what.
pub(crate) const LOGIN_PATH: &str = "/api/auth/login";
/// The endpoint for logs.
pub(crate) const LOGS_PATH: &str = "/api/logs";

/// The parts of a phase, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timeline {
    /// Logins only: what they take when nothing else happens.
    pub(crate) idle: usize,
    /// A usual day: every device reports as always.
    pub(crate) usual: usize,
    /// Some devices report much more.
    pub(crate) flood: usize,
}

impl Timeline {
    /// The shortest phase, in seconds.
    pub(crate) const SHORTEST: usize = 4;

    /// Parts a phase of so many seconds.
    pub(crate) fn of(seconds: usize) -> Self {
        let seconds = seconds.max(Self::SHORTEST);
        let idle = (seconds / 4).max(1);
        let usual = (seconds / 8).max(1);
        Self {
            idle,
            usual,
            flood: seconds - idle - usual,
        }
    }

    /// The second in which the flood begins.
    pub(crate) const fn flood_begins(self) -> usize {
        self.idle + self.usual
    }

    /// All seconds.
    pub(crate) const fn seconds(self) -> usize {
        self.idle + self.usual + self.flood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_phase_add_up() {
        for seconds in [4, 5, 8, 14, 60] {
            let parts = Timeline::of(seconds);
            assert_eq!(parts.seconds(), seconds);
            assert!(parts.idle > 0 && parts.usual > 0 && parts.flood >= seconds / 2);
        }
        assert_eq!(Timeline::of(0), Timeline::of(Timeline::SHORTEST));
    }

    #[test]
    fn the_sink_bears_a_usual_day_and_not_the_flood() {
        let usual = f64::from(DEVICES) * USUAL_EVENTS;
        let quiet = f64::from(DEVICES - NOISY_DEVICES) * USUAL_EVENTS;
        let flood = quiet + f64::from(NOISY_DEVICES) * NOISY_EVENTS;
        assert!(usual < f64::from(SINK_DOCUMENTS) && f64::from(SINK_DOCUMENTS) < flood);
    }
}
