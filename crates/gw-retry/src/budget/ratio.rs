use std::fmt;
use std::sync::{PoisonError, TryLockError};
use std::time::Duration;

use gw_core::ConfigError;
use tokio::time::Instant;

use super::least::{Least, Share};
use crate::backoff::nanos;
use crate::ratio::Ratio;
use crate::sync::{AtomicI64, AtomicU64, Mutex, Ordering};

/// Retries as a part of the requests of the last while, and so many a second in any case. The pure core of a
/// [`Budget`](crate::Budget), for use without HTTP.
///
/// A retry is let through if those of the last ttl, this one included, are at most `ratio` × the requests of the last ttl; or if it
/// is one of the `min_per_second` that there always are, of which those of one second may come at once. Under steady load the two
/// do not add up: each retry counts in both. What a request brings is spent once.
///
/// What requests bring and retries take is kept in a ring of ten slots; the sum over the ring is one word, from which a
/// retry is taken by one CAS: it cannot be overdrawn, as it can be where checking and taking are two steps. So is the minimum, by
/// one of its own. Threads that ask at the same instant may be let through by both where in turn one would have been: by one retry
/// for each of them at most, which is owed afterwards. No request waits for a slot to be emptied:
/// one that comes meanwhile, some nanoseconds, is counted as if it had come just before. Parts are counted in millionths.
///
/// With the feature `tower` it is a budget of tower's as well. Two methods of that trait are called as two of these are, which take
/// the time: by hand they are called by the trait's name, `Budget::deposit(&budget)`.
pub struct RatioBudget {
    /// What requests have brought that is in no slot yet. It belongs to the current one. Where it is much, that is the one of the
    /// last look at the clock.
    arrived: AtomicI64,
    /// The sum over all slots. Below zero where retries were sent that requests did not pay for.
    balance: AtomicI64,
    /// The number of the current slot since the start. Deposits and withdrawals go to its place in the ring.
    current: AtomicU64,
    slots: [AtomicI64; SLOTS],
    /// Held while slots are emptied, and while a retry is given back or what a request brought is taken back: to a slot that
    /// must not be emptied meanwhile, and to the minimum by one at a time. A request that would empty them and does not get it goes on in
    /// the slot before; who asks for a retry waits.
    turning: Mutex<()>,
    slot_nanos: u64,
    /// What a request brings.
    income: AtomicI64,
    /// What is there without any request.
    least: Least,
    origin: Instant,
}

/// A retry that was taken out of a [`RatioBudget`], for [`RatioBudget::give_back`].
#[derive(Debug)]
#[must_use = "it is spent, unless it is given back"]
pub struct Taken {
    slot: u64,
    share: Share,
}

/// What a request has brought. Another ratio may be set before it is known whether it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Income {
    slot: u64,
    amount: i64,
}

const SLOTS: usize = 10;
/// What a retry takes.
const RETRY: i64 = Ratio::ONE as i64;
/// How much must have come since a slot began, and since somebody last asked for a retry, before not every request asks what time it
/// is: 134 retries' worth, so that what counts in the wrong slot is the 32nd part of what does in the right one.
const MUCH: i64 = 1 << 27;
/// One that brings it to the next multiple of 2 to the power of this, some four retries' worth, asks then.
const LOOK: u32 = 22;

/// Its terms: they stand in a log line.
impl fmt::Debug for RatioBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ttl = Duration::from_nanos(self.slot_nanos.saturating_mul(SLOTS as u64));
        f.debug_struct("RatioBudget")
            .field("ratio", &self.ratio())
            .field("ttl", &ttl)
            .field("min_per_second", &self.min_per_second())
            .finish()
    }
}

impl Taken {
    /// Out of no budget.
    pub(super) const NOTHING: Self = Self {
        slot: 0,
        share: Share::NOTHING,
    };
}

impl Income {
    /// To no budget.
    pub(crate) const NOTHING: Self = Self { slot: 0, amount: 0 };
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
        let income = income(ratio)?;
        if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&ttl) {
            return Err(ConfigError::new("ttl", "must be from 1 s to an hour"));
        }
        Ok(Self {
            arrived: AtomicI64::new(0),
            balance: AtomicI64::new(0),
            current: AtomicU64::new(0),
            slots: std::array::from_fn(|_| AtomicI64::new(0)),
            turning: Mutex::new(()),
            slot_nanos: nanos(ttl) / SLOTS as u64,
            income: AtomicI64::new(income),
            least: Least::new(min_per_second),
            origin: Instant::now(),
        })
    }

    /// Counts a request that is sent for the first time.
    #[inline]
    pub fn deposit(&self, now: Instant) {
        self.count(now);
    }

    /// As [`deposit`](Self::deposit), and tells what the request brings.
    #[inline]
    pub(crate) fn count(&self, now: Instant) -> Income {
        self.turn(now);
        self.arrive().1
    }

    /// Adds what a request brings to what has arrived; what that was before.
    #[inline]
    fn arrive(&self) -> (i64, Income) {
        let amount = self.income.load(Ordering::Relaxed);
        // Acquire, and the slot only then: it is that in which the amount will be or, but for one that comes while slots are just being
        // emptied, a later one.
        let before = self.arrived.fetch_add(amount, Ordering::Acquire);
        let slot = self.current.load(Ordering::Acquire);
        (before, Income { slot, amount })
    }

    /// As [`count`](Self::count), of a request that is sent now. The clock is the dearest part of it, so where many requests come, not each
    /// of them asks for the time. Those in between count as if they had come at the last look: what they bring is forgotten too
    /// early if at all, and no retry is let through for which none of the last ttl has paid.
    #[inline]
    pub(crate) fn count_now(&self) -> Income {
        self.count_by(Instant::now)
    }

    #[inline]
    pub(super) fn count_by(&self, clock: impl FnOnce() -> Instant) -> Income {
        if self.arrived.load(Ordering::Relaxed) < MUCH {
            return self.count(clock());
        }
        let (before, income) = self.arrive();
        // One thread finds each multiple, however many add at once.
        if (before ^ (before + income.amount)) >> LOOK != 0 {
            self.turn(clock());
        }
        income
    }

    /// Takes back what a request has brought, since it turns out not to be sent. Once its time is over nothing happens. What was
    /// lent on it meanwhile is owed.
    #[cold]
    pub(crate) fn take_back(&self, Income { slot, amount }: Income) {
        // Out of no slot that is emptied meanwhile, see `give_back`.
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        let current = self.current.load(Ordering::Acquire);
        if current.saturating_sub(slot) < SLOTS as u64 {
            // Before it is there, if it has only arrived: who asks puts it there first.
            self.slot(slot).fetch_sub(amount, Ordering::Relaxed);
            self.balance.fetch_sub(amount, Ordering::Relaxed);
        }
    }

    /// Puts into the current slot what requests have brought since the last time. Who asks for a retry at the same instant may not
    /// see it yet.
    fn settle(&self, current: u64) {
        if self.arrived.load(Ordering::Relaxed) == 0 {
            return;
        }
        let arrived = self.arrived.swap(0, Ordering::AcqRel);
        // The slot first: were it the sum, a turn in between would take out what is not in it yet.
        self.slot(current).fetch_add(arrived, Ordering::Relaxed);
        self.balance.fetch_add(arrived, Ordering::Relaxed);
    }

    /// Takes one retry, if there is one.
    pub fn withdraw(&self, now: Instant) -> Option<Taken> {
        let slot = self.turned(now);
        self.settle(slot);
        let since = self.since(now);
        let share = if self.pay() {
            self.least.count(since)
        } else {
            let share = self.least.take(since)?;
            self.balance.fetch_sub(RETRY, Ordering::Relaxed);
            share
        };
        // Before its slot is emptied or after: then it is given back later, never earlier.
        self.slot(slot).fetch_sub(RETRY, Ordering::Relaxed);
        Some(Taken { slot, share })
    }

    /// Takes what a retry costs from what requests have brought, if that is enough.
    fn pay(&self) -> bool {
        let mut balance = self.balance.load(Ordering::Relaxed);
        while balance >= RETRY {
            // Relaxed: the word is all that decides, and nothing is published with it.
            match self.balance.compare_exchange_weak(
                balance,
                balance - RETRY,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(found) => balance = found,
            }
        }
        false
    }

    /// Gives back a retry that turns out at `now` not to be sent. Once its time is over it has come back by itself, and nothing
    /// happens; of the minimum, what may have come back by itself is not given back.
    pub fn give_back(&self, Taken { slot, share }: Taken, now: Instant) {
        // Were the slot emptied between the look and what follows, the retry would have come back by itself and be given back
        // a second time. Waiting for that takes some nanoseconds, and few retries are not sent. A panic leaves numbers whole.
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        self.least.give_back(share, self.since(now));
        let current = self.current.load(Ordering::Acquire);
        if current.saturating_sub(slot) < SLOTS as u64 {
            self.slot(slot).fetch_add(RETRY, Ordering::Relaxed);
            self.balance.fetch_add(RETRY, Ordering::Relaxed);
        }
    }

    /// How many retries could be taken at `now`.
    pub fn available(&self, now: Instant) -> u64 {
        let current = self.turned(now);
        self.settle(current);
        let paid = self.balance.load(Ordering::Relaxed) / RETRY;
        let least = self.least.available(self.since(now));
        u64::try_from(paid).unwrap_or(0).max(least)
    }

    /// Whether nothing can ever be taken.
    pub fn is_zero(&self) -> bool {
        self.income.load(Ordering::Relaxed) == 0 && self.least.per_second() == 0
    }

    /// The part of the requests that retries may be.
    pub fn ratio(&self) -> f64 {
        // Rounding is nothing to a reader.
        self.income.load(Ordering::Relaxed) as f64 / RETRY as f64
    }

    /// The part that they may be from now on, 0 to 10. What requests have brought and retries have taken stays as it is, until
    /// its time is over.
    ///
    /// # Errors
    ///
    /// If it is out of its range; then nothing changes.
    pub fn set_ratio(&self, ratio: f64) -> Result<(), ConfigError> {
        self.income.store(income(ratio)?, Ordering::Relaxed);
        Ok(())
    }

    /// The retries a second that there always are.
    pub fn min_per_second(&self) -> u32 {
        self.least.per_second()
    }

    /// How many they are from now on. How long it takes for what has been taken of them to come back stays as it is.
    pub fn set_min_per_second(&self, min: u32) {
        self.least.set(min);
    }

    fn since(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.origin))
    }

    /// Empties the slots whose time is over at `now`, unless somebody is at it.
    #[inline]
    fn turn(&self, now: Instant) {
        if let Err(target) = self.current(now) {
            self.try_turn(target);
        }
    }

    /// The number of the slot at `now`, with those emptied whose time is over.
    fn turned(&self, now: Instant) -> u64 {
        self.current(now).unwrap_or_else(|target| {
            // What is there may be of long ago, if nobody has looked since: who asks for a retry must not find it.
            let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
            self.turn_to(target)
        })
    }

    /// The current slot.
    ///
    /// # Errors
    ///
    /// The one that should be, if its time is over at `now`.
    #[inline]
    fn current(&self, now: Instant) -> Result<u64, u64> {
        let current = self.current.load(Ordering::Acquire);
        let elapsed = self.since(now);
        // A product and no quotient: this runs for each request.
        if elapsed < (current + 1).saturating_mul(self.slot_nanos) {
            return Ok(current);
        }
        Err(elapsed / self.slot_nanos)
    }

    #[cold]
    fn try_turn(&self, target: u64) {
        // Who turns next sees the slots as they were left.
        let turning = self.turning.try_lock();
        if !matches!(turning, Err(TryLockError::WouldBlock)) {
            self.turn_to(target);
        }
    }

    /// While it is locked.
    fn turn_to(&self, target: u64) -> u64 {
        let current = self.current.load(Ordering::Acquire);
        self.settle(current);
        let first = current + 1;
        let last = target.min(current.saturating_add(SLOTS as u64));
        for number in first..=last {
            let over = self.slot(number).swap(0, Ordering::Relaxed);
            self.balance.fetch_sub(over, Ordering::Relaxed);
        }
        // Only now, so that nobody uses a slot that is about to be emptied.
        let target = target.max(current);
        self.current.store(target, Ordering::Release);
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
    #[cfg(test)]
    pub(super) fn slot_start(&self, number: u64) -> Instant {
        self.origin + Duration::from_nanos(self.slot_nanos * number)
    }
}

/// What a request brings.
fn income(ratio: f64) -> Result<i64, ConfigError> {
    let ratio = Ratio::new(ratio, 10.0).ok_or(ConfigError::new("ratio", "must be from 0 to 10"))?;
    Ok(ratio.millionths().into())
}
