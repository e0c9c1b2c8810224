use std::time::Duration;

use gw_core::context::{Criticality, Lane};

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
    pub(crate) sample: Sample,
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
    /// that its client gives up is no sample.
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
            sample: Sample::default(),
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

    /// Which lane's waiting requests go first when a place is free: the more critical one's.
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
    /// [`HeldTooLong`](crate::HeldTooLong). So a client that reads slowly, or not at all, gives its place back. There
    /// is no bound by default. An upgraded connection is not bounded by it.
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

    /// How many threads of its own the lane runs on, up to [`LaneConfig::MAX_THREADS`]; with 0, the default, its
    /// requests run where they come from. Needs the executor [`Threads`](crate::threads::Threads).
    #[cfg(feature = "threads")]
    #[must_use]
    pub const fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// The lane's name.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }
}
