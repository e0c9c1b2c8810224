use std::fmt;
use std::task::{Context, Poll};

use gw_core::{OnReject, RejectContext, Respond};
use http::request::Parts;
use http::{Request, Response};
use tower_service::Service;

use super::admission::{Asked, Decided, Desk};
use super::future::{ResponseFuture, Waiting};
use crate::fields::Advert;
use crate::future;

/// The service of a [`SharedRateLimitLayer`](super::SharedRateLimitLayer).
///
/// Readiness is the inner service's; nothing is decided or held before `call`. A request that Redis is asked about
/// takes the instance that is ready along, and leaves a clone; if it is refused, that instance is dropped untouched.
#[derive(Clone)]
pub struct SharedRateLimit<S, R = Respond> {
    inner: S,
    desk: Desk,
    on_reject: R,
}

impl<S, R> SharedRateLimit<S, R> {
    pub(super) const fn new(inner: S, desk: Desk, on_reject: R) -> Self {
        Self {
            inner,
            desk,
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

impl<S: fmt::Debug, R> fmt::Debug for SharedRateLimit<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedRateLimit")
            .field("inner", &self.inner)
            .field("desk", &self.desk)
            .finish_non_exhaustive()
    }
}

impl<S, R, B, ResB> Service<Request<B>> for SharedRateLimit<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    type Response = Response<ResB>;
    type Error = R::Error;
    type Future = ResponseFuture<S, S::Future, B, R, Result<Response<ResB>, R::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        self.inner.poll_ready(cx).map_err(R::inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let mut advert = None;
        match self
            .desk
            .admission
            .ask(&mut parts, self.desk.slot, &mut advert)
        {
            Asked::Decided(decided) => {
                let request = (parts, body);
                // Decided without waiting, so the instance that is ready can be called in place.
                let decided = go_on(decided, advert, request, &mut self.inner, &self.on_reject);
                ResponseFuture::decided(decided)
            }
            Asked::Asking(question) => {
                let clone = self.inner.clone();
                let waiting = Waiting {
                    inner: std::mem::replace(&mut self.inner, clone),
                    parts,
                    body,
                    desk: self.desk.clone(),
                    on_reject: self.on_reject.clone(),
                };
                ResponseFuture::asking(question, waiting)
            }
        }
    }
}

/// Calls the inner service, or refuses.
pub(super) fn go_on<S, R, B, ResB>(
    decided: Decided,
    advert: Option<Advert>,
    (parts, body): (Parts, B),
    inner: &mut S,
    on_reject: &R,
) -> future::ResponseFuture<S::Future, R, Result<Response<ResB>, R::Error>>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    match decided {
        Ok(late) => {
            let call = || inner.call(Request::from_parts(parts, body));
            future::ResponseFuture::passed(call, advert, late)
        }
        Err(rejection) => {
            let context = RejectContext::of_parts(&parts);
            let mut outcome = on_reject.reject(rejection, &context);
            if let (Ok(response), Some(mut advert)) = (&mut outcome, advert) {
                advert.write(response);
            }
            future::ResponseFuture::refused(outcome)
        }
    }
}
