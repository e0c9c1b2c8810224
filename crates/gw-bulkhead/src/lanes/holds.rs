use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use gw_core::Mode;
use gw_core::at_hand::Lent;
use tokio::time::Instant;

use super::limiter::Run;
use super::{Inner, LaneId, Permit, Reason, Refusal, wake_all};
use crate::limit::Outcome;
use crate::sync::{AtomicU64, Mutex, Ordering, lock};

/// The permits whose time is limited, by when it ends.
///
/// A body that nobody polls cannot watch a clock, and a layer must not spawn a task that does. So a limited permit
/// lies in here, and who holds it has only its key: the holder takes it out to give it back, and when a place is
/// needed, whoever needs it takes out those whose time is over. Both take it out under the lock, so each permit is
/// given back once. There is one entry per permit held, so there are never more than the lanes admit.
#[derive(Debug)]
pub(super) struct Holds {
    epoch: Instant,
    /// When the first hold ends, in nanoseconds since the epoch: what is asked most often needs no lock.
    next: AtomicU64,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    permits: BTreeMap<Key, Hold>,
    /// Those who wait for places, by when they look at the clock again: a hold that ends before that wakes them.
    watchers: BTreeMap<Look, Waker>,
    serial: u64,
}

#[derive(Debug)]
pub(super) struct Hold {
    permit: Arc<Permit>,
    /// Whether its request was counted as cut.
    counted: bool,
}

type Key = (Instant, u64);

/// When somebody looks at the clock again, in nanoseconds since the epoch, and who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look(u64, u64);

const NEVER: u64 = u64::MAX;

/// For how long one who waits does not look at the clock again, so that it is not woken by each of the holds that end in the
/// meantime: all who wait are, in whichever lane, and there may be thousands of either. If somebody else looks, the places
/// are free then.
const TOGETHER: Duration = Duration::from_millis(20);

/// A permit with a time limit.
///
/// # Cancel safety
///
/// Dropping it gives the permit back, unless its time was over and somebody else has.
#[derive(Debug)]
pub(crate) struct TimedPermit {
    lanes: Lent<Inner>,
    lane: LaneId,
    key: Key,
    /// The permit itself, in a lane that is only tried out: nobody takes it back, so it does not lie in the holds.
    own: Option<Arc<Permit>>,
    /// Whether its request was counted as one that would have been refused or cut.
    shadowed: bool,
}

impl Holds {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            next: AtomicU64::new(NEVER),
            entries: Mutex::new(Entries::default()),
        }
    }

    /// Takes out all holds whose time is over at `now`. They are the caller's to count and to drop.
    pub(super) fn expired(&self, now: Instant) -> impl Iterator<Item = Hold> + use<> {
        let mut expired = BTreeMap::new();
        if self.nanos(now) >= self.next.load(Ordering::Acquire) {
            let mut entries = lock(&self.entries);
            let Entries { permits, .. } = &mut *entries;
            // The first one that is still good; serial numbers start at 1.
            let good = permits.split_off(&(now, u64::MAX));
            expired = std::mem::replace(permits, good);
            self.note_first(permits);
        }
        expired.into_values()
    }

    /// Sets down when somebody looks at the clock next: when the first hold ends of those that end after `now` (those
    /// that ended before stay in shadow mode) but not before [`TOGETHER`] is over, or at the deadline. Whoever it is, `waker`
    /// wakes it if a hold comes that ends so long before that. What is left of `waker` is for after the lock.
    pub(super) fn watch(
        &self,
        before: Option<Look>,
        now: Instant,
        deadline: Option<Instant>,
        waker: &mut Option<Waker>,
    ) -> (Look, Option<Instant>) {
        let mut entries = lock(&self.entries);
        let kept = before.and_then(|look| entries.watchers.remove(&look));
        let later = (Excluded((now, u64::MAX)), Unbounded);
        let end = entries.permits.range(later).next();
        let until = end
            .map(|((until, _), _)| (*until).max(now + TOGETHER))
            .into_iter()
            .chain(deadline)
            .min();
        let who = before.map_or_else(|| entries.serial(), |Look(_, who)| who);
        let look = Look(until.map_or(NEVER, |until| self.nanos(until)), who);
        if let Some(waker) = std::mem::replace(waker, kept) {
            entries.watchers.insert(look, waker);
        }
        (look, until)
    }

    /// Forgets somebody; the waker is for after the lock.
    pub(super) fn unwatch(&self, look: Look) -> Option<Waker> {
        lock(&self.entries).watchers.remove(&look)
    }

    #[cfg(all(test, not(loom)))]
    pub(super) fn is_locked(&self) -> bool {
        self.entries.try_lock().is_err()
    }

    fn insert(&self, permit: Arc<Permit>, until: Instant) -> Key {
        let (key, late) = {
            let mut entries = lock(&self.entries);
            let key = (until, entries.serial());
            let counted = false;
            entries.permits.insert(key, Hold { permit, counted });
            self.note_first(&entries.permits);
            // Below `NEVER`, so there is one more.
            let after = Look(self.nanos(until + TOGETHER) + 1, 0);
            (key, entries.watchers.split_off(&after))
        };
        wake_all(late.into_values());
        key
    }

    fn remove(&self, key: Key) -> Option<Arc<Permit>> {
        let mut entries = lock(&self.entries);
        let hold = entries.permits.remove(&key);
        self.note_first(&entries.permits);
        hold.map(|hold| hold.permit)
    }

    /// Notes that a request was cut; whether it is the first to say so.
    fn note_cut(&self, key: Key) -> bool {
        let mut entries = lock(&self.entries);
        let hold = entries.permits.get_mut(&key);
        // What was taken out was counted then.
        hold.is_some_and(|hold| !std::mem::replace(&mut hold.counted, true))
    }

    /// Called with the lock held, so the last one to write has seen the newest entries.
    fn note_first(&self, permits: &BTreeMap<Key, Hold>) {
        let next = permits
            .keys()
            .next()
            .map_or(NEVER, |(until, _)| self.nanos(*until));
        self.next.store(next, Ordering::Release);
    }

    /// In nanoseconds since the epoch.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.epoch).as_nanos();
        u64::try_from(nanos).unwrap_or(NEVER).min(NEVER - 1)
    }
}

impl Entries {
    fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }
}

impl Hold {
    /// The permit, and whether its request is still to be counted as cut.
    pub(super) fn into_parts(self) -> (Arc<Permit>, bool) {
        (self.permit, !self.counted)
    }
}

/// How often a request whose time is over looks whether it may still go on, which is where limits are not enforced: a change
/// of the mode wakes nobody.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl TimedPermit {
    /// Limits the time of `permit`.
    pub(crate) fn new(permit: Arc<Permit>, until: Instant) -> Self {
        let (lanes, lane) = (permit.lanes.clone(), permit.lane());
        let shadowed = permit.shadowed;
        // A lane's own mode stays as it is. That of all is asked when the time is over: it may be another one then.
        let (key, own) = match lanes.lane(lane).config.mode {
            Mode::Enforce => (lanes.holds.insert(permit, until), None),
            // The key of no hold: serial numbers start at 1.
            Mode::Shadow | Mode::Off => ((until, 0), Some(permit)),
        };
        Self {
            lanes,
            lane,
            key,
            own,
            shadowed,
        }
    }

    /// When the time is over.
    pub(crate) const fn until(&self) -> Instant {
        self.key.0
    }

    /// Whether its request may ever be cut.
    #[cfg(feature = "threads")]
    pub(crate) const fn is_bounded(&self) -> bool {
        self.own.is_none()
    }

    /// Whether nothing will come of its time any more: it may never be cut, and is counted.
    pub(crate) const fn is_settled(&self) -> bool {
        self.own.is_some() && self.shadowed
    }

    /// In nanoseconds since the lanes were made.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        self.lanes.holds.nanos(at)
    }

    /// Notes how its request ended.
    pub(crate) fn ended(&self, run: Run, outcome: Outcome) {
        self.lanes.ended(self.lane, run, outcome);
    }

    /// Whether it is over at `now`, and time limits are enforced. Where they are only tried out that is counted, once.
    pub(crate) fn is_over(&mut self, now: Instant) -> bool {
        if now < self.until() {
            return false;
        }
        let mode = self.lanes.mode_of(self.lane);
        if mode == Mode::Shadow && !std::mem::replace(&mut self.shadowed, true) {
            self.lanes.would_refuse(self.lane, Reason::MaxHold, now);
        }
        mode == Mode::Enforce
    }

    /// Counts that the request was cut, unless that was done when its place was needed.
    pub(crate) fn cut(&self, now: Instant) -> Refusal {
        if self.lanes.holds.note_cut(self.key) {
            return self.lanes.refuse(self.lane, Reason::MaxHold, now);
        }
        Refusal::new(Reason::MaxHold, self.lanes.lane(self.lane).wait())
    }

    /// The permit without a limit; `None` if its time was over and it was needed.
    pub(crate) fn unlimited(mut self) -> Option<Arc<Permit>> {
        self.take()
    }

    fn take(&mut self) -> Option<Arc<Permit>> {
        let own = self.own.take();
        own.or_else(|| self.lanes.holds.remove(self.key))
    }
}

impl Drop for TimedPermit {
    fn drop(&mut self) {
        let permit = self.take();
        // What nobody asked about since is counted now: in shadow mode nobody takes it back. What ends just then is let pass.
        if permit.is_some() && !self.shadowed && self.lanes.mode_of(self.lane) == Mode::Shadow {
            let now = Instant::now();
            if self.until() < now {
                self.is_over(now);
            }
        }
    }
}
