use std::sync::Arc;
use std::time::Duration;

use crate::algorithm::Algorithm;
use crate::config::ConfigError;
use crate::quota::Quota;
use crate::store::{Compact, Exact, InMemory};
use crate::tally::Tally;
use crate::window::Window;

/// How the state of keys is held, and how much of it.
///
/// Both kinds have a bound that is never exceeded, and both forgive nobody's debt at it: an attacker who comes with
/// ever new keys washes nothing out. What that costs is paid by newcomers; `docs/ratelimit-memory.md` has measured
/// how much.
///
/// # Examples
///
/// ```
/// use gw_ratelimit::{Limiter, Memory, Quota};
///
/// // 80 megabytes, from the start and for ever.
/// let limiter = Limiter::builder()
///     .policy("per_ip", Quota::per_second(10).burst(50))
///     .memory(Memory::compact(10_000_000))
///     .build()?;
/// # Ok::<(), gw_ratelimit::ConfigError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    kind: Kind,
    /// Whether a store counts beside this memory that other instances share.
    shared: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Exact { max_keys: usize },
    Compact { keys: usize },
}

impl Memory {
    /// How many keys are held in all, unless it is said otherwise.
    pub const DEFAULT_MAX_KEYS: usize = 1_000_000;
    /// The most keys that can be asked for.
    pub const MOST_KEYS: usize = u32::MAX as usize;
    /// The least time between cells that compact memory counts by.
    pub const MIN_COMPACT_INTERVAL: Duration = Duration::from_micros(100);
    /// The longest time that winning back a burst may take in compact memory.
    pub const MAX_COMPACT_RESET: Duration = Duration::from_secs(366 * 24 * 60 * 60);

    /// Each key has a state of its own. At most `max_keys` are held in all, over all policies; each takes 21 to 43
    /// bytes.
    ///
    /// Memory is taken as keys come, and kept. When there is no room, keys without debt give way; if none is found,
    /// one of those with the least debt is forgotten, which may be the newcomer. From then on newcomers to its policy and
    /// shard of the table begin with no less debt than it had, until that has run off. Shards fill a little unevenly: of
    /// a million keys' table, the first shard is full at about 98 % of the bound.
    pub const fn exact(max_keys: usize) -> Self {
        Self::of(Kind::Exact { max_keys })
    }

    /// Eight bytes a key, with places for `keys` keys (rounded up to eight) for *each* policy. All of it is taken when
    /// the limiter is built; after that nothing is allocated, ever. A check looks at one cache line.
    ///
    /// A key has eight places to be in. If it is in none of them, it takes that of the key with the least debt, and
    /// begins with that debt: none, as long as there is an idle one. So it is stricter than exact memory, and the more so the
    /// fuller it is: give it twice the keys that are in debt at a time, and four times with a burst of one, which leaves no room
    /// for a debt to begin with. Two of the keys in one line are taken for one with a probability of 1 to 65,535, and then share
    /// what one may do.
    ///
    /// Its clock has whole microseconds, rounded down: debts begin, and so end, up to a microsecond earlier than in exact
    /// memory, and in nothing else it is more lenient. Only for rates, of at most a cell in
    /// [`Memory::MIN_COMPACT_INTERVAL`], and with a burst that is won back within [`Memory::MAX_COMPACT_RESET`]; the
    /// time between cells is rounded up to a microsecond, which takes at most a hundredth off the rate. After 7.9 years
    /// the times end, and the limiter refuses everything until it is built anew.
    pub const fn compact(keys: usize) -> Self {
        Self::of(Kind::Compact { keys })
    }

    const fn of(kind: Kind) -> Self {
        Self {
            kind,
            shared: false,
        }
    }

    /// Beside a store that other instances share.
    #[cfg(feature = "redis")]
    pub(crate) const fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    /// Whether a policy stays a rate, or a sliding window of its length: other instances, of which each is changed by
    /// itself, could not read its states otherwise.
    pub(crate) const fn is_shared(self) -> bool {
        self.shared
    }

    pub(crate) fn check(self) -> Result<(), ConfigError> {
        let (Kind::Exact { max_keys: keys } | Kind::Compact { keys }) = self.kind;
        if (1..=Self::MOST_KEYS).contains(&keys) {
            return Ok(());
        }
        Err(ConfigError::new(
            "memory",
            "must be for 1 to 4294967295 keys",
        ))
    }

    /// For so many policies; the tallies that follow are of what their penalties keep.
    pub(crate) fn store(self, policies: usize, tallies: Arc<[Tally]>) -> InMemory {
        match self.kind {
            Kind::Exact { max_keys } => InMemory::Exact(Exact::new(max_keys, policies, tallies)),
            Kind::Compact { keys } => InMemory::Compact(Compact::new(keys, tallies)),
        }
    }

    /// What counts for a quota, if it can be counted in this memory.
    pub(crate) fn algorithm(self, quota: Quota) -> Result<Algorithm, ConfigError> {
        let algorithm = match Algorithm::new(quota)? {
            // A store's clock has whole microseconds.
            Algorithm::Window(window) if self.shared => {
                Algorithm::Window(window.in_steps_of(Window::MICROSECOND))
            }
            // Or what is left and how long to wait would be reckoned by another line than the store decides by.
            Algorithm::Gcra(gcra) if self.shared => {
                Algorithm::Gcra(gcra.in_steps_of(gcra.unit_of_stores()))
            }
            algorithm => algorithm,
        };
        let Kind::Compact { .. } = self.kind else {
            return Ok(algorithm);
        };
        let Algorithm::Gcra(gcra) = algorithm else {
            const RULE: &str = "must be a rate where memory is compact, and not a sliding window";
            return Err(ConfigError::new("quota", RULE));
        };
        if u128::from(gcra.interval()) < Self::MIN_COMPACT_INTERVAL.as_nanos() {
            const RULE: &str = "must be at most 10000 a second where memory is compact";
            return Err(ConfigError::new("rate", RULE));
        }
        if u128::from(gcra.tolerance()) > Self::MAX_COMPACT_RESET.as_nanos() {
            const RULE: &str =
                "must be won back at the rate within 366 days where memory is compact";
            return Err(ConfigError::new("burst", RULE));
        }
        Ok(Algorithm::Gcra(gcra.in_steps_of(Compact::TICK)))
    }
}

/// [`Memory::exact`] for [`Memory::DEFAULT_MAX_KEYS`].
impl Default for Memory {
    fn default() -> Self {
        Self::exact(Self::DEFAULT_MAX_KEYS)
    }
}
