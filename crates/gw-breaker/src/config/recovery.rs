//! For how long a breaker stays open, and how it comes back.

use std::time::Duration;

/// How open times are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// Not at all.
    None,
    /// Evenly over the upper half: from half of the time to all of it. The default, so that instances which opened
    /// together do not probe together.
    #[default]
    Equal,
}

/// For how long a breaker stays open: twice as long each time it opens again, up to a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenTime {
    /// The first one.
    pub shortest: Duration,
    /// What it is doubled up to.
    pub longest: Duration,
    /// How it is spread.
    pub jitter: Jitter,
    /// How long an upstream's own `Retry-After` may keep the breaker open beyond it.
    pub retry_after_cap: Duration,
    /// After how long a time closed it begins at the shortest again; `None` is the longest open time.
    pub forget_after: Option<Duration>,
    pub(crate) seed: Option<u64>,
}

impl OpenTime {
    /// From `shortest`, doubled each time, to `longest`: both 1 ms to 7 days, and the longest not below the shortest.
    pub const fn exponential(shortest: Duration, longest: Duration) -> Self {
        Self {
            shortest,
            longest,
            jitter: Jitter::Equal,
            retry_after_cap: Duration::from_secs(60),
            forget_after: None,
            seed: None,
        }
    }

    /// How it is spread.
    #[must_use]
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// How long an upstream's own `Retry-After` may keep the breaker open beyond the open time, at most 65,535 s; 60 s
    /// unless it is said otherwise, and with zero it is not listened to. What is asked for is rounded up to seconds.
    #[must_use]
    pub const fn retry_after_cap(mut self, cap: Duration) -> Self {
        self.retry_after_cap = cap;
        self
    }

    /// After how long a time closed the open time begins at the shortest again, 1 ms to 7 days. The longest open time unless
    /// it is said otherwise.
    #[must_use]
    pub const fn forget_after(mut self, closed_for: Duration) -> Self {
        self.forget_after = Some(closed_for);
        self
    }

    /// Seeds the jitter, for tests. Random unless it is given.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }
}

impl Default for OpenTime {
    /// 5 s to 5 minutes.
    fn default() -> Self {
        Self::exponential(Duration::from_secs(5), Duration::from_secs(300))
    }
}

/// How a half-open breaker finds out whether the upstream is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HalfOpen {
    /// How many probes there may be at the same time.
    pub probes: u8,
    /// How many must succeed.
    pub successes: u8,
    /// How long they are waited for.
    pub max_wait: Duration,
}

impl HalfOpen {
    /// With so many probes at the same time, 1 to 31. They may be more than have to succeed, so that one which hangs does not
    /// hold the others up. When half of [`max_wait`](Self::max_wait) is over, those under way are waited for.
    pub const fn probes(probes: u8) -> Self {
        Self {
            probes,
            successes: 3,
            max_wait: Duration::from_secs(10),
        }
    }

    /// How many probes must succeed, 1 to 31; 3 unless it is said otherwise.
    #[must_use]
    pub const fn successes(mut self, successes: u8) -> Self {
        self.successes = successes;
        self
    }

    /// How long probes are waited for, 1 ms to 7 days. When it is over, the breaker opens again if one has no answer or was
    /// given up. It begins with the first probe, and anew with each success that leaves none under way: a slow upstream may
    /// take as long for answer after answer. A probe that is sent later has what is left of it, also after one that was given
    /// up. If all have answered, 10 s of it are enough, and those whose answers are still on their way count as successes. 10 s
    /// unless it is said otherwise.
    ///
    /// A probe that says whom it waits for ([`LatencyFrom::Sent`](crate::LatencyFrom::Sent),
    /// [`Admission::follow`](crate::Admission::follow)) has the breaker open again only if it has waited for the upstream for half
    /// of the time at least. One that has not gives its slot to another then, and its verdict counts when it comes, if the breaker
    /// has not opened meanwhile.
    #[must_use]
    pub const fn max_wait(mut self, max_wait: Duration) -> Self {
        self.max_wait = max_wait;
        self
    }
}

impl Default for HalfOpen {
    /// One probe at a time, three successes, and a wait of 10 s.
    fn default() -> Self {
        Self::probes(1)
    }
}
