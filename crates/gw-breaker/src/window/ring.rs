use super::{Call, Cell, Tally};
use crate::sync::{AtomicU64, Ordering};

/// The last so many calls. What a new one pushes out is subtracted, so its cost does not depend on its length.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Each a generation above two bits: [`FAILED`] and [`SLOW`].
    slots: Box<[AtomicU64]>,
    next: AtomicU64,
    calls: Cell,
    failed: Cell,
    slow: Cell,
}

const FAILED: u64 = 1;
const SLOW: u64 = 2;
const GENERATION_SHIFT: u32 = 2;

impl Ring {
    pub(crate) fn new(length: u32) -> Self {
        Self {
            slots: (0..length).map(|_| AtomicU64::new(0)).collect(),
            next: AtomicU64::new(0),
            calls: Cell::default(),
            failed: Cell::default(),
            slow: Cell::default(),
        }
    }

    #[inline]
    pub(crate) fn add_good(&self, generation: u64) {
        // One that is good pushes out one that was: nothing would change but where the next one goes, which then matters to
        // nobody. So threads do not contend for the ring of a healthy upstream.
        if !self.is_full_of_good(generation) {
            self.push_good(generation);
        }
    }

    #[inline(never)]
    fn push_good(&self, generation: u64) {
        self.add(generation, Call::GOOD);
    }

    fn is_full_of_good(&self, generation: u64) -> bool {
        let Tally {
            calls,
            failed,
            slow,
        } = self.tally(generation);
        calls as usize == self.slots.len() && failed == 0 && slow == 0
    }

    #[inline(always)]
    pub(crate) fn add(&self, generation: u64, call: Call) {
        let new =
            generation << GENERATION_SHIFT | u64::from(call.failed) | u64::from(call.slow) << 1;
        let place = self.next.fetch_add(1, Ordering::Relaxed) % self.slots.len().max(1) as u64;
        let Some(slot) = self.slots.get(place as usize) else {
            return;
        };
        let mut old = slot.load(Ordering::Relaxed);
        loop {
            // Of a later generation than the call: the call came late, and is forgotten with its own.
            if old >> GENERATION_SHIFT > generation {
                return;
            }
            // It says so already, and nothing is pushed out that does not come in: nearly each call of a healthy upstream.
            if old == new {
                return;
            }
            match slot.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => break,
                Err(changed) => old = changed,
            }
        }
        // What another generation left there is in no count of this one.
        let pushed_out = match old >> GENERATION_SHIFT == generation {
            true => old,
            false => {
                self.calls.add(generation, 1);
                0
            }
        };
        // In one step, so that who looks in between sees neither both nor none. It may come to less than zero for a
        // moment: another thread takes out what this one has yet to count.
        let change = |bit| i32::from(new & bit != 0) - i32::from(pushed_out & bit != 0);
        for (cell, change) in [(&self.failed, change(FAILED)), (&self.slow, change(SLOW))] {
            if change != 0 {
                cell.add(generation, change);
            }
        }
    }

    pub(crate) fn tally(&self, generation: u64) -> Tally {
        // The calls last: they are counted first.
        let (failed, slow) = (self.failed.get(generation), self.slow.get(generation));
        Tally {
            calls: self.calls.get(generation),
            failed,
            slow,
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// Each a number below 20, of which a test makes what it likes, and whether the call failed and was slow.
    fn calls() -> impl Strategy<Value = Vec<(u8, bool, bool)>> {
        proptest::collection::vec((0..20_u8, rarely(), rarely()), 0..200)
    }

    /// So that a short window is often full of good calls, and a long one sometimes.
    fn rarely() -> impl Strategy<Value = bool> {
        proptest::bool::weighted(0.1)
    }

    /// As a breaker does.
    fn add(ring: &Ring, generation: u64, call: Call) {
        match call {
            Call::GOOD => ring.add_good(generation),
            _ => ring.add(generation, call),
        }
    }

    proptest! {
        #[test]
        fn what_comes_late_makes_no_more_of_the_calls(length in 1..20_usize, calls in calls()) {
            let ring = Ring::new(length as u32);
            let mut generation = 1;
            for (kind, failed, slow) in calls {
                generation += u64::from(kind == 0);
                // Late: of the generation before. At a place where the present one has been, it changes nothing; elsewhere
                // it takes a place that counts for nobody.
                let late = u64::from(kind == 1);
                add(&ring, generation - late, Call { failed, slow });
                let tally = ring.tally(generation);
                prop_assert!(tally.calls as usize <= length);
                prop_assert!(tally.failed <= tally.calls && tally.slow <= tally.calls);
            }
        }

        #[test]
        fn counts_what_a_list_of_the_last_calls_counts(length in 1..20_usize, calls in calls()) {
            let ring = Ring::new(length as u32);
            let mut generation = 1;
            let mut list = VecDeque::new();
            for (kind, failed, slow) in calls {
                if kind == 0 {
                    generation += 1;
                    list.clear();
                }
                add(&ring, generation, Call { failed, slow });
                list.push_back((failed, slow));
                if list.len() > length {
                    list.pop_front();
                }
                let tally = ring.tally(generation);
                prop_assert_eq!(tally.calls as usize, list.len());
                prop_assert_eq!(tally.failed as usize, list.iter().filter(|call| call.0).count());
                prop_assert_eq!(tally.slow as usize, list.iter().filter(|call| call.1).count());
            }
        }
    }
}
