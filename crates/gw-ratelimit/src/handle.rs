use std::hash::Hash;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::{ConfigError, Mode};
use crate::decision::{PolicyId, Standing};
use crate::limiter::Limiter;
use crate::quota::Quota;

/// Reads and changes the limits of a running layer or [`Limiter`]. Clones are the same handle.
///
/// Policies are addressed by name. Keys are hashed, so give a value of the very type that the policy's extractor
/// makes (an `IpAddr` for `ClientIp`, a `str` or `Arc<str>` for `Consumer`): another type hashes to another key.
#[derive(Debug, Clone)]
pub struct RateLimitHandle {
    limiter: Arc<Limiter>,
}

/// How one policy stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PolicySnapshot {
    /// The policy's name.
    pub name: Arc<str>,
    /// The quota in force.
    pub quota: Quota,
    /// The mode in force.
    pub mode: Mode,
    /// How many keys are held: those with debt, and some whose debt ran off and that nothing has swept yet.
    pub keys: u64,
    /// How many requests this policy allowed and charged.
    pub allowed: u64,
    /// How many it refused.
    pub limited: u64,
    /// How many it would have refused in shadow mode.
    pub would_limit: u64,
    /// How many passed it for want of a key.
    pub skipped: u64,
    /// How many came new and began with debt that was not their own, because there was no room. If this grows, more keys
    /// are in debt than [`Memory`](crate::Memory) has places for.
    pub overflowed: u64,
}

impl RateLimitHandle {
    pub(crate) const fn new(limiter: Arc<Limiter>) -> Self {
        Self { limiter }
    }

    /// All policies, in the order in which they were added. The numbers are read one after the other, not at one
    /// instant.
    pub fn snapshot(&self) -> Vec<PolicySnapshot> {
        let tallies = (0..=u8::MAX).map(PolicyId).zip(self.limiter.tallies());
        let snapshot = tallies.filter_map(|(policy, tally)| {
            let counts = tally.counts();
            Some(PolicySnapshot {
                name: Arc::clone(tally.name()),
                quota: self.limiter.terms(policy)?.quota,
                mode: self.limiter.mode(policy),
                keys: counts.keys,
                allowed: counts.allowed,
                limited: counts.limited,
                would_limit: counts.would_limit,
                skipped: counts.skipped,
                overflowed: counts.overflowed,
            })
        });
        snapshot.collect()
    }

    /// Changes the mode of one policy from the next request on. Debts made before stay.
    ///
    /// # Errors
    ///
    /// If there is no such policy.
    pub fn set_mode(&self, policy: &str, mode: Mode) -> Result<(), ConfigError> {
        self.limiter.change_mode(self.policy(policy)?, mode);
        Ok(())
    }

    /// Changes the mode of all policies: the kill switch.
    pub fn set_mode_of_all(&self, mode: Mode) {
        for snapshot in self.snapshot() {
            if let Some(policy) = self.limiter.policy(&snapshot.name) {
                self.limiter.change_mode(policy, mode);
            }
        }
    }

    /// Changes the quota of one policy from the next request on.
    ///
    /// Debts stay: who was far over the old limit does not start afresh. If the time in which the burst is won back
    /// becomes shorter, longer debts are cut to it; this walks over all keys, one shard of the table at a time, and takes
    /// some nanoseconds a key in the calling thread (four milliseconds for a million were measured).
    ///
    /// Between a rate and a sliding window, and between windows of different lengths, what a key has spent of the old
    /// burst or limit counts as spent of the new one, at most all of it. All decisions wait for that walk.
    ///
    /// # Errors
    ///
    /// If there is no such policy, or the quota cannot be enforced. Nothing has changed then.
    pub fn set_quota(&self, policy: &str, quota: Quota) -> Result<(), ConfigError> {
        let policy = self.policy(policy)?;
        self.limiter.change_quota(policy, quota, Instant::now())
    }

    /// How `key` stands with a policy, without charging anything. `None` if there is no such policy.
    pub fn peek<K: Hash + ?Sized>(&self, policy: &str, key: &K) -> Option<Standing> {
        let policy = self.limiter.policy(policy)?;
        self.limiter.peek(policy, key, Instant::now())
    }

    /// Frees `key` of its debt under a policy. `false` if there is no such policy, or the key was not held.
    ///
    /// A key without a place of its own begins with the debt of those that share a quota for want of room, if there
    /// are any; so does this one then. In compact memory it begins with the least debt that another key in its line has.
    pub fn reset<K: Hash + ?Sized>(&self, policy: &str, key: &K) -> bool {
        let policy = self.limiter.policy(policy);
        policy.is_some_and(|policy| self.limiter.reset(policy, key))
    }

    fn policy(&self, name: &str) -> Result<PolicyId, ConfigError> {
        let unknown = || ConfigError::new("name", "must be that of a policy").of_policy(name);
        self.limiter.policy(name).ok_or_else(unknown)
    }
}
