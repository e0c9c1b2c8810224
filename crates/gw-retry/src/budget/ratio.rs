use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use gw_core::ConfigError;
use tokio::time::Instant;

use crate::backoff::nanos;
use crate::ratio::Ratio;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// Retries as a part of the requests of the last while, and some in any case. The pure core of a
/// [`Budget`](crate::Budget), for use without HTTP.
///
/// Whenever a retry is let through, those of the last ttl, this one included, are at most `ratio` × the requests of the
/// last ttl plus `min_per_second` × ttl. What a request brings is spent once.
///
/// Both are counted in a ring of ten slots. A request, of which there are many, is one atomic addition to its slot. A retry is
/// taken by one CAS on how many were taken: it cannot be overdrawn, as it can be where checking and taking are two steps. Nobody
/// waits for a slot to be emptied: who asks meanwhile, some nanoseconds, is served as if it had asked just before. Parts are
/// counted in millionths.
#[derive(Debug)]
pub struct RatioBudget {
    /// The number of the current slot since the start. It stands at its place in the ring.
    current: AtomicU64,
    /// How many requests came in each slot.
    requests: [AtomicU64; SLOTS],
    /// How many retries were taken in each.
    retries: [AtomicU64; SLOTS],
    /// How many were taken in all of them.
    taken: AtomicU64,
    /// Held while slots are emptied, and while a retry is given back to one that must not be emptied meanwhile. Who wants to
    /// empty them and does not get it goes on in the slot before.
    turning: Mutex<()>,
    slot_nanos: u64,
    /// What a request brings.
    income: u32,
    /// What is there without any request.
    reserve: u64,
    origin: Instant,
}

const SLOTS: usize = 10;
/// What a retry takes.
const RETRY: u128 = Ratio::ONE as u128;

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
            retries: std::array::from_fn(|_| AtomicU64::new(0)),
            taken: AtomicU64::new(0),
            turning: Mutex::new(()),
            slot_nanos: nanos(ttl) / SLOTS as u64,
            income: ratio.millionths(),
            reserve: u64::try_from(reserve).unwrap_or(u64::MAX),
            origin: Instant::now(),
        })
    }

    /// Counts a request that is sent for the first time.
    #[inline]
    pub fn deposit(&self, now: Instant) {
        // Relaxed: the number is all there is, and nothing is published with it.
        at(&self.requests, self.turn(now)).fetch_add(1, Ordering::Relaxed);
    }

    /// Takes one retry, if there is one; when, as the budget counts time, for [`give_back`](Self::give_back).
    pub fn withdraw(&self, now: Instant) -> Option<u64> {
        let current = self.turn(now);
        let mut taken = self.taken.load(Ordering::Relaxed);
        while taken < self.allowed() {
            // Relaxed: the word is all that decides, and nothing is published with it.
            match self.taken.compare_exchange_weak(
                taken,
                taken + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => {
                    // Before its slot is emptied or after: then it comes back later, never earlier.
                    at(&self.retries, current).fetch_add(1, Ordering::Relaxed);
                    return Some(current);
                }
                Err(found) => taken = found,
            }
        }
        None
    }

    /// Gives back a retry that was not sent, taken out when [`withdraw`](Self::withdraw) says. Once its time is over it has
    /// come back by itself, and nothing happens.
    pub fn give_back(&self, taken: u64) {
        // Were the slot emptied between the look and what follows, the retry would have come back by itself and be given back
        // a second time. Waiting for that takes some nanoseconds, and few retries are not sent. A panic leaves numbers whole.
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load(Ordering::Relaxed);
        if current.saturating_sub(taken) < SLOTS as u64 {
            at(&self.retries, taken).fetch_sub(1, Ordering::Relaxed);
            self.taken.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// How many retries could be taken at `now`.
    pub fn available(&self, now: Instant) -> u64 {
        self.turn(now);
        let taken = self.taken.load(Ordering::Relaxed);
        self.allowed().saturating_sub(taken)
    }

    /// Whether nothing can ever be taken.
    pub const fn is_zero(&self) -> bool {
        self.income == 0 && self.reserve < Ratio::ONE as u64
    }

    /// How many retries there may be in a ttl, by the requests of the last one.
    fn allowed(&self) -> u64 {
        let requests = self.requests.iter();
        let requests: u128 = requests
            .map(|it| u128::from(it.load(Ordering::Relaxed)))
            .sum();
        let worth = requests * u128::from(self.income) + u128::from(self.reserve);
        u64::try_from(worth / RETRY).unwrap_or(u64::MAX)
    }

    /// The number of the slot at `now`, with those emptied whose time is over.
    #[inline]
    fn turn(&self, now: Instant) -> u64 {
        // Acquire, and release where it is set: a slot was emptied before anything is added to it.
        let current = self.current.load(Ordering::Acquire);
        let end = Duration::from_nanos((current + 1).saturating_mul(self.slot_nanos));
        // A sum and no difference or quotient, which are dearer: this runs for each request.
        match self.origin.checked_add(end) {
            Some(end) if now >= end => self.turn_to(now),
            _ => current,
        }
    }

    #[cold]
    fn turn_to(&self, now: Instant) -> u64 {
        // Who turns next sees the slots as they were left.
        let turning = self.turning.try_lock();
        let current = self.current.load(Ordering::Relaxed);
        if matches!(turning, Err(TryLockError::WouldBlock)) {
            return current;
        }
        let elapsed = nanos(now.saturating_duration_since(self.origin));
        let target = (elapsed / self.slot_nanos).max(current);
        let last = target.min(current.saturating_add(SLOTS as u64));
        for slot in current + 1..=last {
            at(&self.requests, slot).store(0, Ordering::Relaxed);
            let over = at(&self.retries, slot).swap(0, Ordering::Relaxed);
            self.taken.fetch_sub(over, Ordering::Relaxed);
        }
        // Only now, so that nobody uses a slot that is about to be emptied.
        self.current.store(target, Ordering::Release);
        target
    }

    /// Whether as many were taken as the slots say, as it is when nobody is at it.
    #[cfg(all(test, loom))]
    pub(super) fn is_balanced(&self) -> bool {
        let slots = self.retries.iter().map(|it| it.load(Ordering::Relaxed));
        slots.sum::<u64>() == self.taken.load(Ordering::Relaxed)
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
