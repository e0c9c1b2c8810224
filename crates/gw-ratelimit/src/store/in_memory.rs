use super::{Compact, Exact, KeyHash, Receipt, Store};
use crate::algorithm::Algorithm;
use crate::limiter::Terms;
use crate::verdict::Verdict;

/// One of the two stores: a branch that is always taken the same way costs less than a call through a pointer, and
/// spares all that hold a limiter a type parameter.
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
    /// The state of `key` without what it would begin with if it were new and there were no room.
    pub(crate) fn peek_own(&self, key: KeyHash, algorithm: &Algorithm) -> u64 {
        match self {
            // What is shared in there is no debt, for those who ask: they take it back at once.
            Self::Exact(exact) => exact.peek(key, algorithm),
            Self::Compact(compact) => compact.peek_own(key),
        }
    }

    /// Whether there is something to announce in the tallies; says so to one who asks.
    pub(crate) fn take_changed(&self) -> bool {
        of_either!(self, store => store.take_changed())
    }
}

impl Store for InMemory {
    fn peek(&self, key: KeyHash, algorithm: &Algorithm) -> u64 {
        of_either!(self, store => store.peek(key, algorithm))
    }

    fn charge(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        terms: &[Terms],
    ) -> Verdict {
        of_either!(self, store => store.charge(key, algorithm, cost, now, terms))
    }

    #[inline(always)]
    fn charge_known(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        holds: impl Fn() -> bool,
    ) -> Option<Verdict> {
        of_either!(self, store => store.charge_known(key, algorithm, cost, now, holds))
    }

    fn lower(&self, key: KeyHash, change: &dyn Fn(u64) -> u64) -> bool {
        of_either!(self, store => store.lower(key, change))
    }

    fn undo(&self, receipt: Receipt, algorithm: &Algorithm, clock: &dyn Fn() -> u64) -> bool {
        of_either!(self, store => store.undo(receipt, algorithm, clock))
    }

    fn reset(&self, key: KeyHash) -> bool {
        of_either!(self, store => store.reset(key))
    }

    fn rewrite(&self, policy: usize, clock: &dyn Fn() -> u64, change: &dyn Fn(u64, u64) -> u64) {
        of_either!(self, store => store.rewrite(policy, clock, change));
    }
}
