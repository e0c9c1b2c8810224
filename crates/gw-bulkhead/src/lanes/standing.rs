use tokio::time::Instant;

use crate::codel::Codel;

/// Whether a queue stands. Values in, a decision out.
///
/// It is asked at each change of the queue, so between two questions the queue is the same and only older.
#[derive(Debug)]
pub(super) struct Standing {
    rule: Codel,
    stands: bool,
    /// Since when all that was seen speaks against `stands`.
    against: Option<Instant>,
}

impl Standing {
    pub(super) const fn new(rule: Codel) -> Self {
        Self {
            rule,
            stands: false,
            against: None,
        }
    }

    pub(super) const fn rule(&self) -> Codel {
        self.rule
    }

    /// Whether the queue stands at `now`, given when the one came who has waited in it for the longest.
    ///
    /// Both ways it takes an interval without exception: under overload a short queue is empty for moments, and a burst
    /// is over before.
    pub(super) fn observe(&mut self, now: Instant, oldest: Option<Instant>) -> bool {
        let late =
            oldest.is_some_and(|came| now.saturating_duration_since(came) > self.rule.target);
        if late == self.stands {
            self.against = None;
        } else {
            let since = *self.against.get_or_insert(now);
            if now.saturating_duration_since(since) >= self.rule.interval {
                self.stands = late;
                self.against = None;
            }
        }
        self.stands
    }

    /// What the last observation said.
    pub(super) const fn stands(&self) -> bool {
        self.stands
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const fn millis(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_that_drains_does_not_stand() {
        let (start, mut queue) = (Instant::now(), Standing::new(Codel::new()));
        for step in 0..50 {
            assert!(!queue.observe(start + millis(step), Some(start)));
        }
        // Empty for a moment, and full again.
        assert!(!queue.observe(start + millis(50), None));
        for step in 51..150 {
            assert!(!queue.observe(start + millis(step), Some(start)));
        }
        assert!(queue.observe(start + millis(151), Some(start)));
    }

    #[test]
    fn it_takes_an_interval_to_stand_no_longer() {
        let (start, mut queue) = (Instant::now(), Standing::new(Codel::new()));
        for step in [0, 100] {
            queue.observe(start + millis(10 + step), Some(start));
        }
        assert!(queue.stands());
        assert!(queue.observe(start + millis(120), None));
        assert!(queue.observe(start + millis(130), Some(start)));
        assert!(queue.observe(start + millis(140), None));
        assert!(queue.observe(start + millis(239), None));
        assert!(!queue.observe(start + millis(240), None));
    }

    #[test]
    fn a_queue_that_nobody_has_used_for_long_is_new() {
        // Story: nobody asks while nobody waits. The first burst after a quiet hour was treated as the last overload.
        let (start, mut queue) = (Instant::now(), Standing::new(Codel::new()));
        for step in [0, 100] {
            queue.observe(start + millis(10 + step), Some(start));
        }
        queue.observe(start + millis(120), None);
        assert!(!queue.observe(start + Duration::from_secs(3600), None));
    }

    proptest! {
        /// Against the definition, computed from the whole history.
        #[test]
        fn agrees_with_the_definition(steps in prop::collection::vec((0..40u64, prop::option::of(0..20u64)), 1..80)) {
            let (start, mut queue) = (Instant::now(), Standing::new(Codel::new()));
            let mut now = start + millis(100);
            let mut history: Vec<(Instant, bool)> = Vec::new();
            let mut stands = false;
            for (pause, age) in steps {
                now += millis(pause);
                let oldest = age.map(|age| now - millis(age));
                history.push((now, age.is_some_and(|age| age > 5)));
                // How far back all that was seen is the opposite of what holds.
                let against = history.iter().rev().take_while(|(_, late)| *late != stands).last();
                if against.is_some_and(|(since, _)| now - *since >= millis(100)) {
                    stands = !stands;
                    history.clear();
                }
                prop_assert_eq!(queue.observe(now, oldest), stands);
            }
        }
    }
}
