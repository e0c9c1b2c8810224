//! How fast the queue drains, and how long it takes until there is room.

use std::time::Duration;

use tokio::time::Instant;

/// The shortest and the longest time that a client is told to wait.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(300);
/// What a client is told before anything was delivered.
pub(super) const UNKNOWN: Duration = Duration::from_secs(30);
/// What is counted together.
const TICK: Duration = Duration::from_secs(1);
/// The time constant of the average, in seconds.
const WINDOW: f64 = 10.0;

/// An average of the bytes that are delivered in a second; what is long ago counts less. For those who come
/// back later the time in which there is nothing to deliver does not pass.
#[derive(Debug)]
pub(super) struct DrainRate {
    /// Bytes a second up to `since`; none before the first tick.
    rate: Option<f64>,
    since: Instant,
    bytes: u64,
    /// Since when there is nothing to deliver.
    empty: Option<Instant>,
}

impl DrainRate {
    pub(super) const fn new(now: Instant) -> Self {
        Self {
            rate: None,
            since: now,
            bytes: 0,
            empty: Some(now),
        }
    }

    /// Nothing is left to deliver.
    pub(super) const fn emptied(&mut self, now: Instant) {
        self.empty = Some(now);
    }

    /// There is something to deliver again.
    pub(super) fn filled(&mut self, now: Instant) {
        if let Some(empty) = self.empty.take() {
            self.since += now.saturating_duration_since(empty);
        }
    }

    /// So many bytes were delivered.
    pub(super) fn delivered(&mut self, bytes: u64, now: Instant) {
        self.bytes = self.bytes.saturating_add(bytes);
        if now.saturating_duration_since(self.since) >= TICK {
            self.rate = Some(self.at(now));
            self.since = now;
            self.bytes = 0;
        }
    }

    /// Bytes a second.
    pub(super) fn at(&self, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.since);
        let current = self.bytes as f64 / elapsed.max(TICK).as_secs_f64();
        match self.rate {
            None => current,
            Some(rate) => current + (rate - current) * (-elapsed.as_secs_f64() / WINDOW).exp(),
        }
    }

    /// How long it takes until so many bytes are free.
    pub(super) fn time_to_free(&self, bytes: u64, now: Instant) -> Duration {
        if self.rate.is_none() && self.bytes == 0 {
            return UNKNOWN;
        }
        let busy = self.empty.map_or(now, |empty| empty.min(now));
        wait(bytes as f64, self.at(busy))
    }
}

/// What a client is told when so many bytes are in its way and so many are delivered in a second.
pub(super) fn wait(bytes: f64, rate: f64) -> Duration {
    Duration::try_from_secs_f64(bytes / rate)
        .unwrap_or(LONGEST)
        .clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn the_rate_follows_what_is_delivered_and_fades() {
        let start = Instant::now();
        let mut drain = DrainRate::new(start);
        drain.filled(start);
        assert_eq!(drain.time_to_free(1, start), UNKNOWN);
        for n in 1..=100 {
            drain.delivered(1_000, start + seconds(n));
        }
        let now = start + seconds(100);
        assert!((drain.at(now) - 1_000.0).abs() < 1.0, "{}", drain.at(now));
        assert_eq!(drain.time_to_free(5_000, now).as_secs(), 5);
        let later = now + seconds(10);
        assert!((drain.at(later) - 367.0).abs() < 2.0, "{}", drain.at(later));
        assert_eq!(drain.time_to_free(5_000, now + seconds(3600)), LONGEST);
    }

    #[test]
    fn waiting_times_stay_within_their_bounds() {
        let start = Instant::now();
        let mut drain = DrainRate::new(start);
        drain.filled(start);
        drain.delivered(1_000_000, start);
        assert_eq!(drain.time_to_free(0, start), SHORTEST);
        assert_eq!(drain.time_to_free(10, start), SHORTEST);
        assert_eq!(drain.time_to_free(u64::MAX, start), LONGEST);
        let mut idle = DrainRate::new(start);
        idle.filled(start);
        idle.delivered(0, start + seconds(5));
        assert_eq!(idle.time_to_free(1, start), LONGEST);
    }
}
