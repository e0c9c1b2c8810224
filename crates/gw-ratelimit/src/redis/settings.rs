use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _};

use super::breaker::Breaker;
use super::table::Table;
use super::tls::{Connector, Tls};
use crate::config::{ConfigError, check_name};

/// Where limits are shared: a Redis server, and how to deal with it.
///
/// Any values can be written down here; what cannot work is refused when a limiter is built.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use gw_ratelimit::redis::{Leases, OnFailure, RedisStore};
///
/// let store = RedisStore::new("redis://127.0.0.1:6379", "api", b"a secret of 16 bytes or more")
///     .leases(Leases::up_to(20))
///     .timeout(Duration::from_millis(5))
///     .on_failure(OnFailure::LocalFallback);
/// ```
#[derive(Clone)]
pub struct RedisStore {
    pub(super) url: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) label: Option<Arc<str>>,
    pub(super) secret: Arc<[u8]>,
    pub(super) timeout: Duration,
    pub(super) failures: u32,
    pub(super) probe_after: Duration,
    pub(super) on_failure: OnFailure,
    pub(super) leases: Option<Leases>,
    pub(super) tls: Tls,
}

/// Where to connect to.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) info: ConnectionInfo,
    /// If the connection is to be encrypted.
    pub(super) connector: Option<Connector>,
}

/// Who decides while Redis does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnFailure {
    /// This instance by itself, with the same quotas. The default. What Redis decides is noted locally all along, so
    /// a client that this instance knows to be in debt is still in debt; but each instance allows the whole quota, so
    /// all of `n` together may allow `n` times as much. Redis is not told what passed without it, so it goes on from
    /// what it knows: over a time in which it answered and did not, it is `n + 1` times at most.
    #[default]
    LocalFallback,
    /// Nobody: everything passes, is not counted, and clients are told nothing of their limits.
    Open,
    /// Nobody: everything is refused with 503, as long as a policy applies that is enforced.
    Closed,
}

/// How an instance takes cells in advance, so that most requests are decided without the network.
///
/// Never more is admitted than without: see [`lease`](super::lease). What it costs is that cells which one instance holds
/// are refused to others until they have run off; `docs/ratelimit-leases.md` has how many that are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leases {
    pub(super) most: u32,
    pub(super) max_keys: usize,
}

impl RedisStore {
    /// How long a decision waits for Redis, unless it is said otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(5);
    /// How many of the last 32 questions have failed when Redis is not asked any more, unless it is said otherwise.
    pub const DEFAULT_FAILURES: u32 = 3;
    /// How long Redis is not asked then, unless it is said otherwise.
    pub const DEFAULT_PROBE_AFTER: Duration = Duration::from_secs(1);
    /// The longest time for which Redis is not asked.
    pub const MAX_PROBE_AFTER: Duration = Duration::from_secs(24 * 3600);
    /// The shortest secret, in bytes.
    pub const MIN_SECRET: usize = 16;

    /// A server, by its address: `redis://[user:password@]host[:port][/db]`, the same with `rediss://` for TLS (feature
    /// `redis-tls`), or `unix:///path`, also with `?db=…&user=…&pass=…`. A user needs a password. Each may say `protocol=resp2`,
    /// which is what is spoken otherwise, or `resp3` behind the `?`, and nothing else. Redis 6 or later.
    ///
    /// Limiters of the same name on one server share their policies' debts, policy by policy, if they have the same
    /// secret; it keys the hash of the clients' keys, and is at least 16 bytes. A name is 1 to 64 characters out of
    /// `A-Z a-z 0-9 _ - . :`. Instances must be of one build for one platform, or their hashes may differ.
    pub fn new(
        url: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
        secret: impl AsRef<[u8]>,
    ) -> Self {
        Self {
            url: url.into(),
            name: name.into(),
            label: None,
            secret: secret.as_ref().into(),
            timeout: Self::DEFAULT_TIMEOUT,
            failures: Self::DEFAULT_FAILURES,
            probe_after: Self::DEFAULT_PROBE_AFTER,
            on_failure: OnFailure::default(),
            leases: None,
            tls: Tls::default(),
        }
    }

    /// What metrics, as their label `store`, and log lines call a limiter here: its name, unless it is said otherwise. A
    /// label is made like a name.
    ///
    /// Limiters of one process that have one name need labels: they would write to the same gauges, and the last one to
    /// change would speak for all.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// How long a decision waits for Redis, a new connection included. Above 0.
    #[must_use]
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Stops asking Redis when `failures` of the last 32 questions failed, 1 to 32.
    #[must_use]
    pub const fn failures(mut self, failures: u32) -> Self {
        self.failures = failures;
        self
    }

    /// How long Redis is then not asked, before one request at a time asks it again. Above 0, and
    /// [`MAX_PROBE_AFTER`](Self::MAX_PROBE_AFTER) at the most.
    #[must_use]
    pub const fn probe_after(mut self, pause: Duration) -> Self {
        self.probe_after = pause;
        self
    }

    /// Who decides while Redis does not answer.
    #[must_use]
    pub const fn on_failure(mut self, rule: OnFailure) -> Self {
        self.on_failure = rule;
        self
    }

    /// Takes cells in advance. Without this, Redis is asked about each request.
    #[must_use]
    pub const fn leases(mut self, leases: Leases) -> Self {
        self.leases = Some(leases);
        self
    }

    /// What to call it to people.
    pub(super) fn called(&self) -> &Arc<str> {
        self.label.as_ref().unwrap_or(&self.name)
    }

    /// Where to connect to.
    pub(super) fn check(&self) -> Result<Target, ConfigError> {
        check_name(&self.name).map_err(|error| ConfigError::new("store name", error.rule()))?;
        check_name(self.called()).map_err(|error| ConfigError::new("label", error.rule()))?;
        if self.secret.len() < Self::MIN_SECRET {
            return Err(ConfigError::new("secret", "must be at least 16 bytes"));
        }
        if self.timeout.is_zero() {
            return Err(ConfigError::new("timeout", "must be above 0"));
        }
        if self.probe_after.is_zero() || self.probe_after > Self::MAX_PROBE_AFTER {
            const RULE: &str = "must be above 0 and at most 24 hours";
            return Err(ConfigError::new("probe_after", RULE));
        }
        if !(1..=Breaker::REMEMBERED).contains(&self.failures) {
            return Err(ConfigError::new("failures", "must be 1 to 32"));
        }
        if let Some(leases) = self.leases {
            if leases.most == 0 {
                return Err(ConfigError::new("leases", "must be of at least one cell"));
            }
            if !(1..=Table::MOST_KEYS).contains(&leases.max_keys) {
                return Err(ConfigError::new("leases.max_keys", "must be 1 to 16777216"));
            }
        }
        const URL: ConfigError = ConfigError::new(
            "url",
            "must be redis://[user:password@]host[:port][/db][?protocol=resp2|resp3], rediss:// and the same, or \
             unix:///path with any of db, user, pass and protocol behind a question mark; a user needs a password",
        );
        // Behind it, connections could be asked for whose other end is not checked.
        if self.url.contains('#') {
            return Err(URL);
        }
        // The connection is made here, whatever the client could do.
        let (url, connector) = match self.url.strip_prefix("rediss://") {
            Some(rest) => (format!("redis://{rest}"), Some(self.tls.connector()?)),
            None if self.tls.is_said() => {
                return Err(ConfigError::new(
                    "url",
                    "must be rediss:// for certificates",
                ));
            }
            None => (self.url.to_string(), None),
        };
        let url = ::redis::parse_redis_url(&url).ok_or(URL)?;
        let info = url.clone().into_connection_info().map_err(|_| URL)?;
        let (is_address, heard): (_, &[_]) = match info.addr() {
            ConnectionAddr::Tcp(_, port) => (*port > 0, &["protocol"]),
            ConnectionAddr::Unix(_) => (true, &["protocol", "db", "user", "pass"]),
            _ => (false, &[]),
        };
        // The client passes over what else is behind the question mark, and over the first one of two.
        let is_said = |key: &&&str| url.query_pairs().any(|(said, _)| said == **key);
        let is_heard = heard.iter().filter(is_said).count() == url.query_pairs().count();
        let redis = info.redis_settings();
        // Without a password, nobody is told of the user.
        let is_user = redis.username().is_none() || redis.password().is_some();
        if !is_address || !is_heard || !is_user || redis.db() < 0 {
            return Err(URL);
        }
        Ok(Target { info, connector })
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the address, which may hold a password, and without the secret.
        f.debug_struct("RedisStore")
            .field("name", &self.name)
            .field("label", &self.label)
            .field("timeout", &self.timeout)
            .field("on_failure", &self.on_failure)
            .field("leases", &self.leases)
            .finish_non_exhaustive()
    }
}

impl Leases {
    /// For how many keys leases are held, unless it is said otherwise.
    pub const DEFAULT_MAX_KEYS: usize = 65_536;

    /// Up to `cells` at a time for one key, at least 1. A key begins with none and gets more as it uses them up.
    pub const fn up_to(cells: u32) -> Self {
        Self {
            most: cells,
            max_keys: Self::DEFAULT_MAX_KEYS,
        }
    }

    /// For how many keys leases are held, 1 to 16,777,216. Each takes 178 bytes, all taken when the limiter is built.
    /// When there is no room, Redis is asked about each request of a newcomer.
    #[must_use]
    pub const fn max_keys(mut self, keys: usize) -> Self {
        self.max_keys = keys;
        self
    }
}
