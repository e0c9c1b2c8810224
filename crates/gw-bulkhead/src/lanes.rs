//! The decision alone: who may run, who waits, who is refused. Without HTTP.
//!
//! A lane has a guaranteed share and a cap. A request runs if its lane is below its cap, and either below its
//! guarantee or fewer than the total are in flight. Within its guarantee a lane is admitted at once, even while
//! others have borrowed its idle places. The total bounds what is lent: a place beyond a guarantee is given only
//! while fewer than `total` are in flight, so that in flight can exceed the total only by guarantees that their owners
//! took back after they were lent, which is always less than the sum of all guarantees.
//!
//! Where limits are found while running, the one found for a lane stands in the place of its cap, and above its guarantee.
//!
//! Within a guarantee, admitting is one compare-and-swap of the lane's word and giving back one subtraction from it, and nothing
//! that other lanes write to is written. To borrow, what is in flight in all lanes is counted. A lock is taken only when
//! somebody waits.

mod arrival;
mod drain_rate;
mod drained;
mod enter;
mod entry;
mod holds;
mod inner;
mod keys;
mod lane_counter;
mod lending;
mod limiter;
mod line;
mod permit;
mod reaper;
mod screen;
mod service_time;
mod snapshot;
mod standing;
mod state;
mod turns;
mod wait;

use std::fmt;
use std::hash::{DefaultHasher, Hash};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::Waker;

use gw_core::{ConfigError, Mode};
use tokio::time::Instant;

pub use self::arrival::Arrival;
pub use self::drained::Drained;
pub use self::entry::{Entry, Reason, Refusal};
use self::holds::Holds;
pub(crate) use self::holds::{LOOK_AGAIN, TimedPermit};
use self::inner::{Inner, Terms};
use self::keys::KeySeed;
pub use self::keys::LaneKey;
use self::lending::Lending;
pub(crate) use self::limiter::Run;
use self::line::Line;
pub use self::permit::Permit;
pub(crate) use self::reaper::Reaper;
pub use self::snapshot::{AdaptiveSnapshot, KeySnapshot, LaneSnapshot, Rejections, Snapshot};
use self::state::LaneState;
pub use self::wait::Wait;
use crate::config;
use crate::lane::LaneConfig;
use crate::limit::{Limit, Outcome};
use crate::per_key::KEYED;
use crate::pressure::Pressure;
use crate::sync::{AtomicU8, AtomicU32, Mutex, Ordering, Padded, lock};
use crate::telemetry;

/// Lanes that share a total. Clones are the same lanes.
///
/// # Examples
///
/// ```
/// use gw_bulkhead::{Entry, LaneConfig, Lanes};
/// use tokio::time::Instant;
///
/// let lanes = Lanes::new(10, [LaneConfig::new("core"), LaneConfig::new("logs").cap(0.2)])?;
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
pub struct Lanes {
    inner: Arc<Inner>,
    /// Not inside, where a thread may keep it: who watches it ends with the lanes.
    pressure: Pressure,
}

/// Which lane of its [`Lanes`]. With other lanes than those that gave it out, it stands for any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(u8);

impl LaneId {
    /// The lane that was declared first.
    pub(crate) const FIRST: Self = Self(0);

    /// Its place among the lanes.
    pub(crate) fn place(self) -> usize {
        self.0.into()
    }

    /// The lane at a place, of which there are no more than 64.
    fn at(place: usize) -> Self {
        Self(u8::try_from(place).unwrap_or(u8::MAX))
    }
}

impl Lanes {
    /// Lanes that share the places of `limit`.
    ///
    /// # Errors
    ///
    /// If the limit has a value out of the range that its setter states, there are no lanes or more than 64, a name is not plain or
    /// used twice, the guaranteed shares are more than 1 together, or a lane has a value out of the range that its setter states.
    pub fn new(
        limit: impl Into<Limit>,
        lanes: impl IntoIterator<Item = LaneConfig>,
    ) -> Result<Self, ConfigError> {
        let (total, adaptive) = limit.into().check()?;
        let lanes: Vec<_> = lanes.into_iter().collect();
        let shares = config::check(&lanes)?;
        let line = Line::new(&lanes);
        let mut states = (0..)
            .zip(lanes.into_iter().zip(shares))
            .map(|(id, (lane, shares))| LaneState::new(lane, shares, total, adaptive.as_ref(), id));
        let Some(first) = states.next() else {
            return Err(ConfigError::new("lanes", "must be 1 to 64 lanes"));
        };
        let inner = Inner {
            lending: Padded(Lending::new()),
            terms: Padded(Terms {
                total: AtomicU32::new(total.get()),
                mode: AtomicU8::new(Mode::Enforce as u8),
            }),
            resizing: Mutex::new(()),
            first,
            rest: states.collect(),
            line: Mutex::new(line),
            holds: Holds::new(Instant::now()),
            seed: KeySeed::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
            pressure: Pressure::default(),
        })
    }

    /// The lane of this name.
    pub fn find(&self, name: &str) -> Option<LaneId> {
        let mut ids = (0..).map(LaneId).zip(self.inner.lanes());
        ids.find_map(|(id, lane)| (lane.config.name() == name).then_some(id))
    }

    /// What a request is counted under in lanes that count [`per_key`](LaneConfig::per_key), for whatever tells clients
    /// apart: with the key of the layer's extractor, the same as that client's requests. The same in all lanes of these, and
    /// different in others.
    pub fn key(&self, client: impl Hash) -> LaneKey {
        let mut hasher = self.hasher();
        (KEYED, client).hash(&mut hasher);
        LaneKey::finish(&hasher)
    }

    /// How loaded the machine is, which decides who is shed.
    pub fn pressure(&self) -> Pressure {
        self.pressure.clone()
    }

    /// Notes how a request ended that runs in `lane` since `started` and still has its place. It is what limits are found
    /// by; in lanes whose limit is fixed it does nothing. [`BulkheadLayer`](crate::BulkheadLayer) does it by itself.
    ///
    /// Takes no lock that anybody waits for, and allocates nothing.
    pub fn record(&self, lane: LaneId, started: Instant, now: Instant, outcome: Outcome) {
        if self.is_measured(lane) {
            let ended = self.nanos(now);
            let took = ended.saturating_sub(self.nanos(started));
            let served = Some(took);
            let run = Run {
                ended,
                took,
                served,
            };
            self.inner.ended(lane, run, outcome);
        }
    }

    /// How many places there are to lend.
    pub fn total(&self) -> u32 {
        self.inner.terms.total.load(Ordering::Acquire)
    }

    /// Changes the total and with it what the lanes' shares come to. Where limits are found while running it is the most
    /// that they may be.
    ///
    /// Nobody in flight is cut when it shrinks; lanes above their new limits admit nobody until they are below.
    pub fn resize(&self, total: NonZeroU32) {
        let before = {
            let _resizing = lock(&self.inner.resizing);
            // One after the other: a request in between meets some of the new limits already. All hold once this returns.
            let before = self.inner.terms.total.swap(total.get(), Ordering::AcqRel);
            self.inner.lanes().for_each(|lane| lane.resize(total));
            before
        };
        self.inner.settle();
        if before != total.get() {
            telemetry::resized(total);
        }
    }

    /// What the lanes do.
    #[inline]
    pub fn mode(&self) -> Mode {
        self.inner.mode()
    }

    /// What holds for the requests of one lane: its own mode or that of all, whichever is milder.
    pub(crate) fn mode_of(&self, lane: LaneId) -> Mode {
        self.inner.mode_of(lane)
    }

    /// Changes what the lanes do, from now on. Unless it is [`Mode::Enforce`], all that wait are admitted.
    pub fn set_mode(&self, mode: Mode) {
        let before = self.inner.terms.mode.swap(mode as u8, Ordering::AcqRel);
        match mode {
            // What ran out before, and nobody looks at any more.
            Mode::Enforce => self.inner.reap(Instant::now()),
            Mode::Shadow | Mode::Off => self.disperse(),
        }
        // Last: whatever comes of telling it, the mode is changed.
        if before != mode as u8 {
            telemetry::mode_changed(mode);
        }
    }

    /// Admits all that wait.
    fn disperse(&self) {
        let dispersed: Vec<_> = {
            let mut line = lock(&self.inner.line);
            // Counted in before they are counted out, so that they are never nowhere.
            line.disperse()
                .inspect(|(lane, _)| {
                    self.inner.force(*lane);
                    self.inner.forget_waiter(*lane);
                })
                .collect()
        };
        wake_all(dispersed.into_iter().filter_map(|(_, waker)| waker));
    }

    /// Refuses new requests from now on, in every mode, and for good. Ready once nobody is in flight or waiting.
    pub fn drain(&self) -> Drained {
        // Also those whom it concerns only now: they watch the clock from here on.
        let (were_open, watchers) = {
            let mut line = lock(&self.inner.line);
            (self.inner.close(), line.end())
        };
        wake_all(watchers);
        if were_open {
            telemetry::draining();
        }
        self.drained()
    }

    /// Ready once the lanes were told to drain and did.
    pub fn drained(&self) -> Drained {
        Drained::new(Arc::clone(&self.inner))
    }

    /// Counts, in a row per lane, at about this moment: requests go on while they are read.
    pub fn snapshot(&self) -> Snapshot {
        let mode = self.mode();
        let lanes: Vec<_> = self.inner.lanes().map(|lane| lane.snapshot(mode)).collect();
        Snapshot {
            mode,
            draining: self.inner.lending.load().is_draining(),
            total: self.total(),
            in_flight: lanes.iter().map(|lane| lane.in_flight).sum(),
            load: self.pressure.load(),
            lanes,
        }
    }

    pub(crate) fn record_gauges(&self) {
        self.inner.lanes().for_each(LaneState::record_gauges);
    }

    /// Whether there is more to say of a request than that it is there.
    #[inline]
    pub(crate) fn is_curious(&self, lane: LaneId) -> bool {
        self.inner.lane(lane).curious || !self.pressure.is_normal()
    }

    /// Whether the lane is one of these.
    pub(crate) fn has(&self, lane: LaneId) -> bool {
        self.inner.known(lane) == lane
    }

    /// Whether there is but one lane.
    #[inline]
    pub(crate) fn is_sole(&self) -> bool {
        self.inner.is_sole()
    }

    /// What makes keys of these lanes.
    pub(crate) fn hasher(&self) -> DefaultHasher {
        self.inner.seed.hasher()
    }

    /// Whether how its requests end changes the lane's limit.
    pub(crate) fn is_measured(&self, lane: LaneId) -> bool {
        self.inner.lane(lane).is_measured()
    }

    /// In nanoseconds since the lanes were made.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        self.inner.holds.nanos(at)
    }

    /// The configuration of a lane.
    pub(crate) fn config(&self, lane: LaneId) -> &LaneConfig {
        &self.inner.lane(lane).config
    }

    /// The configurations of all lanes, in the order of their ids.
    #[cfg(feature = "threads")]
    pub(crate) fn configs(&self) -> impl Iterator<Item = &LaneConfig> {
        self.inner.lanes().map(|lane| &lane.config)
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lanes").field(&self.snapshot()).finish()
    }
}

/// Runs foreign code, so no lock may be held.
fn wake_all(wakers: impl IntoIterator<Item = Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

#[cfg(test)]
impl Lanes {
    /// Nothing of those who were in flight or waited is left in what lanes have in common.
    fn assert_quiet(&self) {
        let word = self.inner.lending.load();
        assert_eq!((word.borrowers(), word.waiting()), (0, 0));
        let quiet = |lane: &LaneState| lane.counter.load().is_quiet();
        assert!(word.is_draining() || self.inner.lanes().all(quiet));
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_tests;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
