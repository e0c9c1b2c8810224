use std::time::Duration;

/// The bounds on what one upstream may take.
///
/// They hold for the upstream as a whole: over all clones, lanes, runtimes and endpoints.
///
/// # Examples
///
/// ```
/// use gw_pipeline::upstream::PoolConfig;
///
/// let pool = PoolConfig::new().max_connections(64).queue(0);
/// assert_eq!((pool.max_connections, pool.max_idle, pool.queue), (64, 64, 0));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolConfig {
    /// The most connections open at a time, idle ones and tunnels included, and the most requests in flight. At
    /// least 1.
    ///
    /// A request is in flight until its answer's body has ended or is dropped. Over HTTP/2 requests share connections,
    /// and the bound on requests is the same.
    pub max_connections: usize,
    /// The most idle HTTP/1 connections kept. 0 keeps none. Above `max_connections` is the same as that.
    ///
    /// Those beyond it are closed when they have been idle for a second, and not at once: load comes in waves, and the next one
    /// needs them again.
    pub max_idle: usize,
    /// An idle connection is closed after this time. Must be shorter than the upstream's own keep-alive.
    pub idle_timeout: Duration,
    /// The most requests that wait for their turn. 0 refuses at once.
    pub queue: usize,
    /// The longest that a request waits for its turn, and after that for a connection to close or, over HTTP/2, for a stream of
    /// one.
    pub queue_timeout: Duration,
}

impl PoolConfig {
    /// 256 connections, 64 idle ones for 60 seconds, 128 requests waiting for 1 second.
    pub const fn new() -> Self {
        Self {
            max_connections: 256,
            max_idle: 64,
            idle_timeout: Duration::from_secs(60),
            queue: 128,
            queue_timeout: Duration::from_secs(1),
        }
    }

    /// Sets [`max_connections`](Self#structfield.max_connections).
    #[must_use]
    pub const fn max_connections(mut self, number: usize) -> Self {
        self.max_connections = number;
        self
    }

    /// Sets [`max_idle`](Self#structfield.max_idle).
    #[must_use]
    pub const fn max_idle(mut self, number: usize) -> Self {
        self.max_idle = number;
        self
    }

    /// Sets [`idle_timeout`](Self#structfield.idle_timeout).
    #[must_use]
    pub const fn idle_timeout(mut self, limit: Duration) -> Self {
        self.idle_timeout = limit;
        self
    }

    /// Sets [`queue`](Self#structfield.queue).
    #[must_use]
    pub const fn queue(mut self, number: usize) -> Self {
        self.queue = number;
        self
    }

    /// Sets [`queue_timeout`](Self#structfield.queue_timeout).
    #[must_use]
    pub const fn queue_timeout(mut self, limit: Duration) -> Self {
        self.queue_timeout = limit;
        self
    }
}

impl Default for PoolConfig {
    /// The bounds of [`PoolConfig::new`].
    fn default() -> Self {
        Self::new()
    }
}
