use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::{OnReject, RejectContext, Respond};
use http::{Request, Response};
use tower_service::Service;

use crate::admission::Admission;
use crate::future::ResponseFuture;

/// The service of a [`RateLimitLayer`](crate::RateLimitLayer).
///
/// Readiness is the inner service's; nothing is decided or held before `call`. A refused request does not touch the
/// inner service, whose readiness stays for the next call.
#[derive(Clone)]
pub struct RateLimit<S, R = Respond> {
    inner: S,
    admission: Arc<Admission>,
    slot: &'static str,
    on_reject: R,
}

impl<S, R> RateLimit<S, R> {
    pub(crate) const fn new(
        inner: S,
        admission: Arc<Admission>,
        slot: &'static str,
        on_reject: R,
    ) -> Self {
        Self {
            inner,
            admission,
            slot,
            on_reject,
        }
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

impl<S: fmt::Debug, R> fmt::Debug for RateLimit<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("admission", &self.admission)
            .finish_non_exhaustive()
    }
}

impl<S, R, B, ResB> Service<Request<B>> for RateLimit<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: 'static,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    type Response = Response<ResB>;
    type Error = R::Error;
    type Future = ResponseFuture<S::Future, R, Result<Response<ResB>, R::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        self.inner.poll_ready(cx).map_err(R::inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let mut advert = None;
        match self.admission.admit(&mut parts, self.slot, &mut advert) {
            Ok(late) => {
                // Decided without waiting, so the instance that is ready can be called in place.
                let call = || self.inner.call(Request::from_parts(parts, body));
                ResponseFuture::passed(call, &mut advert, late)
            }
            Err(rejection) => {
                let context = RejectContext::of_parts(&parts);
                let mut outcome = self.on_reject.reject(rejection, &context);
                if let (Ok(response), Some(advert)) = (&mut outcome, &mut advert) {
                    advert.write(response);
                }
                ResponseFuture::refused(outcome)
            }
        }
    }
}
