//! How often people are told that the store does not answer: a count and a time in; whether to say it out.

use std::time::Duration;

use tokio::time::Instant;

/// One that comes and goes is told of once a minute, with how often it went.
#[derive(Debug, Default)]
pub(super) struct Warnings {
    last: Option<Instant>,
    unsaid: u64,
}

impl Warnings {
    /// The least time between two of them.
    const PAUSE: Duration = Duration::from_secs(60);

    /// The store is not asked any more.
    pub(super) const fn opened(&mut self) {
        self.unsaid += 1;
    }

    /// How often that has happened since it was said last, if it is to be said now. To be asked as long as the store does not
    /// answer, or an outage that begins within the pause would pass without a word.
    pub(super) fn due(&mut self, now: Instant) -> Option<u64> {
        let is_quiet = self.last.is_some_and(|last| now - last < Self::PAUSE);
        if self.unsaid == 0 || is_quiet {
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.unsaid))
    }

    /// Whether people know that it went, so that they are to know that it is back.
    pub(super) const fn is_said(&self) -> bool {
        self.unsaid == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: a store that came and went wrote a warning each time, thousands an hour.
    #[tokio::test(start_paused = true)]
    async fn one_a_minute_says_how_many() {
        let (mut warnings, now) = (Warnings::default(), Instant::now());
        assert_eq!(warnings.due(now), None);
        warnings.opened();
        assert_eq!(warnings.due(now), Some(1));
        assert!(warnings.is_said());
        for _ in 0..2 {
            warnings.opened();
            assert_eq!(warnings.due(now + Duration::from_secs(59)), None);
            assert!(!warnings.is_said());
        }
        // It is still away.
        let later = now + Duration::from_secs(60);
        assert_eq!(warnings.due(later), Some(2));
        assert_eq!(warnings.due(later + Warnings::PAUSE), None);
    }
}
