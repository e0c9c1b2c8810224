use tokio::time::Instant;

use crate::codel::Codel;

/// Whether a queue stands. Values in, a decision out.
///
/// It is told of the queue just before each change and after it, so since the last time the same one was the oldest: what
/// was meanwhile is known to the moment, however long nobody asked.
#[derive(Debug)]
pub(super) struct Standing {
    rule: Codel,
    stands: bool,
    /// Since when all speaks against `stands`.
    against: Option<Instant>,
    /// Until when all is known.
    seen: Option<Instant>,
}

impl Standing {
    pub(super) const fn new(rule: Codel) -> Self {
        Self {
            rule,
            stands: false,
            against: None,
            seen: None,
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
        // Whoever asks looked at the clock before it had the line, and another one may have overtaken it.
        let now = self.seen.map_or(now, |seen| seen.max(now));
        let seen = self.seen.replace(now).unwrap_or(now);
        let late = oldest.map(|came| came + self.rule.target);
        if late.is_none_or(|late| seen < late) {
            self.was(false, seen, late.map_or(now, |late| late.min(now)));
        }
        if let Some(late) = late
            && late < now
        {
            self.was(true, seen.max(late), now);
        }
        self.stands
    }

    /// All the time from `since` to `until` somebody had been waiting for longer than the target, or nobody had.
    fn was(&mut self, late: bool, since: Instant, until: Instant) {
        if late == self.stands {
            self.against = None;
            return;
        }
        let against = *self.against.get_or_insert(since);
        if until.saturating_duration_since(against) >= self.rule.interval {
            self.stands = late;
            self.against = None;
        }
    }

    /// What the last observation said.
    pub(super) const fn stands(&self) -> bool {
        self.stands
    }

    /// When there is something to decide about one who waits since `came`, if nothing changes until then: when the queue
    /// begins to stand, or when this one has waited for too long in one that does.
    pub(super) fn next_look(&self, oldest: Instant, came: Instant) -> Instant {
        if self.stands {
            // Who came before the one who joined first was overtaken, and has to wait for that one to go.
            return came.max(oldest) + self.rule.longest_wait();
        }
        let late = self.against.unwrap_or(oldest + self.rule.target);
        late + self.rule.interval
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
        for (step, oldest) in [
            // Empty from 120 ms to 130 ms, and from 140 ms on.
            (120, Some(start)),
            (120, None),
            (130, None),
            (130, Some(start)),
            (140, Some(start)),
            (140, None),
        ] {
            assert!(queue.observe(start + millis(step), oldest));
        }
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

    #[test]
    fn what_was_while_nobody_looked_counts() {
        // Story: the interval began when somebody looked. A queue that nobody joined or left never stood, and one that
        // was looked at once a second stood a second late.
        let (start, mut queue) = (Instant::now(), Standing::new(Codel::new()));
        queue.observe(start, None);
        queue.observe(start, Some(start));
        assert_eq!(queue.next_look(start, start), start + millis(105));
        assert!(queue.observe(start + millis(105), Some(start)));
        // Story: who had come first and joined second looked at once, again and again, until the other one went.
        let overtaken = queue.next_look(start, start - millis(2));
        assert_eq!(overtaken, start + queue.rule().longest_wait());
        // For an interval nobody waits for long, and then somebody does for as long.
        queue.observe(start + millis(200), Some(start));
        queue.observe(start + millis(200), None);
        let came = start + millis(299);
        queue.observe(came, None);
        assert!(queue.observe(came, Some(came)));
        assert!(!queue.observe(came + millis(104), Some(came)));
        assert!(queue.observe(came + millis(105), Some(came)));
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Joins,
        OldestLeaves,
        NewestLeaves,
        Looks,
    }

    fn steps() -> impl Strategy<Value = Vec<(u64, Step)>> {
        let step = prop_oneof![
            3 => Just(Step::Joins),
            3 => Just(Step::OldestLeaves),
            1 => Just(Step::NewestLeaves),
            1 => Just(Step::Looks),
        ];
        let pause = prop_oneof![4 => 0..12u64, 1 => 0..150u64];
        prop::collection::vec((pause, step), 1..80)
    }

    proptest! {
        /// Against the definition, computed from each millisecond.
        #[test]
        fn agrees_with_the_definition(steps in steps()) {
            let (start, mut queue) = (Instant::now(), Standing::new(Codel::new()));
            let at = |n| start + millis(n);
            let (mut now, mut stands, mut against) = (0, false, 0);
            let mut waiting: Vec<u64> = Vec::new();
            for (pause, step) in steps {
                for moment in now..now + pause {
                    let late = waiting.first().is_some_and(|came| moment >= came + 5);
                    against = if late == stands { 0 } else { against + 1 };
                    if against == 100 {
                        (stands, against) = (late, 0);
                    }
                }
                now += pause;
                let oldest = |waiting: &[u64]| waiting.first().map(|came| at(*came));
                prop_assert_eq!(queue.observe(at(now), oldest(&waiting)), stands);
                match step {
                    Step::Joins => waiting.push(now),
                    Step::OldestLeaves if !waiting.is_empty() => _ = waiting.remove(0),
                    Step::NewestLeaves => _ = waiting.pop(),
                    Step::OldestLeaves | Step::Looks => {}
                }
                prop_assert_eq!(queue.observe(at(now), oldest(&waiting)), stands);
            }
        }
    }
}
