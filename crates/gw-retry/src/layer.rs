use std::fmt;
use std::sync::Arc;
use std::thread::LocalKey;

use gw_core::Mode;
use gw_core::at_hand::{AtHand, Kept};
use gw_core::mode::SharedMode;
use gw_core::stage::{FactSet, Stage};
use http::{Extensions, HeaderName};
use tower_layer::Layer;

use crate::budget::Budget;
use crate::context::CopyExtensions;
use crate::handle::RetryHandle;
use crate::latency::Latency;
use crate::policy::{LivePolicy, RetryPolicy};
use crate::replay::ReplayPool;
use crate::service::Retry;
use crate::sync::{AtomicU64, Ordering};

/// Applies a [`Retry`]. All services made by it and its clones share budget, pool and mode.
///
/// Around axum's routes it needs [`copy_extensions`](RetryBuilder::copy_extensions): what axum's extractors read is copied to no
/// later attempt otherwise.
#[derive(Debug, Clone)]
pub struct RetryLayer {
    shared: Arc<Shared>,
}

/// Builds a [`RetryLayer`].
#[must_use = "a builder does nothing until it is built"]
pub struct RetryBuilder {
    shared: Shared,
}

/// What all services of a layer share.
pub(crate) struct Shared {
    pub(crate) policy: LivePolicy,
    pub(crate) budget: Budget,
    pub(crate) pool: ReplayPool,
    pub(crate) mode: SharedMode,
    pub(crate) attempt_field: HeaderName,
    pub(crate) no_retry_field: HeaderName,
    pub(crate) copy: Option<CopyExtensions>,
    /// How long attempts take that succeed, of requests without a policy of their own. Not the policy's: other layers may have it too.
    pub(crate) latency: Latency,
    seed: Option<AtomicU64>,
}

thread_local! {
    static AT_HAND: AtHand<Shared> = const { AtHand::new() };
}

impl Kept for Shared {
    fn hand() -> &'static LocalKey<AtHand<Self>> {
        &AT_HAND
    }
}

impl RetryLayer {
    /// The field that tells an upstream which attempt it sees: `x-gw-attempt: 2`. First attempts do not carry it.
    pub const ATTEMPT: HeaderName = HeaderName::from_static("x-gw-attempt");
    /// The field of an answer that asks not to try again: `x-gw-should-retry: false`.
    pub const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-gw-should-retry");

    /// Retries within `budget`, by the default [`RetryPolicy`].
    ///
    /// A [`Budget`] or a [`RetryPolicy`] in a request's extensions takes the place of the layer's.
    pub fn builder(budget: Budget) -> RetryBuilder {
        RetryBuilder {
            shared: Shared {
                policy: LivePolicy::new(RetryPolicy::default()),
                budget,
                pool: ReplayPool::default(),
                mode: SharedMode::default(),
                attempt_field: Self::ATTEMPT,
                no_retry_field: Self::SHOULD_RETRY,
                copy: None,
                latency: Latency::of_attempts(),
                seed: None,
            },
        }
    }

    /// What an operator may read and change while requests run.
    pub fn handle(&self) -> RetryHandle {
        RetryHandle::new(Arc::clone(&self.shared))
    }
}

impl RetryBuilder {
    /// What is sent again, for requests that carry no policy of their own.
    pub fn policy(mut self, policy: RetryPolicy) -> Self {
        self.shared.policy = LivePolicy::new(policy);
        self
    }

    /// The bound on the bodies kept by this layer and all others with a clone of the pool. 64 MiB for this layer alone
    /// unless set.
    pub fn replay_pool(mut self, pool: ReplayPool) -> Self {
        self.shared.pool = pool;
        self
    }

    /// What the layer does at first. In shadow mode the budget is charged as if requests had been sent again.
    pub const fn mode(mut self, mode: Mode) -> Self {
        self.shared.mode = SharedMode::new(mode);
        self
    }

    /// The field that tells an upstream which attempt it sees, in place of [`RetryLayer::ATTEMPT`]; Envoy's users know
    /// `x-envoy-attempt-count`.
    ///
    /// A request that comes in with it at 2 or more was sent again by a layer further out, and is not sent again by this one. What
    /// is no number says nothing. Of a gRPC call `grpc-previous-rpc-attempts` says the same, at 1 or more.
    pub fn attempt_field(mut self, name: HeaderName) -> Self {
        self.shared.attempt_field = name;
        self
    }

    /// The field of an answer that asks not to try again by saying `false`, in place of [`RetryLayer::SHOULD_RETRY`]. It is
    /// heeded in an upstream's answers, and set in the answers to requests that this layer has given up on.
    pub fn should_retry_field(mut self, name: HeaderName) -> Self {
        self.shared.no_retry_field = name;
        self
    }

    /// Copies more of a request's extensions to its later attempts than the types of `gw_core::context`, the `Record` and
    /// `AttemptTimeouts`, which are all that is copied otherwise. The peer's address is read where
    /// [`peer_addr`](gw_core::key::peer_addr) finds it, and goes along as a `PeerAddr`.
    ///
    /// Around axum's routes all of it must be copied, or the extractors `Path`, `MatchedPath`, `Extension` and `ConnectInfo` fail in
    /// later attempts. hyper's `OnUpgrade` does not come with it: a request that asks to take its connection over, by CONNECT or
    /// an `Upgrade` field, is sent once. Within a limit of gw-ratelimit, what that leaves is copied by its `copy_extensions`; before
    /// the connections of gw-pipeline, what these read by `upstream::copy_extensions`.
    ///
    /// ```
    /// use axum::extract::Path;
    /// use axum::{Router, routing::get};
    /// use gw_retry::{Budget, RetryLayer};
    ///
    /// let retry = RetryLayer::builder(Budget::builder("orders").build()?)
    ///     .copy_extensions(|from, to| *to = from.clone())
    ///     .build();
    /// let app: Router = Router::new()
    ///     .route("/orders/{id}", get(|Path(id): Path<u32>| async move { id.to_string() }))
    ///     .layer(retry);
    /// # Ok::<(), gw_retry::ConfigError>(())
    /// ```
    ///
    /// It runs for each request that may be sent again. What else stands for a connection must not be copied; an
    /// [`Awaited`](gw_core::awaited::Awaited) never is. It may be dropped as a thread ends, see [`AtHand`](gw_core::at_hand::AtHand).
    pub fn copy_extensions<F>(mut self, copy: F) -> Self
    where
        F: Fn(&Extensions, &mut Extensions) + Send + Sync + 'static,
    {
        self.shared.copy = Some(Arc::new(copy));
        self
    }

    /// Makes the waits of the layer repeat themselves from run to run, for tests and simulations.
    pub fn seed(mut self, seed: u64) -> Self {
        self.shared.seed = Some(AtomicU64::new(seed));
        self
    }

    /// The layer.
    pub fn build(self) -> RetryLayer {
        RetryLayer {
            shared: Arc::new(self.shared),
        }
    }
}

impl Shared {
    /// For the wait before one retry.
    pub(crate) fn draw(&self) -> u64 {
        match &self.seed {
            None => fastrand::u64(..),
            Some(seed) => fastrand::Rng::with_seed(seed.fetch_add(1, Ordering::Relaxed)).u64(..),
        }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retry<S>;

    fn layer(&self, inner: S) -> Retry<S> {
        Retry::new(inner, Arc::clone(&self.shared))
    }
}

/// Needs nothing.
impl<F: FactSet> Stage<F> for RetryLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("policy", &self.policy)
            .field("budget", &self.budget)
            .field("pool", &self.pool)
            .field("mode", &self.mode.get())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RetryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RetryBuilder").field(&self.shared).finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::convert::Infallible;
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Waker};
    use std::thread;
    use std::time::Duration;

    use gw_core::Body;
    use http::{Request, Response};
    use tower::{Service as _, service_fn};

    use super::*;

    /// Story: each 304 and each 404 took the lock of the layer's policy, which all threads share.
    #[test]
    fn what_is_no_failure_takes_no_lock() {
        let budget = Budget::builder("orders").build().unwrap();
        let layer = RetryLayer::builder(budget).build();
        let held = layer.shared.policy.lock();
        let (sender, answered) = mpsc::channel();
        let other = layer.clone();
        // On another thread: the lock would never come.
        thread::spawn(move || {
            for status in [200, 304, 404, 408, 425] {
                let inner = service_fn(async |_| {
                    let response = Response::builder().status(status);
                    Ok::<_, Infallible>(response.body(Body::empty()).unwrap())
                });
                let answer = pin!(other.layer(inner).call(Request::new(Body::empty())));
                let polled = answer.poll(&mut Context::from_waker(Waker::noop()));
                sender.send(polled.is_ready()).unwrap();
            }
        });
        for _ in 0..5 {
            assert_eq!(answered.recv_timeout(Duration::from_secs(10)), Ok(true));
        }
        drop(held);
    }
}
