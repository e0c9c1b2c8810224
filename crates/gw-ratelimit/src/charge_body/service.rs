use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{ChargedBody, Meter, Tariff};
use crate::charged::Charged;
use crate::future::ChargeBodyFuture;
use crate::telemetry;

/// The service of a [`ChargeBodyLayer`](super::ChargeBodyLayer). Readiness is the inner service's.
#[derive(Debug, Clone)]
pub struct ChargeBody<S> {
    inner: S,
    tariff: Arc<Tariff>,
}

impl<S> ChargeBody<S> {
    pub(super) const fn new(inner: S, tariff: Arc<Tariff>) -> Self {
        Self { inner, tariff }
    }

    /// The inner service.
    pub const fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service.
    pub const fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, B, ResB> Service<Request<B>> for ChargeBody<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Response = Response<ChargedBody<ResB>>;
    type Error = S::Error;
    type Future = ChargeBodyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let charged = request.extensions().get::<Charged>();
        let seat = charged.and_then(|charged| charged.seat(&self.tariff.policy));
        let per_cell = self.tariff.bytes_per_cell;
        let meter = seat.map(|seat| Meter::new(seat, per_cell));
        if meter.is_none() && charged.is_none_or(|charged| !charged.knows(&self.tariff.policy)) {
            self.tariff.note_unknown();
        }
        ChargeBodyFuture::new(self.inner.call(request), meter)
    }
}

impl Tariff {
    /// Not for a request that the policy does not apply to: such a policy is known.
    fn note_unknown(&self) {
        let log = || telemetry::bytes_uncharged(&self.policy);
        self.unknown_logged.run(log);
    }
}
