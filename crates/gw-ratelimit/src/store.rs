//! Where the state of keys is kept.
//!
//! A store knows nothing of clients but a hash, and of policies their number and what they count with. It keeps one word
//! per key, which only the policy's [`Algorithm`] can read, and has few operations; each is whole by itself, none waits
//! for anything but a lock that is held for microseconds, and none calls back. What spans several keys (all or nothing, give back) is the limiter's business.

mod compact;
mod exact;
mod hash;
mod in_memory;
mod notes;
mod set;
mod table;
mod word;

pub(crate) use self::compact::Compact;
pub(crate) use self::exact::Exact;
pub(crate) use self::hash::Hashing;
pub(crate) use self::in_memory::InMemory;
use crate::algorithm::Algorithm;
use crate::decision::PolicyId;
use crate::limiter::Terms;
use crate::verdict::Verdict;

/// A key of one policy: 56 bits of a keyed hash, and the number of the policy.
///
/// The hash is keyed at random per limiter (SipHash), so nobody can aim at another's key. Two clients of one policy
/// share a state with a probability of 2^-56 per pair, and then both get less, not more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    pub(crate) const fn new(hash: u64, policy: u8) -> Self {
        let hash = hash & !0xff;
        // All zero is what an empty place in a table looks like.
        let hash = if hash == 0 { 0x100 } else { hash };
        Self(hash | policy as u64)
    }

    pub(crate) const fn policy(self) -> usize {
        (self.0 & 0xff) as usize
    }

    pub(crate) const fn policy_id(self) -> PolicyId {
        PolicyId((self.0 & 0xff) as u8)
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// The low bits of the hash, for spreading keys over shards and the like.
    pub(crate) const fn spread(self) -> usize {
        (self.0 >> 8) as usize
    }
}

/// A charge that was made, for taking it back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receipt {
    pub(crate) key: KeyHash,
    /// The state that the charge led to.
    pub(crate) after: u64,
    /// What was charged, in cells.
    pub(crate) cost: u32,
}

/// Keeps states by key. All times are nanoseconds on the limiter's clock.
///
/// The operations on one key are given what the key is counted with. This must read what any other given for the same
/// policy has written ([`Algorithm::reads`]); where that changes, [`Store::rewrite`] comes first.
pub(crate) trait Store {
    /// The state of `key` as a charge would find it.
    fn peek(&self, key: KeyHash, algorithm: &Algorithm) -> u64;

    /// Decides and, if allowed, charges, as one step. `terms` are those of all policies, by number: a store may come by
    /// other keys on the way.
    fn charge(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        terms: &[Terms],
    ) -> Verdict;

    /// The same for a key that has a place of its own, without waiting. `None`, and nothing was charged, if it has none, if
    /// others charge it so often that this one did not get in between, or if `holds` says that the algorithm is not in
    /// force any more.
    ///
    /// Where that is said under no lock, the algorithm may have been changed by the time that it charges. So the caller
    /// asks again: if it holds then, whoever rewrites states for the change sees the charge.
    fn charge_known(
        &self,
        key: KeyHash,
        algorithm: &Algorithm,
        cost: u32,
        now: u64,
        holds: impl Fn() -> bool,
    ) -> Option<Verdict>;

    /// Lowers the state of a key to what `change` makes of it, as far as no other's debt may be part of it; says whether
    /// the key is held. `change` runs when no further charge can come in between.
    fn lower(&self, key: KeyHash, change: &dyn Fn(u64) -> u64) -> bool;

    /// Takes a charge back, unless the key has been forgotten since; says whether it is held. `clock` is read when no
    /// further charge can come in between: what it says is not before any charge made since.
    fn undo(&self, receipt: Receipt, algorithm: &Algorithm, clock: &dyn Fn() -> u64) -> bool;

    /// Frees `key` of its debt, as far as no other's may be part of it; says whether it had a state of its own.
    fn reset(&self, key: KeyHash) -> bool;

    /// Replaces all states of a policy. `change` is given the time as well: `clock` is read anew wherever no charge can
    /// come in between, so what it says is not before any charge that is seen.
    fn rewrite(&self, policy: usize, clock: &dyn Fn() -> u64, change: &dyn Fn(u64, u64) -> u64);
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
