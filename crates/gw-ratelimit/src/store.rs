//! Where the state of keys is kept.
//!
//! A store knows nothing of policies but their number, and nothing of clients but a hash. It keeps one TAT per key
//! and has five operations; each is whole by itself, none waits for anything but a lock that is held for
//! microseconds, and none calls back. What spans several keys (all or nothing, give back) is the limiter's business.

mod exact;
mod table;
mod tat;

pub(crate) use self::exact::Exact;
use crate::gcra::{Gcra, Verdict};

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
    pub(crate) place: Place,
    /// The TAT that the charge led to.
    pub(crate) after: u64,
    /// What was charged, in nanoseconds.
    pub(crate) cost: u64,
}

/// Whose state a charge changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// The key's own.
    Own,
    /// The one that newcomers share when there is no room.
    Overflow,
}

/// Keeps TATs by key. All times are nanoseconds on the limiter's clock.
pub(crate) trait Store {
    /// The TAT of `key` as a charge would find it.
    fn peek(&self, key: KeyHash) -> u64;

    /// Decides and, if allowed, charges, as one step. The place is where it was charged, if it was.
    fn charge(&self, key: KeyHash, gcra: &Gcra, cost: u32, now: u64) -> (Verdict, Option<Place>);

    /// Takes a charge back. `clock` is read when no further charge can come in between: what it says is not before
    /// any charge made since.
    fn undo(&self, receipt: Receipt, clock: &dyn Fn() -> u64);

    /// Frees `key` of its debt; says whether it had a state of its own.
    fn reset(&self, key: KeyHash) -> bool;

    /// Lowers each TAT of a policy that is above the ceiling to it. `ceiling` is read anew wherever no charge can come
    /// in between, so that it can rise with the clock: it is never below what a charge made since has led to.
    fn clamp(&self, policy: usize, ceiling: &dyn Fn() -> u64);
}
