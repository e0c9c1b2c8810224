use std::fmt;
use std::mem;
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
/// Readiness is the inner service's; nothing is decided or held before `call`. A request that Redis is asked about keeps nothing
/// of it while it waits: the instance that was ready is dropped, and a clone becomes ready once the request may pass.
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
    S::Error: 'static,
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
                let call = |request| self.inner.call(request);
                let decided = go_on(decided, advert, request, call, &self.on_reject);
                ResponseFuture::decided(decided)
            }
            Asked::Asking(question) => {
                // The instance that is ready gives up what it has reserved: others may need that to answer, and neither the
                // request keeps it nor this service, which may never be called again.
                let inner = self.inner.clone();
                drop(mem::replace(&mut self.inner, inner.clone()));
                let waiting = Waiting {
                    inner,
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

/// Answers with what `call` answers, or refuses.
pub(super) fn go_on<F, R, B, ResB, E>(
    decided: Decided,
    mut advert: Option<Advert>,
    (parts, body): (Parts, B),
    call: impl FnOnce(Request<B>) -> F,
    on_reject: &R,
) -> future::ResponseFuture<F, R, Result<Response<ResB>, R::Error>>
where
    R: OnReject<Response<ResB>, E>,
{
    match decided {
        Ok(late) => {
            let call = || call(Request::from_parts(parts, body));
            future::ResponseFuture::passed(call, &mut advert, late)
        }
        Err(rejection) => {
            let context = RejectContext::of_parts(&parts);
            let mut outcome = on_reject.reject(rejection, &context);
            if let (Ok(response), Some(advert)) = (&mut outcome, &mut advert) {
                advert.write(response);
            }
            future::ResponseFuture::refused(outcome)
        }
    }
}
