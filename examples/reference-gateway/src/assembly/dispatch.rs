//! The end of the pipeline: an upstream, or a service inside the gateway.

mod body;
mod future;

use std::task::{Context, Poll, ready};

use gw_core::call::call_into;
use gw_core::context::UpstreamName;
use gw_core::{BoxError, Rejection};
use gw_pipeline::codes;
use gw_pipeline::upstream::Forward;
use http::header::AUTHORIZATION;
use http::{Request, Response};
use tower_service::Service;

use self::body::AnswerBody;
use self::future::DispatchFuture;
use super::log_ingest::Intake;
use super::upstreams::{UpstreamAnswer, UpstreamStack};

/// Sends the requests of routes that name an upstream on to it, and those of the others to the log intake: it is the only
/// service inside the gateway. Both keep the request's deadline.
#[derive(Debug, Clone)]
pub(super) struct Dispatch {
    forward: Forward<UpstreamStack>,
    intake: Option<Intake>,
    forward_credentials: bool,
}

impl Dispatch {
    pub(super) const fn new(
        forward: Forward<UpstreamStack>,
        intake: Option<Intake>,
        forward_credentials: bool,
    ) -> Self {
        Self {
            forward,
            intake,
            forward_credentials,
        }
    }
}

impl<B> Service<Request<B>> for Dispatch
where
    Forward<UpstreamStack>:
        Service<Request<B>, Response = Response<UpstreamAnswer>, Error = Rejection>,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<AnswerBody>;
    type Error = BoxError;
    type Future = DispatchFuture<
        <Forward<UpstreamStack> as Service<Request<B>>>::Future,
        <Intake as Service<Request<B>>>::Future,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if let Some(intake) = &mut self.intake {
            ready!(Service::<Request<B>>::poll_ready(intake, cx))?;
        }
        self.forward.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        if !self.forward_credentials {
            request.headers_mut().remove(AUTHORIZATION);
        }
        if request.extensions().get::<UpstreamName>().is_some() {
            return call_into(&mut self.forward, request, |future| {
                DispatchFuture::Upstream { future }
            });
        }
        match &mut self.intake {
            Some(intake) => DispatchFuture::Local {
                future: Box::pin(intake.call(request)),
            },
            None => DispatchFuture::Refused {
                refused: Some(Box::new(Rejection::new(&codes::UPSTREAM_UNAVAILABLE))),
            },
        }
    }
}
