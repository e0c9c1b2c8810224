//! Strikes of keys that are refused.

use tokio::time::Instant;

use super::{Book, Charge, Limiter};
use crate::algorithm::Algorithm;
use crate::decision::{Decision, PolicyId, Ruling};
use crate::penalty::Strikes;
use crate::store::KeyHash;

/// What a policy with a penalty keeps of strikes: in the store, as if it were a policy of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    strikes: Strikes,
    algorithm: Algorithm,
    /// The number of the policy that it is in the store.
    number: u8,
}

impl Slot {
    pub(super) const fn new(strikes: Strikes, algorithm: Algorithm, number: u8) -> Self {
        Self {
            strikes,
            algorithm,
            number,
        }
    }

    /// Where the strikes of a key are.
    const fn key(&self, key: KeyHash) -> KeyHash {
        KeyHash::new(key.bits(), self.number)
    }
}

impl Limiter {
    /// What a request pays: more than it says, if its key has strikes.
    pub(super) fn cost(&self, charge: &Charge, algorithm: &Algorithm, now: u64) -> u32 {
        match self.slot(charge) {
            None => charge.cost,
            Some(slot) => self.cost_with(slot, charge, algorithm, now),
        }
    }

    // Apart, since few policies have a penalty.
    #[inline(never)]
    fn cost_with(&self, slot: &Slot, charge: &Charge, algorithm: &Algorithm, now: u64) -> u32 {
        let word = self.word(slot, charge);
        slot.strikes.cost(charge.cost, algorithm.burst(), word, now)
    }

    /// Notes who was refused: as a strike, and for the list of top offenders. A strike that makes requests dearer is told
    /// of: who waits as long as that is not refused again for it.
    #[cold]
    pub(super) fn note_refusals(
        &self,
        book: &Book,
        charges: &[Charge],
        decision: &mut Decision,
        now: u64,
    ) {
        // Whoever comes second does not wait: it is a list of who comes often.
        let mut offenders = self.offenders.try_lock().ok();
        // In the order of the charges, of which those to policies that are off have no standing.
        let mut standings = decision.standings_mut().peekable();
        for charge in charges {
            let Some(standing) = standings.next_if(|s| s.policy() == charge.policy()) else {
                continue;
            };
            if standing.ruling() == Ruling::Allowed {
                continue;
            }
            if let Some(offenders) = &mut offenders {
                offenders.note(charge.key.bits(), now);
            }
            if let Some(slot) = self.slot(charge) {
                self.strike(book, slot, charge.key, now);
                let cost = self.cost_with(slot, charge, standing.algorithm(), now);
                standing.wait_to_pay(cost);
            }
        }
    }

    /// Notes who was refused by a policy without a penalty, for the list of top offenders.
    pub(super) fn note_offender(&self, key: KeyHash, now: u64) {
        // As above.
        if let Ok(mut offenders) = self.offenders.try_lock() {
            offenders.note(key.bits(), now);
        }
    }

    /// Adds strikes to a key; `false` if the policy has no penalty.
    pub(crate) fn penalize(&self, charge: &Charge, strikes: u32, now: Instant) -> bool {
        let now = self.nanos(now);
        let Some(slot) = self.slot(charge) else {
            return false;
        };
        {
            let book = self.book.read();
            // More than there is room for make no difference.
            for _ in 0..strikes.min(slot.algorithm.burst()) {
                self.strike(&book, slot, charge.key, now);
            }
        }
        self.announce();
        true
    }

    /// How many strikes a key has. `None` if the policy has no penalty.
    pub(crate) fn strikes(&self, charge: &Charge, now: Instant) -> Option<u32> {
        let slot = self.slot(charge)?;
        let word = self.word(slot, charge);
        Some(slot.strikes.count(word, self.nanos(now)))
    }

    /// Forgets the strikes of a key.
    pub(super) fn forget_strikes(&self, charge: &Charge) -> bool {
        let slot = self.slot(charge);
        slot.is_some_and(|slot| self.store.reset(slot.key(charge.key)))
    }

    /// The number that a policy's strikes are kept under, if it has a penalty.
    pub(crate) fn slot_of(&self, policy: PolicyId) -> Option<usize> {
        let slot = self.penalties.get(policy.index())?.as_ref()?;
        Some(usize::from(slot.number))
    }

    fn slot(&self, charge: &Charge) -> Option<&Slot> {
        self.penalties.get(charge.key.policy())?.as_ref()
    }

    /// The strikes of a key itself, not of those whose place it would take.
    fn word(&self, slot: &Slot, charge: &Charge) -> u64 {
        self.store.peek_own(slot.key(charge.key))
    }

    /// One more, if it makes a difference.
    fn strike(&self, book: &Book, slot: &Slot, key: KeyHash, now: u64) {
        let (key, algorithm) = (slot.key(key), &slot.algorithm);
        // Where there is no room, exact memory forgets it: held against newcomers, it would be against those who did
        // nothing.
        self.store.charge(key, algorithm, 1, now, &book.terms);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
