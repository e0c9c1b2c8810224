//! Limiters without HTTP, each as its project means it to be used: one quota, one state a key.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota as Theirs, RateLimiter};
use gw_ratelimit::{Limiter, Memory, PolicyId, Quota};
use gw_tests::bench::Result;
use pingora_limits::rate::Rate;
use tokio::time::Instant;

use crate::walk::text;

/// What is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// More for a client than a thread can ask for while it is measured.
    Ample,
    /// More for each of many clients than it will ask for. Each stays in debt while it is measured: no key gives way.
    Lasting,
    /// One check a key, and then none for an hour.
    Scarce,
}

impl Allowance {
    /// The time a cell takes to come back, and the burst. Compact memory counts no finer than by these.
    const fn terms(self) -> (Duration, u32) {
        match self {
            Self::Ample => (Duration::from_micros(100), u32::MAX),
            Self::Lasting => (Duration::from_secs(10), 3_000_000),
            Self::Scarce => (Duration::from_secs(3600), 1),
        }
    }
}

/// A limiter with keys of one type.
pub trait Check<K> {
    /// Whether one more is allowed.
    fn check(&self, key: &K) -> bool;
}

/// A kind of key, by number.
pub trait Key: Hash + Eq + Clone {
    /// The key of a number.
    fn of(number: u64) -> Self;
}

impl Key for u64 {
    fn of(number: u64) -> Self {
        number
    }
}

impl Key for String {
    fn of(number: u64) -> Self {
        text(number)
    }
}

/// Ours; it reads the clock for each check, as its layer does.
#[derive(Debug)]
pub struct Gw {
    limiter: Limiter,
    policy: PolicyId,
}

impl Gw {
    /// With a state for each key.
    ///
    /// # Errors
    ///
    /// If it cannot be built.
    pub fn new(allowance: Allowance) -> Result<Self> {
        // A little more than a million: shards fill unevenly.
        Self::with(Memory::exact(1_100_000), allowance)
    }

    /// With eight bytes a key, for so many keys.
    ///
    /// # Errors
    ///
    /// If it cannot be built.
    pub fn compact(keys: u64, allowance: Allowance) -> Result<Self> {
        Self::with(Memory::compact(keys.try_into()?), allowance)
    }

    fn with(memory: Memory, allowance: Allowance) -> Result<Self> {
        let (period, burst) = allowance.terms();
        let quota = Quota::per(period, 1).burst(burst);
        let builder = Limiter::builder().policy("a", quota).memory(memory);
        let limiter = builder.build()?;
        let policy = limiter.policy("a").ok_or("no such policy")?;
        Ok(Self { limiter, policy })
    }
}

impl<K: Hash> Check<K> for Gw {
    fn check(&self, key: &K) -> bool {
        let now = Instant::now();
        self.limiter.check(self.policy, key, 1, now).is_allowed()
    }
}

/// The same for callers that know the time already.
#[derive(Debug)]
pub struct GwAt {
    gw: Gw,
    now: Instant,
}

impl GwAt {
    /// At the time of the call.
    ///
    /// # Errors
    ///
    /// As [`Gw::new`].
    pub fn new(allowance: Allowance) -> Result<Self> {
        let gw = Gw::new(allowance)?;
        let now = Instant::now();
        Ok(Self { gw, now })
    }
}

impl<K: Hash> Check<K> for GwAt {
    fn check(&self, key: &K) -> bool {
        let Gw { limiter, policy } = &self.gw;
        limiter.check(*policy, key, 1, self.now).is_allowed()
    }
}

/// What a check cannot do without, and no limiter: the clock, a keyed hash, and one changed word in an array that is as large
/// as a limiter's memory.
#[derive(Debug)]
pub struct Array {
    words: Box<[AtomicU64]>,
    hashing: RandomState,
    epoch: Instant,
}

impl Array {
    /// With so many words.
    pub fn new(words: u64) -> Self {
        Self {
            words: (0..words).map(AtomicU64::new).collect(),
            hashing: RandomState::new(),
            epoch: Instant::now(),
        }
    }
}

impl<K: Hash> Check<K> for Array {
    fn check(&self, key: &K) -> bool {
        let now = self.epoch.elapsed().subsec_nanos();
        let hash = u128::from(self.hashing.hash_one(key));
        let at = (hash * self.words.len() as u128) >> 64;
        let Some(word) = self.words.get(at as usize) else {
            return false;
        };
        let seen = word.load(Ordering::Relaxed);
        let next = seen.wrapping_add(u64::from(now) | 1);
        let changed = word.compare_exchange(seen, next, Ordering::Relaxed, Ordering::Relaxed);
        changed.is_ok()
    }
}

/// governor, with its keyed default store.
pub struct Governor<K: Key, C: Clock = DefaultClock>(
    RateLimiter<K, DefaultKeyedStateStore<K>, C, NoOpMiddleware<C::Instant>>,
);

impl<K: Key> Governor<K> {
    /// With the clock that it takes by default, which reads the processor's counter.
    ///
    /// # Errors
    ///
    /// If there is no such quota.
    pub fn new(allowance: Allowance) -> Result<Self> {
        Ok(Self(RateLimiter::keyed(theirs(allowance)?)))
    }
}

impl<K: Key> Governor<K, MonotonicClock> {
    /// With the clock that ours reads.
    ///
    /// # Errors
    ///
    /// If there is no such quota.
    pub fn with_std_clock(allowance: Allowance) -> Result<Self> {
        let store = DefaultKeyedStateStore::default();
        Ok(Self(RateLimiter::new(
            theirs(allowance)?,
            store,
            MonotonicClock,
        )))
    }
}

fn theirs(allowance: Allowance) -> Result<Theirs> {
    let (period, burst) = allowance.terms();
    let quota = Theirs::with_period(period).ok_or("no such quota")?;
    Ok(quota.allow_burst(burst.try_into()?))
}

impl<K: Key, C: Clock> Check<K> for Governor<K, C> {
    fn check(&self, key: &K) -> bool {
        self.0.check_key(key).is_ok()
    }
}

impl<K: Key, C: Clock> std::fmt::Debug for Governor<K, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Governor")
    }
}

/// pingora-limits: no state for a key but counters that keys share, so what it says is an estimate.
pub struct Pingora {
    rate: Rate,
    limit: isize,
}

impl Pingora {
    /// With its default size, which is that of some ten thousand counters.
    pub fn new(allowance: Allowance) -> Self {
        let (interval, limit) = match allowance {
            Allowance::Ample | Allowance::Lasting => (Duration::from_secs(1), isize::MAX),
            Allowance::Scarce => (Duration::from_secs(3600), 1),
        };
        let rate = Rate::new(interval);
        Self { rate, limit }
    }
}

impl<K: Hash> Check<K> for Pingora {
    fn check(&self, key: &K) -> bool {
        self.rate.observe(key, 1) <= self.limit
    }
}

impl std::fmt::Debug for Pingora {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pingora")
    }
}
