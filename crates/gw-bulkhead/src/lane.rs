use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::Mode;
use gw_core::context::{Criticality, Lane};
use gw_core::key::{AvailableIn, KeyExtractor};

use crate::codel::Codel;
use crate::per_key::{BeforeAuthentication, PerKey};

/// What one lane is entitled to, and how it treats those that must wait.
///
/// Any values can be written down here; what cannot be enforced is refused when lanes are built from them.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_bulkhead::{Criticality, LaneConfig};
///
/// // Log uploads: almost nothing is theirs, they borrow little, never queue, and are cut after ten seconds.
/// let logs = LaneConfig::new("logs")
///     .guaranteed(0.05)
///     .cap(0.15)
///     .criticality(Criticality::Sheddable)
///     .max_hold(Duration::from_secs(10));
/// assert_eq!(logs.name(), "logs");
/// ```
#[derive(Debug, Clone)]
pub struct LaneConfig {
    pub(crate) name: Lane,
    pub(crate) guaranteed: f64,
    pub(crate) cap: f64,
    pub(crate) criticality: Criticality,
    pub(crate) queue: u32,
    pub(crate) queue_timeout: Duration,
    pub(crate) hold: Hold,
    pub(crate) max_hold: Option<Duration>,
    pub(crate) threads: usize,
    pub(crate) nice: u8,
    pub(crate) codel: Option<Codel>,
    pub(crate) deadline_aware: bool,
    pub(crate) per_key: Option<PerKey>,
    pub(crate) sample: Sample,
    pub(crate) mode: Mode,
}

/// Until when a request holds its place in the lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Hold {
    /// Until the response's head is there. For lanes whose answers are downloads at the client's own pace.
    Head,
    /// Until the response's body has ended, or the connection that it upgraded is closed. The default.
    #[default]
    Body,
}

/// What a lane's limit is found by, where limits are found while running.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sample {
    /// The time until the response's head is there. The default: how long a body takes is up to its reader.
    #[default]
    Head,
    /// The time until the response's body has ended, for answers that are the work: exports, generated streams. A body
    /// that its client gives up is no sample. Needs [`Hold::Body`].
    Body,
    /// Nothing: the lane's limit is its cap. For requests that wait by intent, such as long polls and WebSockets.
    Nothing,
}

impl LaneConfig {
    /// The longest queue of a lane.
    pub const MAX_QUEUE: u32 = 1_000_000;
    /// The longest time in the queue.
    pub const MAX_QUEUE_TIMEOUT: Duration = Duration::from_secs(60 * 60);
    /// The longest [`LaneConfig::max_hold`].
    pub const MAX_MAX_HOLD: Duration = Duration::from_secs(24 * 60 * 60);
    /// The most threads of a lane.
    pub const MAX_THREADS: usize = 256;
    /// The highest niceness of a lane's threads.
    pub const MAX_NICE: u8 = 19;

    /// A lane that is guaranteed one place, may borrow all that is idle, and does not queue.
    ///
    /// The name is 1 to 64 characters out of `A-Z a-z 0-9 _ -`: it is a metric label and part of thread names.
    pub fn new(name: impl Into<std::sync::Arc<str>>) -> Self {
        Self {
            name: Lane::new(name),
            guaranteed: 0.0,
            cap: 1.0,
            criticality: Criticality::default(),
            queue: 0,
            queue_timeout: Duration::from_millis(100),
            hold: Hold::default(),
            max_hold: None,
            threads: 0,
            nice: 0,
            codel: None,
            deadline_aware: false,
            per_key: None,
            sample: Sample::default(),
            mode: Mode::default(),
        }
    }

    /// The share of the total that is this lane's at any time, from 0 to 1; rounded up to at least one place. The
    /// shares of all lanes are at most 1 together.
    #[must_use]
    pub const fn guaranteed(mut self, share: f64) -> Self {
        self.guaranteed = share;
        self
    }

    /// The share of the total that this lane never exceeds, from its guaranteed share to 1; rounded up.
    #[must_use]
    pub const fn cap(mut self, share: f64) -> Self {
        self.cap = share;
        self
    }

    /// How critical the lane's requests are. When lanes wait for the same place, one gets four where one of the next lower
    /// criticality gets one; and the less critical ones are shed first under [`Pressure`](crate::Pressure).
    #[must_use]
    pub const fn criticality(mut self, criticality: Criticality) -> Self {
        self.criticality = criticality;
        self
    }

    /// How many requests may wait, up to [`LaneConfig::MAX_QUEUE`]; with 0, the default, a full lane refuses at once.
    #[must_use]
    pub const fn queue(mut self, requests: u32) -> Self {
        self.queue = requests;
        self
    }

    /// Bounds the wait while the queue stands; without it, only the timeout does. Needs a [queue](LaneConfig::queue).
    #[must_use]
    pub const fn codel(mut self, codel: Codel) -> Self {
        self.codel = Some(codel);
        self
    }

    /// Does not start what cannot be done before its [`Deadline`](gw_core::context::Deadline). `false` by default: then it is only not
    /// waited beyond it.
    ///
    /// A request whose deadline has passed is refused, also where it has its place and nobody came to start it: its task
    /// was polled late, or the lane's own thread was at something else. One that must wait is refused as soon as less
    /// time is left than almost all requests of the lane take (199 of 200 of late, from admission until the place is
    /// given back): who waits must not be late because of it. Where a place is free nothing is foretold: what takes as
    /// long as ever is not the lane's doing, and a lane that believed it for ever would never find out that it has
    /// become faster.
    ///
    /// Costs each request two looks at the clock, and a third one those with a deadline that have waited or change threads.
    #[must_use]
    pub const fn deadline_aware(mut self, aware: bool) -> Self {
        self.deadline_aware = aware;
        self
    }

    /// Lets each client have at most `max` requests in the lane, in flight and waiting, so that one of them cannot fill
    /// it. `key` tells clients apart; requests without a key are one client. Those beyond are refused with 429
    /// [`RATE_LIMIT_EXCEEDED`](crate::RATE_LIMIT_EXCEEDED).
    ///
    /// Lanes stand in front of authentication, so a key made of an identity does not compile here; see
    /// [`BeforeAuthentication`](crate::BeforeAuthentication).
    ///
    /// ```
    /// use std::num::NonZeroU32;
    /// use gw_bulkhead::{LaneConfig, key::ClientIp};
    ///
    /// const EIGHT: NonZeroU32 = NonZeroU32::new(8).unwrap();
    /// let logs = LaneConfig::new("logs").per_key(ClientIp::new(), EIGHT);
    /// ```
    ///
    /// ```compile_fail
    /// use std::num::NonZeroU32;
    /// use gw_bulkhead::{LaneConfig, key::Consumer};
    ///
    /// let logs = LaneConfig::new("logs").per_key(Consumer, NonZeroU32::MIN);
    /// ```
    #[must_use]
    pub fn per_key<K>(mut self, key: K, max: NonZeroU32) -> Self
    where
        K: KeyExtractor + AvailableIn<BeforeAuthentication> + Send + Sync + 'static,
    {
        self.per_key = Some(PerKey::new(key, max));
        self
    }

    /// How long a request waits before it is refused: above zero, up to [`LaneConfig::MAX_QUEUE_TIMEOUT`]; 100 ms by
    /// default.
    #[must_use]
    pub const fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = timeout;
        self
    }

    /// Until when a request holds its place.
    #[must_use]
    pub const fn hold(mut self, hold: Hold) -> Self {
        self.hold = hold;
        self
    }

    /// The longest time a request holds its place, from admission on: above zero, up to [`LaneConfig::MAX_MAX_HOLD`].
    ///
    /// Then the request is cut: it gets 504, or if its head is out, its body ends with
    /// [`HeldTooLong`](crate::HeldTooLong). So a client that reads slowly, or not at all, gives its place back. What is ready
    /// when the time is over goes out all the same if it ends the answer. There is no bound by default. An upgraded
    /// connection is not bounded by it.
    ///
    /// The place of a body that nobody polls goes to one who waits, up to 20 ms later if other places came free just before.
    #[must_use]
    pub const fn max_hold(mut self, limit: Duration) -> Self {
        self.max_hold = Some(limit);
        self
    }

    /// What the lane's limit is found by, where limits are [adaptive](crate::limit::Limit::adaptive).
    #[must_use]
    pub const fn sample(mut self, sample: Sample) -> Self {
        self.sample = sample;
        self
    }

    /// What this lane does, for as long as the bulkhead as a whole enforces: of the two modes the milder one holds.
    ///
    /// [`Mode::Shadow`] tries a lane out among others that enforce: what it would refuse or cut is counted, and goes on. What
    /// passes there has its place, so the others keep their guarantees, and find less to borrow.
    #[must_use]
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How many threads of its own the lane runs on, up to [`LaneConfig::MAX_THREADS`]; with 0, the default, its
    /// requests run where they come from. Needs the executor [`Threads`](crate::threads::Threads).
    ///
    /// A request runs on the thread that has the fewest without an answer yet. It stays there, also if a handler blocks that thread.
    #[cfg(feature = "threads")]
    #[must_use]
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// How much niceness the lane's threads have on top of what the process has, up to [`LaneConfig::MAX_NICE`], where it
    /// ends in any case; 0 by default. Needs [threads](LaneConfig::threads).
    ///
    /// When more threads want to run than there are processors, the kernel gives a nice one less time: at 10 about a tenth
    /// of what a thread at 0 has. While the others sleep it has all the time that
    /// it wants. So this is for lanes whose requests may be late so that others are not.
    ///
    /// Holds for all that these threads start, too. It takes no privilege. A system that refuses it is told of in the log, and
    /// the lane runs as it would without. Linux only: elsewhere niceness is the process's, and this does nothing.
    #[cfg(feature = "threads")]
    #[must_use]
    pub const fn nice(mut self, nice: u8) -> Self {
        self.nice = nice;
        self
    }

    /// The lane's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}
