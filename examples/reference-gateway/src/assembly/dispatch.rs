//! The end of the pipeline: an upstream, or a service inside the gateway.

use std::task::{Context, Poll};

use gw_core::context::UpstreamName;
use gw_core::record::Record;
use gw_core::{OnReject as _, RejectContext, Rejection, Respond};
use gw_pipeline::pipeline::slot::{self, Slot as _};
use gw_pipeline::upstream::{Forward, UpstreamBody};
use gw_pipeline::{Decided, codes};
use http::header::AUTHORIZATION;
use http::{Request, Response};
use tower_service::Service;

/// Sends the requests of routes that name an upstream on to it. Services inside the gateway are not there yet: their
/// routes are told that they are not available.
#[derive(Debug, Clone)]
pub(super) struct Dispatch {
    forward: Forward,
    on_reject: Respond,
    forward_credentials: bool,
}

impl Dispatch {
    pub(super) const fn new(
        forward: Forward,
        on_reject: Respond,
        forward_credentials: bool,
    ) -> Self {
        Self {
            forward,
            on_reject,
            forward_credentials,
        }
    }
}

impl<B> Service<Request<B>> for Dispatch
where
    Forward: Service<Request<B>, Response = Response<UpstreamBody>, Error = Rejection>,
{
    type Response = Response<UpstreamBody>;
    type Error = Rejection;
    type Future =
        Decided<<Forward as Service<Request<B>>>::Future, Respond, UpstreamBody, Rejection>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        self.forward.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !self.forward_credentials {
            request.headers_mut().remove(AUTHORIZATION);
        }
        if request.extensions().get::<UpstreamName>().is_some() {
            return Decided::inner(self.forward.call(request), self.on_reject.clone());
        }
        let refused = Rejection::new(&codes::UPSTREAM_UNAVAILABLE);
        if let Some(record) = Record::of(request.extensions()) {
            record.refused(slot::Forward::NAME, refused.code());
        }
        Decided::refused(self.on_reject.reject(refused, &RejectContext::of(&request)))
    }
}
