use std::fmt;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use gw_core::ConfigError;
use tokio::time::Instant;

use crate::backoff::nanos;
use crate::ratio::Ratio;
use crate::sync::{AtomicI64, AtomicU64, Mutex, Ordering};

/// Retries as a part of the requests of the last while, and some in any case. The pure core of a
/// [`Budget`](crate::Budget), for use without HTTP.
///
/// Whenever a retry is let through, those of the last ttl, this one included, are at most `ratio` × the requests of the
/// last ttl plus `min_per_second` × ttl. What a request brings is spent once.
///
/// What requests bring and retries take is kept in a ring of ten slots; the sum over the ring is one word, from which a
/// retry is taken by one CAS: it cannot be overdrawn, as it can be where checking and taking are two steps. Nobody waits for
/// a slot to be emptied: who asks meanwhile, some nanoseconds, is served as if it had asked just before. Parts are counted in
/// millionths.
pub struct RatioBudget {
    /// The sum over all slots; a retry needs it and the reserve to be worth one.
    balance: AtomicI64,
    /// The number of the current slot since the start. Deposits and withdrawals go to its place in the ring.
    current: AtomicU64,
    slots: [AtomicI64; SLOTS],
    /// Held while slots are emptied, and while a retry is given back to one that must not be emptied meanwhile. Who wants to
    /// empty them and does not get it goes on in the slot before.
    turning: Mutex<()>,
    slot_nanos: u64,
    /// What a request brings.
    income: i64,
    /// What is there without any request.
    reserve: i64,
    origin: Instant,
}

const SLOTS: usize = 10;
/// What a retry takes.
const RETRY: i64 = Ratio::ONE as i64;

/// Its terms, and what is left: it stands in a log line.
impl fmt::Debug for RatioBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounding is nothing to a reader.
        let retries = |millionths: i64| millionths as f64 / RETRY as f64;
        let ttl = Duration::from_nanos(self.slot_nanos.saturating_mul(SLOTS as u64));
        let left = self.balance.load(Ordering::Relaxed) + self.reserve;
        f.debug_struct("RatioBudget")
            .field("ratio", &retries(self.income))
            .field("ttl", &ttl)
            .field(
                "min_per_second",
                &(retries(self.reserve) / ttl.as_secs_f64()),
            )
            .field("left", &retries(left))
            .finish()
    }
}

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
        // At most 4 · 10^9 a second for 3,600 s in millionths, cut off where it could get near the end of the word.
        let reserve = u128::from(min_per_second) * ttl.as_nanos() / 1_000;
        Ok(Self {
            balance: AtomicI64::new(0),
            current: AtomicU64::new(0),
            slots: std::array::from_fn(|_| AtomicI64::new(0)),
            turning: Mutex::new(()),
            slot_nanos: nanos(ttl) / SLOTS as u64,
            income: i64::from(ratio.millionths()),
            reserve: i64::try_from(reserve).unwrap_or(i64::MAX).min(i64::MAX / 4),
            origin: Instant::now(),
        })
    }

    /// Counts a request that is sent for the first time.
    #[inline]
    pub fn deposit(&self, now: Instant) {
        let current = self.turn(now);
        // The slot first: were it the sum, a turn in between would take out what is not in it yet.
        self.slot(current).fetch_add(self.income, Ordering::Relaxed);
        self.balance.fetch_add(self.income, Ordering::Relaxed);
    }

    /// Takes one retry, if there is one; when, as the budget counts time, for [`give_back`](Self::give_back).
    pub fn withdraw(&self, now: Instant) -> Option<u64> {
        let current = self.turn(now);
        let mut balance = self.balance.load(Ordering::Relaxed);
        loop {
            if balance + self.reserve < RETRY {
                return None;
            }
            // Relaxed: the word is all that decides, and nothing is published with it.
            match self.balance.compare_exchange_weak(
                balance,
                balance - RETRY,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => break,
                Err(found) => balance = found,
            }
        }
        // Before its slot is emptied or after: then it is given back later, never earlier.
        self.slot(current).fetch_sub(RETRY, Ordering::Relaxed);
        Some(current)
    }

    /// Gives back a retry that was not sent, taken out when [`withdraw`](Self::withdraw) says. Once its time is over it has
    /// come back by itself, and nothing happens.
    pub fn give_back(&self, taken: u64) {
        // Were the slot emptied between the look and what follows, the retry would have come back by itself and be given back
        // a second time. Waiting for that takes some nanoseconds, and few retries are not sent. A panic leaves numbers whole.
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load(Ordering::Relaxed);
        if current.saturating_sub(taken) < SLOTS as u64 {
            self.slot(taken).fetch_add(RETRY, Ordering::Relaxed);
            self.balance.fetch_add(RETRY, Ordering::Relaxed);
        }
    }

    /// How many retries could be taken at `now`.
    pub fn available(&self, now: Instant) -> u64 {
        self.turn(now);
        let left = self.balance.load(Ordering::Relaxed) + self.reserve;
        u64::try_from(left / RETRY).unwrap_or(0)
    }

    /// Whether nothing can ever be taken.
    pub const fn is_zero(&self) -> bool {
        self.income == 0 && self.reserve < RETRY
    }

    /// The number of the slot at `now`, with those emptied whose time is over.
    #[inline]
    fn turn(&self, now: Instant) -> u64 {
        let current = self.current.load(Ordering::Relaxed);
        let elapsed = nanos(now.saturating_duration_since(self.origin));
        // A product and no quotient: this runs for each request.
        if elapsed < (current + 1).saturating_mul(self.slot_nanos) {
            return current;
        }
        self.turn_to(elapsed / self.slot_nanos)
    }

    #[cold]
    fn turn_to(&self, target: u64) -> u64 {
        // Who turns next sees the slots as they were left.
        let turning = self.turning.try_lock();
        let current = self.current.load(Ordering::Relaxed);
        if matches!(turning, Err(TryLockError::WouldBlock)) {
            return current;
        }
        let first = current + 1;
        let last = target.min(current.saturating_add(SLOTS as u64));
        for number in first..=last {
            let over = self.slot(number).swap(0, Ordering::Relaxed);
            self.balance.fetch_sub(over, Ordering::Relaxed);
        }
        // Only now, so that nobody uses a slot that is about to be emptied.
        let target = target.max(current);
        self.current.store(target, Ordering::Relaxed);
        target
    }

    #[expect(clippy::indexing_slicing, reason = "a remainder is in range")]
    fn slot(&self, number: u64) -> &AtomicI64 {
        &self.slots[(number % SLOTS as u64) as usize]
    }

    /// The sum over the slots, which is the balance when nobody is at it.
    #[cfg(all(test, loom))]
    pub(super) fn is_balanced(&self) -> bool {
        let sum: i64 = self.slots.iter().map(|s| s.load(Ordering::Relaxed)).sum();
        sum == self.balance.load(Ordering::Relaxed)
    }

    /// When the n-th slot begins, for models.
    #[cfg(all(test, loom))]
    pub(super) fn slot_start(&self, number: u64) -> Instant {
        self.origin + Duration::from_nanos(self.slot_nanos * number)
    }
}
