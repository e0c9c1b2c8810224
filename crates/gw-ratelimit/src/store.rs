//! Where the state of keys is kept.
//!
//! A store knows nothing of clients but a hash, and of policies their number and what they count with. It keeps one word
//! per key, which only the policy's [`Algorithm`] can read, and has few operations; each is
//! whole by itself, none waits for anything but a lock that is held for microseconds, and none calls back. What spans
//! several keys (all or nothing, give back) is the limiter's business.

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

impl Receipt {
    /// What `state`, as the key's is by now, comes to without the charge. `now` is no time before any charge made since.
    pub(crate) fn undone(&self, state: u64, algorithm: &Algorithm, now: u64) -> u64 {
        algorithm.take_back(state, self.after, self.cost, now)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
