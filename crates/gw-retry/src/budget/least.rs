//! Retries that a budget allows for however few requests there are.

use std::time::Duration;

use crate::backoff::nanos;
use crate::sync::{AtomicU64, Ordering};

/// So many retries a second, and those of one second at once. As a bucket in GCRA's form: one word says when all of it will be
/// there again.
///
/// It is a least, and comes on top of nothing: retries that requests have paid for are counted as well.
#[derive(Debug)]
pub(super) struct Least {
    /// In nanoseconds of the budget's clock.
    full_at: AtomicU64,
    /// How long it takes for one retry to come back.
    interval: u64,
    /// The same for all of them.
    all: u64,
}

/// What one retry took of it: from when to when it moved that time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    from: u64,
    until: u64,
}

impl Least {
    /// None, if it is none.
    pub(super) fn new(per_second: u32) -> Option<Self> {
        if per_second == 0 {
            return None;
        }
        let second = nanos(Duration::from_secs(1));
        // One each nanosecond is as many as can be told apart.
        let per_second = u64::from(per_second).min(second);
        // Rounded up: never more than was said.
        let interval = second.div_ceil(per_second);
        Some(Self {
            full_at: AtomicU64::new(0),
            interval,
            all: interval * per_second,
        })
    }

    /// Takes a retry out, if there is one.
    pub(super) fn take(&self, now: u64) -> Option<Share> {
        self.change(now, |full_at, bound| (full_at <= bound).then_some(full_at))
    }

    /// Counts a retry that others have paid for. Where all is taken, it takes nothing.
    pub(super) fn count(&self, now: u64) -> Share {
        let share = self.change(now, |full_at, bound| Some(full_at.min(bound)));
        share.unwrap_or(Share::NOTHING)
    }

    fn change(&self, now: u64, to: impl Fn(u64, u64) -> Option<u64>) -> Option<Share> {
        let bound = now.saturating_add(self.all);
        let mut before = self.full_at.load(Ordering::Relaxed);
        loop {
            let from = before.max(now);
            // One that is counted late, at an earlier time, takes nothing from those of later.
            let until = to(from.saturating_add(self.interval), bound)?.max(from);
            // Relaxed: the word is all that decides, and nothing is published with it.
            match self.full_at.compare_exchange_weak(
                before,
                until,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return Some(Share { from, until }),
                Err(found) => before = found,
            }
        }
    }

    /// Gives back what a retry took, if it was the last one. Otherwise it comes back by itself, within a second: how much of it
    /// is missing still cannot be told any more, and to give back too much would let through too many.
    pub(super) fn give_back(&self, Share { from, until }: Share) {
        // If it fails, others have come since.
        let _ = self
            .full_at
            .compare_exchange(until, from, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// How many could be taken out.
    pub(super) fn available(&self, now: u64) -> u64 {
        let missing = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        self.all.saturating_sub(missing) / self.interval
    }

    /// How many a second.
    pub(super) const fn per_second(&self) -> u64 {
        self.all / self.interval
    }
}

impl Share {
    pub(super) const NOTHING: Self = Self { from: 0, until: 0 };
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn as_many_as_in_a_second_at_once_and_then_at_their_rate() {
        for per_second in [1, 3, 10, 1_000] {
            let least = Least::new(per_second).unwrap();
            let taken = (0..5_000).filter(|_| least.take(0).is_some()).count();
            assert_eq!(taken, per_second as usize);
            assert_eq!(least.take(least.interval - 1), None);
            assert!(least.take(least.interval).is_some());
            assert_eq!(
                least.available(2 * SECOND + least.interval),
                u64::from(per_second)
            );
        }
        assert!(Least::new(0).is_none());
    }

    #[test]
    fn what_is_paid_for_counts_and_is_never_owed() {
        let least = Least::new(10).unwrap();
        for _ in 0..4 {
            least.count(0);
        }
        assert_eq!(least.available(0), 6);
        // A hundred that requests have paid for leave nothing, and nothing is missing for longer because of them.
        for _ in 0..100 {
            least.count(0);
        }
        assert_eq!(least.take(0), None);
        assert_eq!(least.available(SECOND), 10);
    }

    #[test]
    fn the_last_one_is_given_back_and_the_others_come_back_by_themselves() {
        let least = Least::new(2).unwrap();
        let (first, second) = (least.take(0).unwrap(), least.take(0).unwrap());
        least.give_back(second);
        least.give_back(first);
        assert_eq!(least.available(0), 2);

        let (first, _second) = (least.take(0).unwrap(), least.take(0).unwrap());
        least.give_back(first);
        assert_eq!(least.available(0), 0);
        assert_eq!(least.available(SECOND / 2), 1);

        // Story: given back after its time, it took away what another had taken since.
        let first = least.take(2 * SECOND).unwrap();
        let _other = least.take(3 * SECOND).unwrap();
        least.give_back(first);
        assert_eq!(least.available(3 * SECOND), 1);

        // What took nothing gives nothing back, and what took a part of one gives back that.
        let now = 3 * SECOND + SECOND / 4;
        let [_, a_part, nothing] = [(); 3].map(|()| least.count(now));
        assert_eq!(nothing.from, nothing.until);
        least.give_back(nothing);
        assert_eq!(least.available(now + SECOND / 4), 0);
        least.give_back(a_part);
        assert_eq!(least.available(now + SECOND / 4), 1);
    }
}
