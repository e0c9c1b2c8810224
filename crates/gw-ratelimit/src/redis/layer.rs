use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use gw_core::Respond;
use gw_core::key::AvailableIn;
use gw_core::stage::{FactSet, Stage};
use tower_layer::Layer;

use super::admission::{Desk, SharedAdmission};
use super::limiter::SharedLimiter;
use super::service::SharedRateLimit;
use super::settings::RedisStore;
use crate::config::ConfigError;
use crate::handle::RateLimitHandle;
use crate::layer::{RateLimitBuilder, SLOT};

/// Refuses requests that are over a limit that all instances share.
///
/// As [`RateLimitLayer`](crate::RateLimitLayer), but that a request may have to wait for Redis, and that the inner
/// service must be `Clone`. Made by [`RateLimitBuilder::build_shared`].
///
/// # Examples
///
/// ```
/// use gw_ratelimit::key::ClientIp;
/// use gw_ratelimit::redis::{Leases, RedisStore};
/// use gw_ratelimit::{Policy, Quota, RateLimitLayer};
///
/// # fn example(secret: &[u8]) -> Result<(), gw_ratelimit::ConfigError> {
/// let store = RedisStore::new("redis://127.0.0.1", "api", secret).leases(Leases::up_to(20));
/// let limits = RateLimitLayer::builder()
///     .policy(Policy::new("per_ip", Quota::per_second(100).burst(200)).key(ClientIp::new()))
///     .build_shared(&store)?;
/// # Ok(())
/// # }
/// ```
pub struct SharedRateLimitLayer<Ks = (), R = Respond> {
    desk: Desk,
    on_reject: R,
    // A function's type, since no key is held: the layer is `Send` and `Sync` whatever the keys are.
    keys: PhantomData<fn() -> Ks>,
}

impl<Ks> RateLimitBuilder<Ks> {
    /// The layer, with its state in Redis. Nothing is connected yet. Without policies, it lets everything pass.
    ///
    /// # Errors
    ///
    /// As [`RateLimitBuilder::build`]; if a value of the store is out of its bounds. The length of a sliding window is
    /// rounded up to whole microseconds, and so is the time between the cells of a burst that takes longer than 52 days to win back.
    pub fn build_shared(self, store: &RedisStore) -> Result<SharedRateLimitLayer<Ks>, ConfigError> {
        let admission = Arc::new(self.shared().into_admission()?);
        let limiter = SharedLimiter::new(Arc::clone(admission.limiter()), store)?;
        Ok(SharedRateLimitLayer {
            desk: Desk {
                admission: Arc::new(SharedAdmission::new(admission, limiter)),
                slot: SLOT,
            },
            on_reject: Respond::new(),
            keys: PhantomData,
        })
    }
}

impl<Ks, R> SharedRateLimitLayer<Ks, R> {
    /// Renders refusals with `on_reject` instead.
    pub fn on_reject<R2>(self, on_reject: R2) -> SharedRateLimitLayer<Ks, R2> {
        SharedRateLimitLayer {
            desk: self.desk,
            on_reject,
            keys: PhantomData,
        }
    }

    /// A handle for whoever operates the layer; see [`SharedLimiter::handle`] for what is shared and what is not.
    pub fn handle(&self) -> RateLimitHandle {
        self.limiter().handle()
    }

    /// What decides.
    pub fn limiter(&self) -> &SharedLimiter {
        self.desk.admission.limiter()
    }
}

// By hand: a derive would ask for `Ks: Clone`.
impl<Ks, R: Clone> Clone for SharedRateLimitLayer<Ks, R> {
    fn clone(&self) -> Self {
        Self {
            desk: self.desk.clone(),
            on_reject: self.on_reject.clone(),
            keys: PhantomData,
        }
    }
}

impl<Ks, R> fmt::Debug for SharedRateLimitLayer<Ks, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimitLayer")
            .field("desk", &self.desk)
            .finish_non_exhaustive()
    }
}

impl<Ks, R: Clone, S> Layer<S> for SharedRateLimitLayer<Ks, R> {
    type Service = SharedRateLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        SharedRateLimit::new(inner, self.desk.clone(), self.on_reject.clone())
    }
}

impl<F: FactSet, Ks: AvailableIn<F>, R> Stage<F> for SharedRateLimitLayer<Ks, R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }

    fn into_layer_in(mut self, slot: &'static str) -> Self {
        self.desk.slot = slot;
        self
    }
}
