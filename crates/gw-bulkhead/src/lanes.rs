//! The decision alone: who may run, who waits, who is refused. Without HTTP.
//!
//! A lane has a guaranteed share and a cap. A request runs if its lane is below its cap, and either below its
//! guarantee or fewer than the total are in flight. Within its guarantee a lane is admitted at once, even while
//! others have borrowed its idle places. The total bounds what is lent: a place beyond a guarantee is given only
//! while fewer than `total` are in flight, so that in flight can exceed the total only by guarantees that their owners
//! took back after they were lent, which is always less than the sum of all guarantees.
//!
//! Uncontended, admitting is one compare-and-swap on the lane, one addition to the total; giving back is two
//! subtractions. A lock is taken only when somebody waits.

mod counter;
mod drain_rate;
mod drained;
mod holds;
mod line;
mod permit;
mod snapshot;
mod state;
mod wait;

use std::collections::VecDeque;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use gw_core::context::Criticality;
use tokio::time::Instant;

use self::counter::{Counter, Word};
pub use self::drained::Drained;
use self::holds::Holds;
pub(crate) use self::holds::TimedPermit;
use self::line::Line;
pub use self::permit::Permit;
pub use self::snapshot::{LaneSnapshot, Rejections, Snapshot};
use self::state::{LaneState, Limits};
pub use self::wait::Wait;
use crate::config::{self, ConfigError, Mode};
use crate::lane::LaneConfig;
use crate::sync::{AtomicU8, AtomicU32, Mutex, Ordering, Padded, lock};
use crate::telemetry;

/// Lanes that share a total. Clones are the same lanes.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroU32;
/// use gw_bulkhead::{Entry, LaneConfig, Lanes};
/// use tokio::time::Instant;
///
/// let ten = NonZeroU32::new(10).unwrap();
/// let lanes = Lanes::new(ten, [LaneConfig::new("core"), LaneConfig::new("logs").cap(0.2)])?;
/// let logs = lanes.find("logs").unwrap();
///
/// let first = lanes.try_admit(logs).unwrap();
/// let second = lanes.try_admit(logs).unwrap();
/// assert!(lanes.try_admit(logs).is_none());
/// // The slow path queues or refuses, and says when to come back.
/// assert!(matches!(lanes.enter(logs, Instant::now()), Entry::Refused(_)));
///
/// drop(first);
/// assert!(lanes.try_admit(logs).is_some());
/// # Ok::<(), gw_bulkhead::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Lanes(Arc<Inner>);

/// Which lane of its [`Lanes`]. With other lanes than those that gave it out, it stands for any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(u8);

/// What became of a request that entered.
#[derive(Debug)]
pub enum Entry {
    /// It may run, and holds a place until the permit is dropped.
    Admitted(Permit),
    /// It waits for a place.
    Queued(Wait),
    /// It may not run.
    Refused(Refusal),
}

/// Why a request was refused, and when a place may be free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    wait: Option<Duration>,
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No place is free, and the lane has no queue.
    LaneFull,
    /// No place is free, and neither is one in the queue.
    QueueFull,
    /// It waited for too long.
    QueueTimeout,
    /// The lanes drain.
    Draining,
    /// It ran for too long: not refused, but cut.
    MaxHold,
}

/// What permits, waiting requests and handles share.
#[derive(Debug)]
struct Inner {
    total: Padded<Counter>,
    terms: Padded<Terms>,
    /// At least one lane, by type.
    first: LaneState,
    rest: Box<[LaneState]>,
    line: Mutex<Line>,
    holds: Holds,
}

/// What an operator may change. Read often, written hardly ever.
#[derive(Debug)]
struct Terms {
    total: AtomicU32,
    mode: AtomicU8,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoPlace {
    /// The lane is at its cap.
    Cap,
    /// Nothing is left to lend.
    Total,
    /// Others wait and come first.
    Behind,
    /// Nobody may enter any more.
    Draining,
}

/// For whom a place is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// For a request that has just arrived: it must not overtake.
    Arriving,
    /// For a request whose turn it is. The line is locked.
    Next,
}

impl LaneId {
    /// The lane that was declared first.
    pub(crate) const FIRST: Self = Self(0);

    /// Its place among the lanes.
    #[cfg(feature = "threads")]
    pub(crate) fn index(self) -> usize {
        self.0.into()
    }
}

impl Reason {
    pub(crate) const ALL: [Self; 5] = [
        Self::LaneFull,
        Self::QueueFull,
        Self::QueueTimeout,
        Self::Draining,
        Self::MaxHold,
    ];

    /// The word for it in answers and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::LaneFull => "lane_full",
            Self::QueueFull => "queue_full",
            Self::QueueTimeout => "queue_timeout",
            Self::Draining => "draining",
            Self::MaxHold => "max_hold",
        }
    }
}

impl Refusal {
    /// Why.
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// How long it may take until a place is free, by the rate at which the lane gave places back lately. At most 25
    /// seconds; `None` while the rate is not known.
    pub const fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

impl Lanes {
    /// Lanes that share `total` places.
    ///
    /// # Errors
    ///
    /// If there are no lanes or more than 64, a name is not plain or used twice, the guaranteed shares are more than 1
    /// together, or a lane has a value out of the range that its setter states.
    pub fn new(
        total: NonZeroU32,
        lanes: impl IntoIterator<Item = LaneConfig>,
    ) -> Result<Self, ConfigError> {
        let lanes: Vec<_> = lanes.into_iter().collect();
        let shares = config::check(&lanes)?;
        let ranks = ranks(&lanes);
        let mut states = lanes
            .into_iter()
            .zip(shares)
            .map(|(lane, shares)| LaneState::new(lane, shares, total));
        let Some(first) = states.next() else {
            return Err(ConfigError::new("lanes", "must be 1 to 64 lanes"));
        };
        Ok(Self(Arc::new(Inner {
            total: Padded(Counter::new()),
            terms: Padded(Terms {
                total: AtomicU32::new(total.get()),
                mode: AtomicU8::new(Mode::Enforce as u8),
            }),
            first,
            rest: states.collect(),
            line: Mutex::new(Line::new(ranks)),
            holds: Holds::new(Instant::now()),
        })))
    }

    /// The lane of this name.
    pub fn find(&self, name: &str) -> Option<LaneId> {
        let mut ids = (0..).map(LaneId).zip(self.0.lanes());
        ids.find_map(|(id, lane)| (lane.config.name() == name).then_some(id))
    }

    /// A place in `lane`, if one is free and nobody waits for it. Takes no lock unless somebody waits, and counts no
    /// refusal: a request that finds no place goes on to [`Lanes::enter`].
    pub fn try_admit(&self, lane: LaneId) -> Option<Permit> {
        self.0.take(lane, Turn::Arriving).ok()?;
        Some(self.permit(lane))
    }

    /// Admits, queues or refuses a request, and counts it if it is refused.
    ///
    /// In [`Mode::Shadow`] everything is admitted and what found no place is counted, in [`Mode::Off`] it is not
    /// counted either. Lanes that drain refuse in every mode.
    pub fn enter(&self, lane: LaneId, now: Instant) -> Entry {
        let inner = &self.0;
        let mode = inner.mode();
        inner.reap(now);
        let (queue, no_place) = match inner.take(lane, Turn::Arriving) {
            Ok(()) => return Entry::Admitted(self.permit(lane)),
            Err(no_place) => (inner.lane(lane).config.queue, no_place),
        };
        match (no_place, mode) {
            (NoPlace::Draining, _) => Entry::Refused(inner.refuse(lane, Reason::Draining, now)),
            (_, Mode::Shadow | Mode::Off) => {
                if mode == Mode::Shadow {
                    inner.refuse(lane, Reason::LaneFull, now);
                }
                if inner.force(lane).is_draining() {
                    inner.release(lane);
                    return Entry::Refused(inner.refuse(lane, Reason::Draining, now));
                }
                Entry::Admitted(self.permit(lane))
            }
            (NoPlace::Cap | NoPlace::Total, Mode::Enforce) if queue == 0 => {
                Entry::Refused(inner.refuse(lane, Reason::LaneFull, now))
            }
            (_, Mode::Enforce) => self.queue(lane, queue, now),
        }
    }

    /// How many places there are to lend.
    pub fn total(&self) -> u32 {
        self.0.terms.total.load(Ordering::Acquire)
    }

    /// Changes the total and with it what the lanes' shares come to.
    ///
    /// Nobody in flight is cut when it shrinks; lanes above their new limits admit nobody until they are below.
    pub fn resize(&self, total: NonZeroU32) {
        // One after the other: a request in between meets some of the new limits already. All hold once this returns.
        self.0.terms.total.store(total.get(), Ordering::Release);
        self.0.lanes().for_each(|lane| lane.resize(total));
        telemetry::resized(total);
        self.0.settle();
    }

    /// What the lanes do.
    pub fn mode(&self) -> Mode {
        self.0.mode()
    }

    /// Changes what the lanes do, from now on. Unless it is [`Mode::Enforce`], all that wait are admitted.
    pub fn set_mode(&self, mode: Mode) {
        self.0.terms.mode.store(mode as u8, Ordering::Release);
        telemetry::mode_changed(mode);
        if mode == Mode::Enforce {
            return;
        }
        let dispersed: Vec<_> = {
            let mut line = lock(&self.0.line);
            // Counted in before they are counted out, so that they are never nowhere.
            line.disperse()
                .inspect(|(lane, _)| {
                    self.0.force(*lane);
                    self.0.forget_waiter(*lane);
                })
                .collect()
        };
        wake_all(dispersed.into_iter().filter_map(|(_, waker)| waker));
    }

    /// Refuses new requests from now on, in every mode, and for good. Ready once nobody is in flight or waiting.
    pub fn drain(&self) -> Drained {
        self.0.total.start_draining();
        telemetry::draining();
        self.0.settle();
        self.drained()
    }

    /// Ready once the lanes were told to drain and did.
    pub fn drained(&self) -> Drained {
        Drained::new(Arc::clone(&self.0))
    }

    /// Counts, in a row per lane, at about this moment: requests go on while they are read.
    pub fn snapshot(&self) -> Snapshot {
        let word = self.0.total.load();
        Snapshot {
            mode: self.mode(),
            draining: word.is_draining(),
            total: self.total(),
            in_flight: word.in_flight(),
            lanes: self.0.lanes().map(LaneState::snapshot).collect(),
        }
    }

    /// The configuration of a lane.
    pub(crate) fn config(&self, lane: LaneId) -> &LaneConfig {
        &self.0.lane(lane).config
    }

    /// The configurations of all lanes, in the order of their ids.
    #[cfg(feature = "threads")]
    pub(crate) fn configs(&self) -> impl Iterator<Item = &LaneConfig> {
        self.0.lanes().map(|lane| &lane.config)
    }

    /// Counts a refusal and says when to come back.
    pub(crate) fn refuse(&self, lane: LaneId, reason: Reason, now: Instant) -> Refusal {
        self.0.refuse(lane, reason, now)
    }

    /// The slow path: with the line locked, after all that came before.
    fn queue(&self, lane: LaneId, places: u32, now: Instant) -> Entry {
        let inner = &self.0;
        let (entry, woken) = {
            let mut line = lock(&inner.line);
            // First those that wait already; what remains after that no one else can use.
            let mut woken = inner.serve(&mut line);
            let waiting = inner.lane(lane).counter.load().waiting();
            let entry = if inner.total.load().is_draining() {
                Err(Reason::Draining)
            } else if inner.mode() != Mode::Enforce {
                // The mode was changed, and all that waited were let go, while this one came here.
                inner.force(lane);
                Ok(None)
            } else if waiting == 0 && inner.take(lane, Turn::Next).is_ok() {
                Ok(None)
            } else if places == 0 {
                Err(Reason::LaneFull)
            } else if waiting >= places {
                Err(Reason::QueueFull)
            } else {
                let ticket = line.join(lane);
                inner.lane(lane).queued();
                inner.lane(lane).counter.join();
                inner.total.join();
                // A last look: a place that was given back before this one was announced was offered to nobody.
                woken.extend(inner.serve(&mut line));
                Ok(Some(ticket))
            };
            (entry, woken)
        };
        wake_all(woken);
        match entry {
            Ok(None) => Entry::Admitted(self.permit(lane)),
            Ok(Some(ticket)) => Entry::Queued(Wait::new(Arc::clone(inner), lane, ticket)),
            Err(reason) => Entry::Refused(inner.refuse(lane, reason, now)),
        }
    }

    fn permit(&self, lane: LaneId) -> Permit {
        Permit::new(Arc::clone(&self.0), lane)
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lanes").field(&self.snapshot()).finish()
    }
}

impl Inner {
    fn lanes(&self) -> impl Iterator<Item = &LaneState> {
        std::iter::once(&self.first).chain(&self.rest)
    }

    fn lane(&self, id: LaneId) -> &LaneState {
        // The first lane stands for an id of other lanes.
        let after_first = usize::from(id.0).checked_sub(1);
        after_first
            .and_then(|place| self.rest.get(place))
            .unwrap_or(&self.first)
    }

    fn mode(&self) -> Mode {
        const SHADOW: u8 = Mode::Shadow as u8;
        const OFF: u8 = Mode::Off as u8;
        match self.terms.mode.load(Ordering::Acquire) {
            SHADOW => Mode::Shadow,
            OFF => Mode::Off,
            _ => Mode::Enforce,
        }
    }

    /// Takes a place, or does not. It is exact: no lane is above its cap for an instant, none is refused a place within
    /// its guarantee, and none borrows while `total` are in flight.
    ///
    /// The one thing that is not told apart is a place that two want to borrow at once and that one of them, having
    /// reserved it, cannot use because its lane changed meanwhile. It counts as taken for that moment.
    fn take(&self, id: LaneId, turn: Turn) -> Result<(), NoPlace> {
        let lane = self.lane(id);
        loop {
            let seen = lane.counter.load();
            if turn == Turn::Arriving && seen.waiting() > 0 {
                return Err(NoPlace::Behind);
            }
            let Limits { guaranteed, cap } = lane.limits();
            if seen.in_flight() >= cap {
                return Err(NoPlace::Cap);
            }
            if seen.in_flight() < guaranteed {
                if lane.counter.try_raise(seen) {
                    return self.count_guaranteed(id, turn);
                }
                continue;
            }
            // The total first: raised first, the lane would for a moment seem fuller than it is, and could refuse a
            // request that is within its guarantee.
            self.lend(turn)?;
            if lane.counter.try_raise(seen) {
                return Ok(());
            }
            self.return_lent(turn);
        }
    }

    /// Counts a place within a guarantee into the total, unless the lanes drain.
    fn count_guaranteed(&self, id: LaneId, turn: Turn) -> Result<(), NoPlace> {
        let before = self.total.raise();
        if before.is_draining() && turn == Turn::Arriving {
            // After the fact, since only the total's own word says so for certain: once lanes are found drained,
            // nobody must get in.
            self.release(id);
            return Err(NoPlace::Draining);
        }
        Ok(())
    }

    /// Reserves a place of the total for a lane beyond its guarantee.
    fn lend(&self, turn: Turn) -> Result<(), NoPlace> {
        loop {
            let seen = self.total.load();
            match turn {
                Turn::Arriving if seen.is_draining() => return Err(NoPlace::Draining),
                // Somebody may be waiting for just this place, in any lane. Who comes first is decided in the line.
                Turn::Arriving if seen.waiting() > 0 => return Err(NoPlace::Behind),
                Turn::Arriving | Turn::Next => {}
            }
            if seen.in_flight() >= self.terms.total.load(Ordering::Acquire) {
                return Err(NoPlace::Total);
            }
            if self.total.try_raise(seen) {
                return Ok(());
            }
        }
    }

    fn return_lent(&self, turn: Turn) {
        let before = self.total.lower();
        // Who has the line locked goes on to look at it again anyway.
        if turn == Turn::Arriving {
            self.settle_unless_quiet(before);
        }
    }

    /// A place for whoever comes, beyond all limits; the total before.
    fn force(&self, id: LaneId) -> Word {
        self.lane(id).counter.raise();
        self.total.raise()
    }

    /// Frees the places whose time is over.
    fn reap(&self, now: Instant) {
        // Else nobody is cut, so those whose time is over still run.
        if self.mode() == Mode::Enforce {
            self.holds.reap(now);
        }
    }

    /// Gives a place back.
    fn release(&self, id: LaneId) {
        // The lane first: the total's word is where those who wait look last, and they must see both.
        self.lane(id).counter.lower();
        let before = self.total.lower();
        self.settle_unless_quiet(before);
    }

    fn settle_unless_quiet(&self, before: Word) {
        if !before.is_quiet() {
            self.settle();
        }
    }

    /// Hands free places to those that wait.
    fn settle(&self) {
        let woken = self.serve(&mut lock(&self.line));
        wake_all(woken);
    }

    /// Hands free places to those that wait, in order. The wakers are for after the lock.
    fn serve(&self, line: &mut Line) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some((lane, waker)) = line.serve(|lane| self.take(lane, Turn::Next).is_ok()) {
            self.forget_waiter(lane);
            woken.extend(waker);
        }
        if self.is_drained() {
            woken.extend(line.end());
        }
        woken
    }

    /// Counts a request out of the queue. The line is locked.
    fn forget_waiter(&self, id: LaneId) {
        self.lane(id).counter.leave();
        self.lane(id).dequeued();
        self.total.leave();
    }

    fn is_drained(&self) -> bool {
        let word = self.total.load();
        word.is_draining() && word.is_idle()
    }

    fn refuse(&self, id: LaneId, reason: Reason, now: Instant) -> Refusal {
        let wait = self.lane(id).refused(reason, now);
        Refusal { reason, wait }
    }
}

/// Runs foreign code, so no lock may be held.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

/// The lanes by criticality, the most critical ones first.
fn ranks(lanes: &[LaneConfig]) -> Vec<VecDeque<LaneId>> {
    let of = |criticality| {
        let ids = (0..).map(LaneId).zip(lanes);
        ids.filter(move |(_, lane)| lane.criticality == criticality)
            .map(|(id, _)| id)
            .collect()
    };
    [
        Criticality::CriticalPlus,
        Criticality::Critical,
        Criticality::SheddablePlus,
        Criticality::Sheddable,
    ]
    .map(of)
    .into()
}

#[cfg(all(test, loom))]
mod loom_tests;
#[cfg(all(test, not(loom)))]
mod tests;
