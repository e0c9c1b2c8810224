use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

use gw_core::Mode;
use gw_core::mode::SharedMode;
use tokio::time::Instant;

use super::brief::Brief;
use super::lates::Lates;
use super::penalties::Slot;
use super::refunds::Refunds;
use super::{Book, Limiter, Terms};
use crate::config::{ConfigError, check_name};
use crate::memory::Memory;
use crate::offenders::Sketch;
use crate::penalty::{Penalty, Strikes};
use crate::quota::Quota;
use crate::store::Hashing;
use crate::striped::Striped;
use crate::tally::Tally;
use crate::tier::{Tier, Tiers};

/// Builds a [`Limiter`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct LimiterBuilder {
    policies: Vec<Spec>,
    memory: Memory,
    /// What was said of a policy that was not there.
    stray: Option<ConfigError>,
}

/// One policy, before it is checked.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) name: Arc<str>,
    pub(crate) quota: Quota,
    pub(crate) mode: Mode,
    pub(crate) tiers: Vec<(Arc<str>, Quota)>,
    pub(crate) penalty: Option<Penalty>,
}

impl LimiterBuilder {
    /// The most policies of one limiter; one with a penalty counts twice.
    pub const MAX_POLICIES: usize = 256;

    pub(super) const fn new() -> Self {
        Self {
            policies: Vec::new(),
            memory: Memory::exact(Memory::DEFAULT_MAX_KEYS),
            stray: None,
        }
    }

    /// Adds a policy that is enforced. Its name is 1 to 64 characters out of `A-Z a-z 0-9 _ - . :`.
    pub fn policy(self, name: impl Into<Arc<str>>, quota: Quota) -> Self {
        self.policy_in(name, quota, Mode::Enforce)
    }

    /// Adds a policy in the given mode.
    pub fn policy_in(self, name: impl Into<Arc<str>>, quota: Quota, mode: Mode) -> Self {
        self.add(Spec {
            name: name.into(),
            quota,
            mode,
            tiers: Vec::new(),
            penalty: None,
        })
    }

    /// Gives keys of a tier of `policy`, which was added before, another quota; see [`Policy::tier`](crate::Policy::tier)
    /// and [`Charge::tier`](super::Charge::tier).
    pub fn tier(self, policy: &str, tier: impl Into<Arc<str>>, quota: Quota) -> Self {
        self.with(policy, |spec| spec.tiers.push((tier.into(), quota)))
    }

    /// Makes charges dearer for keys that `policy`, which was added before, keeps refusing.
    pub fn penalty(self, policy: &str, penalty: Penalty) -> Self {
        self.with(policy, |spec| spec.penalty = Some(penalty))
    }

    pub(crate) fn add(mut self, policy: Spec) -> Self {
        self.policies.push(policy);
        self
    }

    fn with(mut self, policy: &str, change: impl FnOnce(&mut Spec)) -> Self {
        match self.policies.iter_mut().find(|spec| *spec.name == *policy) {
            Some(spec) => change(spec),
            None => {
                let error = ConfigError::new("name", "must be that of a policy added before");
                self.stray.get_or_insert(error.of_policy(policy));
            }
        }
        self
    }

    /// How the state of keys is held, and how much of it: [`Memory::exact`] for a million keys, unless it is said
    /// otherwise.
    pub const fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// Beside a store that other instances share.
    #[cfg(feature = "redis")]
    pub(crate) const fn shared(mut self) -> Self {
        self.memory = self.memory.shared();
        self
    }

    /// The limiter. Its clock starts here. Without policies, it allows everything.
    ///
    /// # Errors
    ///
    /// If there are more than [`LimiterBuilder::MAX_POLICIES`], a name is not plain or used twice, a quota cannot be
    /// enforced (see [`Gcra::new`](crate::gcra::Gcra::new) and [`Window::new`](crate::window::Window::new)) or not in the
    /// memory chosen (see [`Memory::compact`]), or that is for 0 keys or more than [`Memory::MOST_KEYS`]; if the quotas of
    /// a policy's tiers are not all rates or all sliding windows of one length, a penalty is out of its bounds, or a tier
    /// or penalty is one of no policy.
    pub fn build(self) -> Result<Limiter, ConfigError> {
        if let Some(error) = self.stray {
            return Err(error);
        }
        let penalties = self.policies.iter().filter_map(|spec| spec.penalty).count();
        if self.policies.len() + penalties > Self::MAX_POLICIES {
            const RULE: &str = "must be at most 256, those with a penalty counted twice";
            return Err(ConfigError::new("policies", RULE));
        }
        self.memory.check()?;
        let mut parts = Parts {
            memory: self.memory,
            ..Parts::default()
        };
        for spec in &self.policies {
            let named = |error: ConfigError| error.of_policy(&spec.name);
            parts.add(spec).map_err(named)?;
        }
        for (index, spec) in self.policies.iter().enumerate() {
            let named = |error: ConfigError| error.of_policy(&spec.name);
            parts.add_penalty(index, spec).map_err(named)?;
        }
        Ok(parts.finish())
    }

    /// Of what threads read without getting in one another's way: one for each that can run at once, within reason.
    fn copies() -> usize {
        available_parallelism().map_or(8, usize::from).min(64)
    }
}

/// What a limiter is made of, as its policies are gone through.
#[derive(Default)]
struct Parts {
    memory: Memory,
    terms: Vec<Terms>,
    tallies: Vec<Tally>,
    modes: Vec<SharedMode>,
    tiers: Vec<Tiers>,
    tier_terms: Vec<Box<[Terms]>>,
    slots: Vec<Option<Slot>>,
}

impl Parts {
    fn add(&mut self, spec: &Spec) -> Result<(), ConfigError> {
        check_name(&spec.name)?;
        self.check_unused(&spec.name)?;
        let terms = self.terms(spec.quota)?;
        self.add_tiers(&terms, &spec.tiers)?;
        self.terms.push(terms);
        self.modes.push(SharedMode::new(spec.mode));
        self.slots.push(None);
        let tally = Tally::new(Arc::clone(&spec.name)).with_tiers(spec.tiers.len());
        self.tallies.push(tally);
        Ok(())
    }

    fn add_tiers(&mut self, own: &Terms, tiers: &[(Arc<str>, Quota)]) -> Result<(), ConfigError> {
        if tiers.len() > Tier::MOST {
            return Err(ConfigError::new("tiers", "must be at most 255"));
        }
        let mut all = Vec::with_capacity(tiers.len());
        for (index, (name, quota)) in tiers.iter().enumerate() {
            let named = |error: ConfigError| error.of_tier(name);
            check_name(name).map_err(named)?;
            let before = tiers.get(..index).unwrap_or_default();
            if before.iter().any(|(known, _)| known == name) {
                return Err(named(ConfigError::new("name", "must not be used twice")));
            }
            let terms = self.terms(*quota).map_err(named)?;
            if !terms.algorithm.reads(&own.algorithm) {
                return Err(named(unlike()));
            }
            all.push(terms);
        }
        let names = tiers.iter().map(|(name, _)| Arc::clone(name));
        self.tiers.push(Tiers::new(names));
        self.tier_terms.push(all.into());
        Ok(())
    }

    /// A penalty is kept in the store as if it were a policy; these come last.
    fn add_penalty(&mut self, index: usize, spec: &Spec) -> Result<(), ConfigError> {
        let Some(penalty) = spec.penalty else {
            return Ok(());
        };
        let strikes = Strikes::new(penalty)?;
        let terms = self.terms(strikes.quota()).map_err(|_| {
            // All else in which it could be wrong has been checked; and it is not the policy's own burst.
            const RULE: &str =
                "must forget all strikes within 3660 days, 366 where memory is compact";
            ConfigError::new("penalty", RULE)
        })?;
        let number = u8::try_from(self.terms.len())
            .map_err(|_| ConfigError::new("policies", "must be at most 256"))?;
        let slot = Slot::new(strikes, terms.algorithm, number);
        let name: Arc<str> = format!("{}:penalty", spec.name).into();
        self.check_unused(&name)?;
        if let Some(place) = self.slots.get_mut(index) {
            *place = Some(slot);
        }
        self.terms.push(terms);
        self.tallies.push(Tally::new(name));
        Ok(())
    }

    fn terms(&self, quota: Quota) -> Result<Terms, ConfigError> {
        let algorithm = self.memory.algorithm(quota)?;
        Ok(Terms { quota, algorithm })
    }

    fn check_unused(&self, name: &str) -> Result<(), ConfigError> {
        if self.tallies.iter().any(|tally| **tally.name() == *name) {
            return Err(ConfigError::new("name", "must not be used twice"));
        }
        Ok(())
    }

    fn finish(self) -> Limiter {
        let tallies: Arc<[Tally]> = self.tallies.into();
        let tiers = self.tier_terms.iter();
        let built = self.terms.iter().zip(tiers).map(|(own, tiers)| {
            let all = std::iter::once(own).chain(tiers);
            all.map(|terms| terms.quota).collect()
        });
        let built = built.collect();
        let briefs = self.terms.iter().zip(&self.slots).map(|(terms, slot)| {
            let algorithm = terms.algorithm;
            // What a request costs depends on more where there are penalties.
            slot.map_or_else(|| Brief::new(algorithm), |_| Brief::withheld(algorithm))
        });
        let briefs = briefs.collect();
        let each = self.modes.len();
        let has_tiers = self.tier_terms.iter().any(|tiers| !tiers.is_empty());
        let has_penalties = self.slots.iter().any(Option::is_some);
        let book = Book {
            terms: self.terms.into(),
            // Not looked at by those who have none.
            tiers: if has_tiers {
                self.tier_terms.into()
            } else {
                Box::default()
            },
            line: None,
        };
        let limiter = Limiter {
            book: Striped::new(book, LimiterBuilder::copies()),
            briefs,
            modes: self.modes.into(),
            tiers: self.tiers.into(),
            built,
            penalties: if has_penalties {
                self.slots.into()
            } else {
                Box::default()
            },
            revisions: (0..each).map(|_| AtomicU32::new(0)).collect(),
            refunds: Refunds::new(),
            lates: Lates::new(each),
            offenders: Mutex::new(Sketch::new(0)),
            memory: self.memory,
            store: self.memory.store(each, Arc::clone(&tallies)),
            tallies,
            hasher: Hashing::random(),
            keyless_hasher: Hashing::random(),
            epoch: Instant::now(),
        };
        limiter
            .book
            .change(|book| limiter.write_line(book), |()| {});
        limiter
    }
}

/// A tier whose keys' debts would mean something else than those of the policy's other keys.
pub(super) const fn unlike() -> ConfigError {
    const RULE: &str =
        "must be a rate if the policy's other quotas are, or a sliding window of the same length";
    ConfigError::new("quota", RULE)
}
