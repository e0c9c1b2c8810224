use super::{Compact, Exact, KeyHash, Receipt};
use crate::algorithm::Algorithm;
use crate::limiter::Terms;
use crate::verdict::Verdict;

/// Keeps states by key. All times are nanoseconds on the limiter's clock.
///
/// The operations on one key are given what the key is counted with. This must read what any other given for the same
/// policy has written ([`Algorithm::reads`]); where that changes, [`InMemory::rewrite`] comes first.
///
/// One of two stores: a branch that is always taken the same way costs less than a call through a pointer, and spares all
/// that hold a limiter a type parameter.
#[derive(Debug)]
pub(crate) enum InMemory {
    Exact(Exact),
    Compact(Compact),
}

macro_rules! of_either {
    ($store:expr, $either:ident => $call:expr) => {
        match $store {
            InMemory::Exact($either) => $call,
            InMemory::Compact($either) => $call,
        }
    };
}

impl InMemory {
    /// The state of `key` as a charge would find it.
    pub(crate) fn peek(&self, key: KeyHash) -> u64 {
        of_either!(self, store => store.peek(key))
    }

    /// The state of `key` without what it would begin with if it were new and there were no room.
    pub(crate) fn peek_own(&self, key: KeyHash) -> u64 {
        match self {
            // What is shared in there is no debt, for those who ask: they take it back at once.
            Self::Exact(exact) => exact.peek(key),
            Self::Compact(compact) => compact.peek_own(key),
        }
    }

    /// Decides and, if allowed, charges, as one step. `terms` are those of all policies, by number: a store may come by
    /// other keys on the way.
    pub(crate) fn charge(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        terms: &[Terms],
    ) -> Verdict {
        match self {
            Self::Exact(exact) => exact.charge(key, algorithm, cost, now, terms),
            Self::Compact(compact) => compact.charge(key, algorithm, cost, now),
        }
    }

    /// The same for a key that has a place of its own, without waiting. `None`, and nothing was charged, if it has none, if
    /// others charge it so often that this one did not get in between, or if `holds` says that the algorithm is not in
    /// force any more.
    ///
    /// Where that is said under no lock, the algorithm may have been changed by the time that it charges. So the caller
    /// asks again: if it holds then, whoever rewrites states for the change sees the charge.
    #[inline(always)]
    pub(crate) fn charge_known(
        &self,
        key: KeyHash,
        algorithm: Algorithm,
        cost: u32,
        now: u64,
        holds: impl Fn() -> bool,
    ) -> Option<Verdict> {
        of_either!(self, store => store.charge_known(key, algorithm, cost, now, holds))
    }

    /// Lowers the state of a key to what `change` makes of it, as far as no other's debt may be part of it; says whether
    /// the key is held. `change` runs when no further charge can come in between.
    pub(crate) fn lower(&self, key: KeyHash, change: &dyn Fn(u64) -> u64) -> bool {
        of_either!(self, store => store.lower(key, change))
    }

    /// Takes a charge back, unless the key has been forgotten since; says whether it is held. `clock` is read when no
    /// further charge can come in between: what it says is not before any charge made since.
    pub(crate) fn undo(
        &self,
        receipt: Receipt,
        algorithm: &Algorithm,
        clock: &dyn Fn() -> u64,
    ) -> bool {
        // What a key owed that has been forgotten since may be another's by now, so nothing is taken off what newcomers
        // begin with. If the key has come back, it began no lower than what it owed.
        self.lower(receipt.key, &|state| {
            receipt.undone(state, algorithm, clock())
        })
    }

    /// Frees `key` of its debt, as far as no other's may be part of it; says whether it had a state of its own.
    pub(crate) fn reset(&self, key: KeyHash) -> bool {
        of_either!(self, store => store.reset(key))
    }

    /// Replaces all states of a policy. `change` is given the time as well: `clock` is read anew wherever no charge can
    /// come in between, so what it says is not before any charge that is seen.
    pub(crate) fn rewrite(
        &self,
        policy: usize,
        clock: &dyn Fn() -> u64,
        change: &dyn Fn(u64, u64) -> u64,
    ) {
        of_either!(self, store => store.rewrite(policy, clock, change));
    }

    /// Whether there is something to announce in the tallies; says so to one who asks.
    pub(crate) fn take_changed(&self) -> bool {
        of_either!(self, store => store.take_changed())
    }
}
