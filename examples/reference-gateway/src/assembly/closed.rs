//! Keeps routes shut whose callers nobody can authenticate yet.

use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::context::RouteMatch;
use gw_core::record::Record;
use gw_core::stage::{FactSet, HasRoute, Stage};
use gw_core::{Code, GrpcStatus, OnReject, RejectContext, Rejection, Respond};
use gw_pipeline::Decided;
use gw_pipeline::pipeline::slot::{self, Slot as _};
use http::{HeaderValue, Request, Response, StatusCode, header};
use tower_layer::Layer;
use tower_service::Service;

use crate::config::Config;
use crate::config::table::Access;

const AUTH_REQUIRED: Code = Code::new(
    "AUTH_REQUIRED",
    StatusCode::UNAUTHORIZED,
    "The request needs credentials.",
    GrpcStatus::Unauthenticated,
);

/// Stands where authentication stands, and refuses every request to a route that asks for it.
///
/// This version of the gateway has no authenticators. A route that names some must not be open because of that.
#[derive(Debug, Clone)]
pub(super) struct ClosedLayer {
    routes: Arc<[bool]>,
    unmatched: bool,
    on_reject: Respond,
}

impl ClosedLayer {
    pub(super) fn new(config: &Config, on_reject: Respond) -> Self {
        let asks = |access: &Access| matches!(access, Access::Authenticated { .. });
        let routes = config
            .routes
            .iter()
            .map(|route| asks(&route.access))
            .collect();
        let unmatched = !config.server.default_auth.is_empty();
        Self {
            routes,
            unmatched,
            on_reject,
        }
    }

    fn shuts(&self, route: Option<&RouteMatch>) -> bool {
        match route.and_then(RouteMatch::ordinal) {
            // A route that is not in the list is one we know nothing of.
            Some(ordinal) => self.routes.get(ordinal).copied().unwrap_or(true),
            None => self.unmatched,
        }
    }
}

impl<F: FactSet + HasRoute> Stage<F> for ClosedLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl<S> Layer<S> for ClosedLayer {
    type Service = Closed<S>;

    fn layer(&self, inner: S) -> Closed<S> {
        Closed {
            inner,
            layer: self.clone(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct Closed<S> {
    inner: S,
    layer: ClosedLayer,
}

impl<S, B, ResB> Service<Request<B>> for Closed<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    Respond: OnReject<Response<ResB>, S::Error, Error = S::Error>,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = Decided<S::Future, Respond, ResB, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if self.layer.shuts(request.extensions().get()) {
            let refused = Rejection::new(&AUTH_REQUIRED)
                .field(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            if let Some(record) = Record::of(request.extensions()) {
                record.refused(slot::Authenticate::NAME, refused.code());
            }
            let context = RejectContext::of(&request);
            return Decided::refused(self.layer.on_reject.reject(refused, &context));
        }
        Decided::inner(self.inner.call(request), self.layer.on_reject.clone())
    }
}
