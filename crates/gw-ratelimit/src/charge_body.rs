mod body;
mod service;

use std::num::NonZeroU32;
use std::sync::Arc;

use gw_core::stage::{FactSet, Stage};
use tower_layer::Layer;

pub use self::body::ChargedBody;
pub(crate) use self::body::Meter;
pub use self::service::ChargeBody;
use crate::telemetry::Once;

/// Charges the bytes of answers to the policy that admitted the request, as they leave.
///
/// It stands anywhere within a [`RateLimitLayer`](crate::RateLimitLayer) whose policy of that name takes late charges (see
/// [`Policy::late_charges`](crate::Policy::late_charges)). It never refuses and never holds anything up: who has taken too
/// much is refused the next request. The mode is the policy's.
///
/// A cell is charged when its first byte leaves, so what was sent is paid for however the answer ends: at its end, with an
/// error, or when the client goes away. A request that the policy does not apply to costs nothing.
///
/// # Examples
///
/// ```
/// use std::num::NonZeroU32;
/// use gw_ratelimit::key::ClientIp;
/// use gw_ratelimit::{ChargeBodyLayer, Policy, Quota, RateLimitLayer};
///
/// // A mebibyte a second for each client, four at once. A request costs a cell as well: one that costs none is never refused.
/// const KIB: NonZeroU32 = NonZeroU32::new(1024).unwrap();
/// let limits = RateLimitLayer::builder()
///     .policy(
///         Policy::new("downloads", Quota::per_second(1024).burst(4096))
///             .key(ClientIp::new())
///             .cost(|_| 1)
///             .late_charges(),
///     )
///     .build()?;
/// let app: axum::Router = axum::Router::new()
///     .layer(ChargeBodyLayer::new("downloads", KIB))
///     .layer(limits);
/// # Ok::<(), gw_ratelimit::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChargeBodyLayer {
    tariff: Arc<Tariff>,
}

/// What is charged, and to whom.
#[derive(Debug)]
struct Tariff {
    policy: Arc<str>,
    bytes_per_cell: NonZeroU32,
    /// Logged once: a layer that charges nothing is a mistake that nobody would notice.
    unknown_logged: Once,
}

impl ChargeBodyLayer {
    /// Charges one cell of `policy` for each `bytes_per_cell` bytes that have begun.
    pub fn new(policy: impl Into<Arc<str>>, bytes_per_cell: NonZeroU32) -> Self {
        Self {
            tariff: Arc::new(Tariff {
                policy: policy.into(),
                bytes_per_cell,
                unknown_logged: Once::default(),
            }),
        }
    }
}

impl<S> Layer<S> for ChargeBodyLayer {
    type Service = ChargeBody<S>;

    fn layer(&self, inner: S) -> Self::Service {
        ChargeBody::new(inner, Arc::clone(&self.tariff))
    }
}

impl<F: FactSet> Stage<F> for ChargeBodyLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}
