use std::time::Duration;

/// What a lane does when its queue stands: when somebody has been waiting in it for longer than a target at all times
/// for a whole interval. A burst makes a queue that drains; overload makes one that stands, and waiting in it is no use
/// to anybody.
///
/// While the queue stands, requests that have waited for twice the target are refused
/// ([`Reason::QueueDelay`](crate::Reason::QueueDelay)). So what runs is young, and clients that are refused learn it at
/// once. When nobody has waited for longer than the target for an interval, all is as before.
///
/// Made for networks by Nichols and Jacobson; for servers, where refused requests do not slow the others down, the drop
/// rate that grows slowly is replaced by the bound on the wait.
///
/// # Examples
///
/// ```
/// use gw_bulkhead::{Codel, LaneConfig};
///
/// let core = LaneConfig::new("core").queue(512).codel(Codel::new().adaptive_lifo());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codel {
    pub(crate) target: Duration,
    pub(crate) interval: Duration,
    pub(crate) adaptive_lifo: bool,
}

impl Codel {
    /// The longest interval.
    pub const MAX_INTERVAL: Duration = Duration::from_secs(60);

    /// A target of 5 ms, an interval of 100 ms, first come first served.
    pub const fn new() -> Self {
        Self {
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            adaptive_lifo: false,
        }
    }

    /// The wait that is fine: above zero, up to the interval, and below the lane's
    /// [`queue_timeout`](crate::LaneConfig::queue_timeout). About the time that a place takes to come back suits.
    #[must_use]
    pub const fn target(mut self, target: Duration) -> Self {
        self.target = target;
        self
    }

    /// How long a burst may last: up to [`Codel::MAX_INTERVAL`].
    #[must_use]
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// While the queue stands, serves the newest request first: it has the most of its time left, and the oldest one's
    /// caller has probably gone.
    #[must_use]
    pub const fn adaptive_lifo(mut self) -> Self {
        self.adaptive_lifo = true;
        self
    }

    /// The longest wait while the queue stands. Above the target, so that a queue in which all wait for as long as they
    /// may still counts as one that stands.
    pub(crate) const fn longest_wait(self) -> Duration {
        self.target.saturating_mul(2)
    }
}

impl Default for Codel {
    fn default() -> Self {
        Self::new()
    }
}
