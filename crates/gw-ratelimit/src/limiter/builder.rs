use std::hash::RandomState;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::thread::available_parallelism;

use tokio::time::Instant;

use super::{Book, Limiter, Terms};
use crate::config::{ConfigError, Mode, check_name};
use crate::memory::Memory;
use crate::quota::Quota;
use crate::striped::Striped;
use crate::tally::Tally;

/// Builds a [`Limiter`].
#[derive(Debug, Clone)]
pub struct LimiterBuilder {
    policies: Vec<(Arc<str>, Quota, Mode)>,
    memory: Memory,
}

impl LimiterBuilder {
    /// The most policies of one limiter.
    pub const MAX_POLICIES: usize = 256;

    pub(super) const fn new() -> Self {
        Self {
            policies: Vec::new(),
            memory: Memory::exact(Memory::DEFAULT_MAX_KEYS),
        }
    }

    /// Adds a policy that is enforced. Its name is 1 to 64 characters out of `A-Z a-z 0-9 _ - . :`.
    #[must_use]
    pub fn policy(self, name: impl Into<Arc<str>>, quota: Quota) -> Self {
        self.policy_in(name, quota, Mode::Enforce)
    }

    /// Adds a policy in the given mode.
    #[must_use]
    pub fn policy_in(mut self, name: impl Into<Arc<str>>, quota: Quota, mode: Mode) -> Self {
        self.policies.push((name.into(), quota, mode));
        self
    }

    /// How the state of keys is held, and how much of it: [`Memory::exact`] for a million keys, unless it is said
    /// otherwise.
    #[must_use]
    pub const fn memory(mut self, memory: Memory) -> Self {
        self.memory = memory;
        self
    }

    /// The limiter. Its clock starts here. Without policies, it allows everything.
    ///
    /// # Errors
    ///
    /// If there are more than [`LimiterBuilder::MAX_POLICIES`], a name is not plain or used twice, a quota cannot be
    /// enforced (see [`Gcra::new`](crate::gcra::Gcra::new) and [`Window::new`](crate::window::Window::new)) or not in the memory chosen (see [`Memory::compact`]), or that is for 0 keys or more than [`Memory::MOST_KEYS`].
    pub fn build(self) -> Result<Limiter, ConfigError> {
        if self.policies.len() > Self::MAX_POLICIES {
            return Err(ConfigError::new("policies", "must be at most 256"));
        }
        self.memory.check()?;
        let mut terms = Vec::with_capacity(self.policies.len());
        let mut tallies: Vec<Tally> = Vec::with_capacity(self.policies.len());
        let mut modes = Vec::with_capacity(self.policies.len());
        for (name, quota, mode) in self.policies {
            check_name(&name)?;
            if tallies.iter().any(|tally| *tally.name() == name) {
                return Err(ConfigError::new("name", "must not be used twice").of_policy(&name));
            }
            let algorithm = self.memory.algorithm(quota);
            let algorithm = algorithm.map_err(|error| error.of_policy(&name))?;
            terms.push(Terms { quota, algorithm });
            modes.push(AtomicU8::new(mode as u8));
            tallies.push(Tally::new(name));
        }
        let tallies: Arc<[Tally]> = tallies.into();
        let terms = terms.into();
        let book = Book { terms, line: None };
        let limiter = Limiter {
            book: Striped::new(book, Self::copies()),
            modes: modes.into(),
            memory: self.memory,
            store: self.memory.store(Arc::clone(&tallies)),
            tallies,
            hasher: RandomState::new(),
            keyless_hasher: RandomState::new(),
            epoch: Instant::now(),
        };
        limiter
            .book
            .change(|book| limiter.write_line(book), |()| {});
        Ok(limiter)
    }

    /// Of what threads read without getting in one another's way: one for each that can run at once, within reason.
    fn copies() -> usize {
        available_parallelism().map_or(8, usize::from).min(64)
    }
}
