//! Retries that a budget allows for however few requests there are.

use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// So many retries a second, and those of one second at once. As a bucket in GCRA's form: one word says when all of it will be
/// there again.
///
/// It is a least, and comes on top of nothing: retries that requests have paid for are counted as well.
#[derive(Debug)]
pub(super) struct Least {
    /// In nanoseconds of the budget's clock.
    full_at: AtomicU64,
    /// All by which that time was ever moved back.
    given_back: AtomicU64,
    /// How many come back in a second.
    per_second: AtomicU32,
}

/// What so many a second mean.
struct Pace {
    /// How long it takes for one retry to come back.
    interval: u64,
    /// The same for all of them.
    all: u64,
}

const SECOND: u64 = 1_000_000_000;

/// What one retry took of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// By how much it moved that time.
    amount: u64,
    /// When it was taken.
    at: u64,
    /// From when on it comes back, if nothing is given back meanwhile; and what had been given back before.
    place: u64,
}

impl Least {
    pub(super) fn new(per_second: u32) -> Self {
        Self {
            full_at: AtomicU64::new(0),
            given_back: AtomicU64::new(0),
            per_second: AtomicU32::new(per_second),
        }
    }

    /// So many from now on. What has been taken comes back when it would have.
    pub(super) fn set(&self, per_second: u32) {
        self.per_second.store(per_second, Ordering::Relaxed);
    }

    /// None, if there is nothing.
    fn pace(&self) -> Option<Pace> {
        // One each nanosecond is as many as can be told apart.
        let per_second = u64::from(self.per_second()).min(SECOND);
        if per_second == 0 {
            return None;
        }
        // Rounded up: never more than was said.
        let interval = SECOND.div_ceil(per_second);
        Some(Pace {
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
        let Pace { interval, all } = self.pace()?;
        let bound = now.saturating_add(all);
        // Acquire, and before the other: who sees that something was given back sees where it is missing.
        let given_back = self.given_back.load(Ordering::Acquire);
        let mut before = self.full_at.load(Ordering::Relaxed);
        loop {
            let from = before.max(now);
            // One that is counted late, at an earlier time, takes nothing from those of later.
            let until = to(from.saturating_add(interval), bound)?.max(from);
            // Relaxed: the word is all that decides, and nothing is published with it.
            match self.full_at.compare_exchange_weak(
                before,
                until,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    return Some(Share {
                        amount: until - from,
                        at: now,
                        place: from.saturating_add(given_back),
                    });
                }
                Err(found) => before = found,
            }
        }
    }

    /// Gives back what is certainly missing still of what a retry took. Not by two threads at once.
    ///
    /// Those that were taken come back in turn, so its turn came once those before it were back; earlier by all that has been
    /// given back since, for it may have been theirs, but not before it was taken. What has passed since then may have come
    /// back by itself, and to give it back again would let through too many.
    pub(super) fn give_back(&self, Share { amount, at, place }: Share, now: u64) {
        let given_back = self.given_back.load(Ordering::Relaxed);
        let turn = at.max(place.saturating_sub(given_back));
        let missing = amount.saturating_sub(now.saturating_sub(turn));
        // It was put in, and is taken out once: this does not wrap.
        self.full_at.fetch_sub(missing, Ordering::Relaxed);
        // Release, and after the other: see where it is read.
        self.given_back
            .store(given_back.saturating_add(missing), Ordering::Release);
    }

    /// How many could be taken out.
    pub(super) fn available(&self, now: u64) -> u64 {
        let missing = self.full_at.load(Ordering::Relaxed).saturating_sub(now);
        let pace = self.pace();
        pace.map_or(0, |Pace { interval, all }| {
            all.saturating_sub(missing) / interval
        })
    }

    /// How many a second.
    pub(super) fn per_second(&self) -> u32 {
        self.per_second.load(Ordering::Relaxed)
    }
}

impl Share {
    pub(super) const NOTHING: Self = Self {
        amount: 0,
        at: 0,
        place: 0,
    };
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_many_as_in_a_second_at_once_and_then_at_their_rate() {
        for per_second in [1, 3, 10, 1_000] {
            let least = Least::new(per_second);
            let Pace { interval, .. } = least.pace().unwrap();
            let taken = (0..5_000).filter(|_| least.take(0).is_some()).count();
            assert_eq!(taken, per_second as usize);
            assert_eq!(least.take(interval - 1), None);
            assert!(least.take(interval).is_some());
            assert_eq!(
                least.available(2 * SECOND + interval),
                u64::from(per_second)
            );
        }
        let none = Least::new(0);
        assert_eq!((none.take(0), none.available(0)), (None, 0));
    }

    #[test]
    fn what_is_paid_for_counts_and_is_never_owed() {
        let least = Least::new(10);
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
    fn what_was_not_sent_is_there_again_in_whatever_order_it_comes() {
        // Story: only the last one that was taken came back. Of ten clients that left during the backoff, in the order in which
        // they had come, one retry was there again.
        for order in [
            [0, 1, 2],
            [2, 1, 0],
            [1, 0, 2],
            [1, 2, 0],
            [0, 2, 1],
            [2, 0, 1],
        ] {
            let least = Least::new(3);
            let shares = [(); 3].map(|()| least.take(0).unwrap());
            let mut shares = shares.map(Some);
            for (given_back, which) in order.into_iter().enumerate() {
                assert_eq!(least.available(0), given_back as u64);
                least.give_back(shares[which].take().unwrap(), 0);
            }
            assert_eq!(least.available(0), 3);
        }
        // In the order in which they came, what has passed meanwhile has come back by itself, and all the rest is given back.
        let least = Least::new(10);
        let shares = [(); 10].map(|()| least.take(0).unwrap());
        for share in shares {
            least.give_back(share, SECOND / 20);
        }
        assert_eq!(least.available(SECOND / 20), 10);
    }

    #[test]
    fn what_has_come_back_by_itself_is_not_given_back() {
        // Story: given back after its time, it took away what another had taken since.
        let least = Least::new(2);
        let first = least.take(2 * SECOND).unwrap();
        let _other = least.take(3 * SECOND).unwrap();
        least.give_back(first, 3 * SECOND);
        assert_eq!(least.available(3 * SECOND), 1);

        // The second came back in the place of the first, and is not given back in its own.
        let least = Least::new(2);
        let (first, second) = (least.take(0).unwrap(), least.take(0).unwrap());
        least.give_back(first, 0);
        let _sent = least.take(SECOND / 2).unwrap();
        least.give_back(second, SECOND / 2);
        assert_eq!(least.available(SECOND / 2), 1);

        // What took nothing gives nothing back, and what took a part of one gives back what is missing of that.
        let least = Least::new(2);
        let _sent = least.take(SECOND).unwrap();
        let now = SECOND + SECOND / 4;
        let [_, a_part, nothing] = [(); 3].map(|()| least.count(now));
        assert_eq!(nothing.amount, 0);
        least.give_back(nothing, now);
        assert_eq!(least.available(now + SECOND / 4), 0);
        least.give_back(a_part, now);
        assert_eq!(least.available(now + SECOND / 4), 1);
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Take,
        GiveBack(prop::sample::Index),
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => Just(Step::Take),
            2 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
            1 => (1..300u64).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// What is missing at `now` if only these were ever taken.
    fn missing(taken: &[Option<(u64, Share)>], now: u64) -> u64 {
        let (at, missing) =
            (taken.iter().flatten()).fold((0, 0u64), |(before, missing), (at, share)| {
                (*at, missing.saturating_sub(at - before) + share.amount)
            });
        missing.saturating_sub(now - at)
    }

    proptest! {
        #[test]
        fn it_never_lets_through_more_than_if_only_what_was_sent_had_been_taken(steps in steps(), per_second in 1..12u32) {
            let least = Least::new(per_second);
            let Pace { interval, all } = least.pace().unwrap();
            let mut taken: Vec<Option<(u64, Share)>> = Vec::new();
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Take => {
                        let fits = missing(&taken, now) + interval <= all;
                        if let Some(share) = least.take(now) {
                            prop_assert!(fits);
                            taken.push(Some((now, share)));
                        } else if taken.iter().all(Option::is_some) {
                            prop_assert!(!fits);
                        }
                    }
                    Step::GiveBack(which) if !taken.is_empty() => {
                        let which = which.index(taken.len());
                        let before = least.full_at.load(Ordering::Relaxed);
                        if let Some((at, share)) = taken[which].take() {
                            let amount = share.amount;
                            least.give_back(share, now);
                            let given_back = before - least.full_at.load(Ordering::Relaxed);
                            // At least what cannot have come back since.
                            prop_assert!(given_back + (now - at) >= amount);
                        }
                    }
                    Step::GiveBack(_) => {}
                    Step::Wait(millis) => now += millis * 1_000_000,
                }
            }
        }
    }
}
