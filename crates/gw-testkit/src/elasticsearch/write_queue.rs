//! The queue of a cluster that indexes so many documents a second, as a pure calculation.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug)]
pub(super) struct WriteQueue {
    documents: u32,
    per_second: u32,
    /// When all that was taken so far is served.
    idle_at: Instant,
}

impl WriteQueue {
    pub(super) fn new(documents: u32, per_second: u32, now: Instant) -> Self {
        Self {
            documents,
            per_second,
            idle_at: now,
        }
    }

    /// Offers so many documents. Returns how many of them find room, and how long it takes until they are served.
    pub(super) fn offer(&mut self, documents: usize, now: Instant) -> (usize, Duration) {
        self.idle_at = self.idle_at.max(now);
        let waiting = (self.idle_at - now).as_secs_f64() * f64::from(self.per_second);
        let room = f64::from(self.documents) - waiting;
        // Casts from a float saturate: no room is 0.
        let taken = documents.min(room.round() as usize);
        self.idle_at += Duration::from_secs_f64(taken as f64 / f64::from(self.per_second));
        (taken, self.idle_at - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn takes_what_fits_and_drains_at_its_rate() {
        let start = Instant::now();
        let mut queue = WriteQueue::new(100, 50, start);
        assert_eq!(queue.offer(80, start), (80, Duration::from_millis(1_600)));
        assert_eq!(queue.offer(80, start), (20, Duration::from_secs(2)));
        assert_eq!(queue.offer(1, start), (0, Duration::from_secs(2)));
        let later = start + Duration::from_secs(1);
        assert_eq!(queue.offer(80, later), (50, Duration::from_secs(2)));
        let idle = start + Duration::from_secs(10);
        assert_eq!(queue.offer(10, idle), (10, Duration::from_millis(200)));
    }
}
