use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use gw_core::ConfigError;
use tokio::time::Instant;

use crate::backoff::nanos;
use crate::ratio::Ratio;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};

/// Retries as a part of the requests of the last while, and some in any case. The pure core of a
/// [`Budget`](crate::Budget), for use without HTTP.
///
/// Whenever a retry is let through, those of the last ttl, this one included, are at most `ratio` × the requests of the
/// last ttl plus `min_per_second` × ttl. What a request brings is spent once.
///
/// Requests and retries are counted in a ring of ten slots. Requests, which are many, only add to their slot, with one atomic
/// addition; retries are few and are taken one at a time, so that they cannot be overdrawn, as they can be where checking and
/// taking are two steps. No request waits for a slot to be emptied or a retry to be taken: one that comes meanwhile, some
/// nanoseconds, is counted as if it had come just before. Parts are counted in millionths.
#[derive(Debug)]
pub struct RatioBudget {
    /// The number of the current slot since the start. It stands at its place in the ring.
    current: AtomicU64,
    /// How many requests came in each slot.
    requests: [AtomicU64; SLOTS],
    /// How many retries were taken in each. Held while slots are emptied as well: a request that wants to empty them and does
    /// not get it is counted in the slot before.
    retries: Mutex<[u64; SLOTS]>,
    slot_nanos: u64,
    /// What a request brings.
    income: u32,
    /// What is there without any request.
    reserve: u64,
    origin: Instant,
}

const SLOTS: usize = 10;
/// What a retry takes.
const RETRY: i128 = Ratio::ONE as i128;

impl RatioBudget {
    /// The ratio unless set.
    pub const RATIO: f64 = 0.2;
    /// The ttl unless set.
    pub const TTL: Duration = Duration::from_secs(10);
    /// The retries a second in any case unless set.
    pub const MIN_PER_SECOND: u32 = 10;

    /// `ratio` is 0 to 10, `ttl` 1 s to an hour.
    ///
    /// # Errors
    ///
    /// If one of them is out of its range.
    pub fn new(ratio: f64, ttl: Duration, min_per_second: u32) -> Result<Self, ConfigError> {
        let ratio =
            Ratio::new(ratio, 10.0).ok_or(ConfigError::new("ratio", "must be from 0 to 10"))?;
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&ttl) {
            return Err(ConfigError::new("ttl", "must be from 1 s to an hour"));
        }
        // At most 4 · 10^9 a second for 3,600 s in millionths.
        let reserve = u128::from(min_per_second) * ttl.as_nanos() / 1_000;
        Ok(Self {
            current: AtomicU64::new(0),
            requests: std::array::from_fn(|_| AtomicU64::new(0)),
            retries: Mutex::new([0; SLOTS]),
            slot_nanos: nanos(ttl) / SLOTS as u64,
            income: ratio.millionths(),
            reserve: u64::try_from(reserve).unwrap_or(u64::MAX),
            origin: Instant::now(),
        })
    }

    /// Counts a request that is sent for the first time.
    #[inline]
    pub fn deposit(&self, now: Instant) {
        // Acquire, and release where it is turned: the slot was emptied before it is added to.
        let mut current = self.current.load(Ordering::Acquire);
        if self.is_over(current, now) {
            current = self.try_turn(now);
        }
        // Relaxed: the number is all there is, and nothing is published with it.
        at(&self.requests, current).fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one retry, if there is one; when, as the budget counts time, for [`give_back`](Self::give_back).
    pub fn withdraw(&self, now: Instant) -> Option<u64> {
        let mut retries = self.lock();
        let current = self.turn(&mut retries, now);
        if self.left(&retries) < RETRY {
            return None;
        }
        *at_mut(&mut retries, current) += 1;
        Some(current)
    }

    /// Gives back a retry that was not sent, taken out when [`withdraw`](Self::withdraw) says. Once its time is over it has
    /// come back by itself, and nothing happens.
    pub fn give_back(&self, taken: u64) {
        let mut retries = self.lock();
        let current = self.current.load(Ordering::Relaxed);
        if current.saturating_sub(taken) < SLOTS as u64 {
            let retries = at_mut(&mut retries, taken);
            *retries = retries.saturating_sub(1);
        }
    }

    /// How many retries could be taken at `now`.
    pub fn available(&self, now: Instant) -> u64 {
        let mut retries = self.lock();
        self.turn(&mut retries, now);
        let left = self.left(&retries).max(0);
        u64::try_from(left / RETRY).unwrap_or(u64::MAX)
    }

    /// Whether nothing can ever be taken.
    pub const fn is_zero(&self) -> bool {
        self.income == 0 && self.reserve < Ratio::ONE as u64
    }

    /// Whether this slot has ended at `now`.
    #[inline]
    fn is_over(&self, slot: u64, now: Instant) -> bool {
        let end = Duration::from_nanos((slot + 1).saturating_mul(self.slot_nanos));
        // A sum and no difference or quotient, which are dearer: this runs for each request.
        self.origin.checked_add(end).is_some_and(|end| now >= end)
    }

    #[cold]
    fn try_turn(&self, now: Instant) -> u64 {
        let mut retries = match self.retries.try_lock() {
            Ok(retries) => retries,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return self.current.load(Ordering::Relaxed),
        };
        self.turn(&mut retries, now)
    }

    /// The number of the slot at `now`, with those emptied whose time is over.
    fn turn(&self, retries: &mut [u64; SLOTS], now: Instant) -> u64 {
        let current = self.current.load(Ordering::Relaxed);
        let elapsed = nanos(now.saturating_duration_since(self.origin));
        let target = elapsed / self.slot_nanos;
        if target <= current {
            return current;
        }
        let last = target.min(current.saturating_add(SLOTS as u64));
        for slot in current + 1..=last {
            at(&self.requests, slot).store(0, Ordering::Relaxed);
            *at_mut(retries, slot) = 0;
        }
        // Only now, so that no request uses a slot that is about to be emptied.
        self.current.store(target, Ordering::Release);
        target
    }

    /// What is there for further retries.
    fn left(&self, retries: &[u64; SLOTS]) -> i128 {
        let requests = self.requests.iter();
        let requests: i128 = requests
            .map(|it| i128::from(it.load(Ordering::Relaxed)))
            .sum();
        let retries: i128 = retries.iter().copied().map(i128::from).sum();
        requests * i128::from(self.income) + i128::from(self.reserve) - retries * RETRY
    }

    /// A panic leaves numbers whole.
    fn lock(&self) -> MutexGuard<'_, [u64; SLOTS]> {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the n-th slot begins, for models.
    #[cfg(all(test, loom))]
    pub(super) fn slot_start(&self, number: u64) -> Instant {
        self.origin + Duration::from_nanos(self.slot_nanos * number)
    }
}

/// What is at the place of a slot in a ring.
#[inline]
#[expect(clippy::indexing_slicing, reason = "a remainder is in range")]
const fn at<T>(ring: &[T; SLOTS], slot: u64) -> &T {
    &ring[(slot % SLOTS as u64) as usize]
}

#[expect(clippy::indexing_slicing, reason = "a remainder is in range")]
const fn at_mut<T>(ring: &mut [T; SLOTS], slot: u64) -> &mut T {
    &mut ring[(slot % SLOTS as u64) as usize]
}
