use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use gw_core::Respond;
use gw_core::key::{AvailableIn, KeyExtractor};
use gw_core::stage::{FactSet, Stage};
use tower_layer::Layer;

use crate::admission::Admission;
use crate::config::{ConfigError, Headers};
use crate::handle::RateLimitHandle;
use crate::limiter::{Limiter, LimiterBuilder};
use crate::memory::Memory;
use crate::policy::{Policy, Rule};
use crate::service::RateLimit;

/// Refuses requests that are over a limit.
///
/// All state is made by [`RateLimitBuilder::build`] and shared by all clones of the layer and all services made from
/// it: one limit holds over all connections and routes.
///
/// `Ks` is the list of the policies' keys as nested pairs. It exists for typed pipelines: the layer fits where each
/// of its keys is available. `R` renders refusals.
pub struct RateLimitLayer<Ks = (), R = Respond> {
    admission: Arc<Admission>,
    slot: &'static str,
    on_reject: R,
    // A function's type, since no key is held: the layer is `Send` and `Sync` whatever the keys are.
    keys: PhantomData<fn() -> Ks>,
}

/// The slot that observers are told of, where no pipeline has said in which one the layer is.
pub(crate) const SLOT: &str = "pre_auth_limit";

impl RateLimitLayer {
    /// A builder without policies.
    pub const fn builder() -> RateLimitBuilder {
        RateLimitBuilder {
            limits: Limiter::builder(),
            rules: Vec::new(),
            headers: Headers::Draft11,
            keys: PhantomData,
        }
    }
}

impl<Ks, R> RateLimitLayer<Ks, R> {
    /// Renders refusals with `on_reject` instead.
    pub fn on_reject<R2>(self, on_reject: R2) -> RateLimitLayer<Ks, R2> {
        RateLimitLayer {
            admission: self.admission,
            slot: self.slot,
            on_reject,
            keys: PhantomData,
        }
    }

    /// A handle for whoever operates the layer.
    pub fn handle(&self) -> RateLimitHandle {
        self.admission.limiter().handle()
    }
}

// By hand: a derive would ask for `Ks: Clone`.
impl<Ks, R: Clone> Clone for RateLimitLayer<Ks, R> {
    fn clone(&self) -> Self {
        Self {
            admission: Arc::clone(&self.admission),
            slot: self.slot,
            on_reject: self.on_reject.clone(),
            keys: PhantomData,
        }
    }
}

impl<Ks, R> fmt::Debug for RateLimitLayer<Ks, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}

impl<Ks, R: Clone, S> Layer<S> for RateLimitLayer<Ks, R> {
    type Service = RateLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let admission = Arc::clone(&self.admission);
        RateLimit::new(inner, admission, self.slot, self.on_reject.clone())
    }
}

impl<F: FactSet, Ks: AvailableIn<F>, R> Stage<F> for RateLimitLayer<Ks, R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn into_layer_in(mut self, slot: &'static str) -> Self {
        self.slot = slot;
        self
    }
}

/// Builds a [`RateLimitLayer`].
#[must_use = "a builder does nothing until it is built"]
pub struct RateLimitBuilder<Ks = ()> {
    limits: LimiterBuilder,
    rules: Vec<Rule>,
    headers: Headers,
    keys: PhantomData<fn() -> Ks>,
}

impl<Ks> RateLimitBuilder<Ks> {
    /// Adds a policy. A request must pass all policies that apply to it, and pays all of them or none.
    pub fn policy<K>(self, policy: Policy<K>) -> RateLimitBuilder<(K, Ks)>
    where
        K: KeyExtractor + Send + Sync + 'static,
    {
        self.policies([policy])
    }

    /// Adds policies that are counted by keys of one type.
    pub fn policies<K>(
        mut self,
        policies: impl IntoIterator<Item = Policy<K>>,
    ) -> RateLimitBuilder<(K, Ks)>
    where
        K: KeyExtractor + Send + Sync + 'static,
    {
        for policy in policies {
            let (spec, rule) = policy.split();
            self.limits = self.limits.add(spec);
            self.rules.push(rule);
        }
        RateLimitBuilder {
            limits: self.limits,
            rules: self.rules,
            headers: self.headers,
            keys: PhantomData,
        }
    }

    /// How the state of keys is held, and how much of it; see [`LimiterBuilder::memory`].
    pub fn memory(mut self, memory: Memory) -> Self {
        self.limits = self.limits.memory(memory);
        self
    }

    /// Which fields tell clients about their limits.
    pub const fn headers(mut self, headers: Headers) -> Self {
        self.headers = headers;
        self
    }

    /// The layer, with all its state. Without policies, it lets everything pass.
    ///
    /// # Errors
    ///
    /// As [`LimiterBuilder::build`]; the message names the policy, the field and the rule.
    pub fn build(self) -> Result<RateLimitLayer<Ks>, ConfigError> {
        Ok(RateLimitLayer {
            admission: Arc::new(self.into_admission()?),
            slot: SLOT,
            on_reject: Respond::new(),
            keys: PhantomData,
        })
    }

    /// Beside a store that other instances share.
    #[cfg(feature = "redis")]
    pub(crate) fn shared(mut self) -> Self {
        self.limits = self.limits.shared();
        self
    }

    pub(crate) fn into_admission(self) -> Result<Admission, ConfigError> {
        let limiter = Arc::new(self.limits.build()?);
        Ok(Admission::new(limiter, self.rules, self.headers))
    }
}

impl<Ks> fmt::Debug for RateLimitBuilder<Ks> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitBuilder")
            .field("limits", &self.limits)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
