//! Whether the store is worth asking: a state, a time and outcomes in; yes or no out.

use std::time::Duration;

use tokio::time::Instant;

/// Stops asking a store that fails, and lets one question through now and then to see whether it is back.
#[derive(Debug)]
pub(super) struct Breaker {
    /// It opens when so many of the last [`Self::REMEMBERED`] questions have failed.
    failures: u32,
    probe_after: Duration,
    /// How long nobody else asks after a probe has begun.
    probe_time: Duration,
    state: State,
    /// Counts openings and probes that were given up, so that what was asked before one says nothing after it.
    era: u64,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// The last outcomes as bits, the latest lowest; a failure is 1.
    Closed { outcomes: u32 },
    /// Nothing is asked before `until`.
    Open { until: Instant },
    /// One question is under way. Whoever asks it may be blocked, or gone without a word: at `until`, the next one may.
    Probing { until: Instant },
}

/// Leave to ask one question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leave {
    era: u64,
    probe: bool,
}

impl Leave {
    /// Whether it is the only one until its outcome is known.
    pub(super) const fn is_probe(self) -> bool {
        self.probe
    }
}

/// What an outcome changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened,
    Closed,
}

impl Breaker {
    /// How many outcomes count: a store that fails now and then for long is worth asking.
    pub(super) const REMEMBERED: u32 = u32::BITS;

    /// A question takes `timeout` at the most. A probe that has come to nothing `probe_after` later is given up.
    pub(super) const fn new(failures: u32, timeout: Duration, probe_after: Duration) -> Self {
        Self {
            failures,
            probe_after,
            probe_time: timeout.saturating_add(probe_after),
            state: State::Closed { outcomes: 0 },
            era: 0,
        }
    }

    /// Leave to ask, if it is worth it.
    pub(super) fn leave(&mut self, now: Instant) -> Option<Leave> {
        let probe = match self.state {
            State::Closed { .. } => false,
            State::Open { until } if now >= until => {
                self.probe(now);
                true
            }
            State::Probing { until } if now >= until => {
                self.era += 1;
                self.probe(now);
                true
            }
            State::Open { .. } | State::Probing { .. } => return None,
        };
        Some(Leave {
            era: self.era,
            probe,
        })
    }

    /// The store answered.
    pub(super) fn answered(&mut self, leave: Leave) -> Change {
        let is_probe = self.is_probe(leave);
        match &mut self.state {
            State::Closed { outcomes } => {
                *outcomes <<= 1;
                Change::None
            }
            State::Probing { .. } if is_probe => {
                self.state = State::Closed { outcomes: 0 };
                Change::Closed
            }
            State::Probing { .. } | State::Open { .. } => Change::None,
        }
    }

    /// It did not.
    pub(super) fn failed(&mut self, leave: Leave, now: Instant) -> Change {
        let is_probe = self.is_probe(leave);
        match &mut self.state {
            State::Closed { outcomes } if leave.era == self.era => {
                *outcomes = *outcomes << 1 | 1;
                if outcomes.count_ones() < self.failures {
                    return Change::None;
                }
            }
            State::Probing { .. } if is_probe => {}
            State::Closed { .. } | State::Probing { .. } | State::Open { .. } => {
                return Change::None;
            }
        }
        let opened = match self.state {
            State::Closed { .. } => Change::Opened,
            State::Open { .. } | State::Probing { .. } => Change::None,
        };
        self.open(now + self.probe_after);
        opened
    }

    /// Nobody waits for the outcome any more. If it was the probe, the next question is.
    pub(super) fn abandoned(&mut self, leave: Leave, now: Instant) {
        if self.is_probe(leave) && matches!(self.state, State::Probing { .. }) {
            self.open(now);
        }
    }

    pub(super) const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed { .. })
    }

    /// Whether waiting is worth it: soon it is known how the store is, or if whoever asks is blocked, somebody else may.
    pub(super) fn is_probing(&self, now: Instant) -> bool {
        matches!(self.state, State::Probing { until } if now < until)
    }

    fn probe(&mut self, now: Instant) {
        let until = now + self.probe_time;
        self.state = State::Probing { until };
    }

    fn open(&mut self, until: Instant) {
        self.state = State::Open { until };
        self.era += 1;
    }

    const fn is_probe(&self, leave: Leave) -> bool {
        leave.probe && leave.era == self.era
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_millis(5);

    fn opened(now: Instant) -> Breaker {
        let mut breaker = Breaker::new(3, TIMEOUT, PAUSE);
        for change in [Change::None, Change::None, Change::Opened] {
            let leave = breaker.leave(now).unwrap();
            assert_eq!(breaker.failed(leave, now), change);
        }
        breaker
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_failures_and_then_nothing_until_a_probe() {
        let now = Instant::now();
        let mut breaker = opened(now);
        assert_eq!(breaker.leave(now), None);
        let almost = now + PAUSE - Duration::from_nanos(1);
        assert_eq!(breaker.leave(almost), None);

        let probe = breaker.leave(now + PAUSE).unwrap();
        assert_eq!(breaker.leave(now + PAUSE), None, "one probe at a time");
        assert_eq!(breaker.failed(probe, now + PAUSE), Change::None);
        assert_eq!(breaker.leave(now + PAUSE), None);

        let probe = breaker.leave(now + 2 * PAUSE).unwrap();
        assert_eq!(breaker.answered(probe), Change::Closed);
        assert!(breaker.is_closed() && breaker.leave(now + 2 * PAUSE).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn failures_among_many_answers_are_forgotten() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, TIMEOUT, PAUSE);
        for _ in 0..100 {
            let leave = breaker.leave(now).unwrap();
            assert_eq!(breaker.failed(leave, now), Change::None);
            for _ in 0..Breaker::REMEMBERED / 2 {
                assert_eq!(breaker.answered(leave), Change::None);
            }
        }
        // One in two is too many, though no two fail in a row.
        let leave = breaker.leave(now).unwrap();
        let changes = [(); 4].map(|()| {
            breaker.answered(leave);
            breaker.failed(leave, now)
        });
        assert!(changes.contains(&Change::Opened), "{changes:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_nobody_waits_for_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let lost = breaker.leave(now + PAUSE).unwrap();
        breaker.abandoned(lost, now + PAUSE);
        let probe = breaker.leave(now + PAUSE).unwrap();
        // What the lost one says now comes too late.
        assert_eq!(breaker.answered(lost), Change::None);
        assert!(!breaker.is_closed());
        assert_eq!(breaker.answered(probe), Change::Closed);
    }

    /// Story: the thread of a probe was blocked, and Redis was not asked by anybody until it went on.
    #[tokio::test(start_paused = true)]
    async fn a_probe_of_which_nothing_is_heard_is_followed_by_another() {
        let now = Instant::now();
        let mut breaker = opened(now);
        let began = now + PAUSE;
        let silent = breaker.leave(began).unwrap();
        let over = began + TIMEOUT + PAUSE;
        assert_eq!(breaker.leave(over - Duration::from_nanos(1)), None);
        let probe = breaker.leave(over).unwrap();
        assert_eq!(breaker.leave(over), None, "one probe at a time");
        // What the silent one says now comes too late.
        assert_eq!(breaker.answered(silent), Change::None);
        assert_eq!(breaker.failed(silent, over), Change::None);
        breaker.abandoned(silent, over);
        assert_eq!(breaker.leave(over), None);
        assert_eq!(breaker.answered(probe), Change::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_asked_before_it_opened_says_nothing() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, TIMEOUT, PAUSE);
        let early = [(); 5].map(|()| breaker.leave(now).unwrap());
        let changes = early.map(|leave| breaker.failed(leave, now));
        let expected = [
            Change::None,
            Change::None,
            Change::Opened,
            Change::None,
            Change::None,
        ];
        assert_eq!(changes, expected);
        assert_eq!(breaker.answered(early[0]), Change::None);
        assert!(!breaker.is_closed());
    }
}
