use std::hash::Hash;
use std::sync::Arc;

use gw_core::Mode;
use tokio::time::Instant;

use crate::config::ConfigError;
use crate::decision::{PolicyId, Standing};
use crate::limiter::{Charge, Limiter};
use crate::offenders::{KeyId, Offender};
use crate::quota::Quota;

/// Reads and changes the limits of a running layer or [`Limiter`]. Clones are the same handle.
///
/// Policies are addressed by name. Keys are hashed, so give a value of the very type that the policy's extractor
/// makes (a `str` or `Arc<str>` for `Consumer`): another type hashes to another key. **`ClientIp` counts IPv6 by networks**: the key of
/// an address is what [`ClientIp::of`](crate::key::ClientIp::of) makes of it, with the extractor that the policy has. A key that
/// nobody uses is answered as one that has spent nothing.
#[derive(Debug, Clone)]
pub struct RateLimitHandle {
    limiter: Arc<Limiter>,
}

/// How one policy stands.
#[derive(Debug, Clone, PartialEq)]
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
    /// How many keys were forgotten in debt, because there was no room: newcomers begin with what these owed. If this grows,
    /// more keys are in debt than [`Memory`](crate::Memory) has places for.
    pub overflowed: u64,
    /// The quotas in force of the policy's tiers, by name.
    pub tiers: Vec<(Arc<str>, Quota)>,
    /// Whether the policy's own quota is less than the one that it was built with.
    pub reduced: bool,
    /// How many cells were charged after requests were admitted.
    pub charged_late: u64,
    /// How many cells were given back.
    pub refunded: u64,
    /// How many keys have strikes, if the policy has a penalty, or had and nothing has swept them yet.
    pub keys_with_strikes: u64,
    /// How much of its quota the busiest key has used up: 0 to 1, up to 2 after late charges. What was given back since is
    /// not taken into account.
    pub fill: f64,
}

impl RateLimitHandle {
    pub(crate) const fn new(limiter: Arc<Limiter>) -> Self {
        Self { limiter }
    }

    /// The limiter behind it, for what a handle has no name for: deciding without HTTP, charging late, and standings under the
    /// quota of a tier.
    pub fn limiter(&self) -> &Limiter {
        &self.limiter
    }

    /// All policies, in the order in which they were added. The numbers are read one after the other, not at one
    /// instant.
    pub fn snapshot(&self) -> Vec<PolicySnapshot> {
        let now = self.limiter.nanos(Instant::now());
        let tallies = (0..=u8::MAX).map(PolicyId).zip(self.limiter.tallies());
        let snapshot = tallies.filter_map(|(policy, tally)| {
            let counts = tally.counts();
            Some(PolicySnapshot {
                name: Arc::clone(tally.name()),
                quota: self.limiter.quota(policy)?,
                reduced: self.limiter.is_reduced(policy, None),
                tiers: self.limiter.tier_quotas(policy),
                charged_late: counts.late,
                refunded: counts.refunded,
                keys_with_strikes: self.limiter.keys_with_strikes(policy),
                fill: self.limiter.fill(policy, now),
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
        self.limiter.change_modes(|_| true, mode);
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
    /// If there is no such policy, the quota cannot be enforced, or the policy has tiers and debts would mean something else
    /// in them: all must be rates, or all sliding windows of one length. Nothing has changed then.
    pub fn set_quota(&self, policy: &str, quota: Quota) -> Result<(), ConfigError> {
        let policy = self.policy(policy)?;
        let now = Instant::now();
        self.limiter.change_quota(policy, quota, now)
    }

    /// The same for one tier of a policy. Since a key may be in any tier, debts are cut only to what the most generous of
    /// the policy's quotas allows.
    ///
    /// # Errors
    ///
    /// As with [`RateLimitHandle::set_quota`], and if there is no such tier.
    pub fn set_tier_quota(
        &self,
        policy: &str,
        tier: &str,
        quota: Quota,
    ) -> Result<(), ConfigError> {
        let id = self.policy(policy)?;
        let unknown = || ConfigError::new("tier", "must be one of the policy's");
        let tier = self.limiter.tier(id, tier);
        let tier = tier.ok_or_else(|| unknown().of_policy(policy))?;
        let now = Instant::now();
        self.limiter.change_quota_in(id, Some(tier), quota, now)
    }

    /// How `key` stands with a policy's own quota, without charging anything. `None` if there is no such policy.
    ///
    /// It has to hash as what the policy counts by: for addresses what [`ClientIp::of`](crate::key::ClientIp::of) gives, bytes for
    /// the value of a header field, a `str` for consumers and users, a `RouteMatch` for routes, a tuple of those for a tuple of keys.
    ///
    /// For the quota of a tier: [`Limiter::peek_at`].
    pub fn peek<K: Hash + ?Sized>(&self, policy: &str, key: &K) -> Option<Standing> {
        let charge = self.charge(policy, key, 0)?;
        self.limiter.peek_at(&charge, Instant::now())
    }

    /// Takes `cells` off the debt of a key, as far as there is any, at what a cell costs under the policy's own quota.
    /// Returns how the key stands then; `None` if there is no such policy.
    ///
    /// This is a gift, see [`Limiter::refund`]. A request that is still being served gets back what it was charged by its
    /// [`Charged`](crate::Charged).
    pub fn refund<K: Hash + ?Sized>(&self, policy: &str, key: &K, cells: u32) -> Option<Standing> {
        let charge = self.charge(policy, key, cells)?;
        self.limiter.refund(charge, Instant::now())
    }

    /// Adds `strikes` to those that a key has with a policy, as if it had been refused so often: its requests cost more
    /// until they are forgotten. Beyond what reaches the highest factor they change nothing. `false` if there is no such
    /// policy, or it has no [penalty](crate::Penalty).
    pub fn penalize<K: Hash + ?Sized>(&self, policy: &str, key: &K, strikes: u32) -> bool {
        let charge = self.charge(policy, key, 0);
        charge.is_some_and(|charge| self.limiter.penalize(&charge, strikes, Instant::now()))
    }

    /// How many strikes a key has with a policy. `None` if there is no such policy, or it has no penalty.
    pub fn strikes<K: Hash + ?Sized>(&self, policy: &str, key: &K) -> Option<u32> {
        let charge = self.charge(policy, key, 0)?;
        self.limiter.strikes(&charge, Instant::now())
    }

    /// The keys that were refused most often of late, or would have been in shadow mode, over all policies: up to `most`
    /// of them, and no more than 64, those most often first.
    ///
    /// Left out is who comes to less than half a refusal, see [`Offender::refusals`]. A key that is more than one in 64 refusals
    /// is always among those 64. Refusals that come at the very same time may be
    /// missed.
    pub fn top_offenders(&self, most: usize) -> Vec<Offender> {
        let now = self.limiter.nanos(Instant::now());
        self.limiter.top_offenders(most, now)
    }

    /// The id under which [`RateLimitHandle::top_offenders`] lists a key. `None` if there is no such policy.
    pub fn key_id<K: Hash + ?Sized>(&self, policy: &str, key: &K) -> Option<KeyId> {
        let charge = self.charge(policy, key, 0)?;
        Some(KeyId::of(charge.key))
    }

    /// Tells the recorder what is known only when it is asked for: how full the busiest keys' quotas are. Call it before
    /// each scrape; it does nothing without the feature `metrics`.
    pub fn record_gauges(&self) {
        let now = self.limiter.nanos(Instant::now());
        for (policy, tally) in (0..=u8::MAX).map(PolicyId).zip(self.limiter.tallies()) {
            tally.record_fill(self.limiter.fill(policy, now));
        }
    }

    /// Frees `key` of its debt and its strikes under a policy. What requests are still being served paid before is not given
    /// back to them any more, whatever their key. `false` if there is no such policy, or the key was not held.
    ///
    /// From then on it is as one that comes new, and begins with what keys owe that were forgotten for want of room, if
    /// there are any (it may be among them). In compact memory it begins with the least debt that another key in its line
    /// has.
    pub fn reset<K: Hash + ?Sized>(&self, policy: &str, key: &K) -> bool {
        let policy = self.limiter.policy(policy);
        policy.is_some_and(|policy| self.limiter.reset(policy, key))
    }

    fn charge<K: Hash + ?Sized>(&self, policy: &str, key: &K, cells: u32) -> Option<Charge> {
        let policy = self.limiter.policy(policy)?;
        Some(self.limiter.charge(policy, key, cells))
    }

    fn policy(&self, name: &str) -> Result<PolicyId, ConfigError> {
        let unknown = || ConfigError::new("name", "must be that of a policy").of_policy(name);
        self.limiter.policy(name).ok_or_else(unknown)
    }
}
