use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::context::Lane;
use gw_core::record::Record;
use gw_core::{OnReject, RejectContext, Respond};
use http::{Extensions, Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use crate::config::Mode;
use crate::error::{self, Rejected};
use crate::executor::{Execute, Inline};
use crate::future::ResponseFuture;
use crate::lanes::{Entry, LaneId};
use crate::layer::Shared;

/// Admits requests into lanes. Made by a [`BulkheadLayer`](crate::BulkheadLayer).
#[derive(Debug, Clone)]
pub struct Bulkhead<S, X = Inline, R = Respond> {
    inner: S,
    shared: Arc<Shared>,
    executor: X,
    on_reject: R,
}

impl<S, X, R> Bulkhead<S, X, R> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>, executor: X, on_reject: R) -> Self {
        Self {
            inner,
            shared,
            executor,
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

impl<S, X, R, B, ResB> Service<Request<B>> for Bulkhead<S, X, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    X: Execute<S, B, ResB>,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    type Response = Response<X::Body>;
    type Error = R::Error;
    type Future = ResponseFuture<S, B, ResB, X, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        self.inner
            .poll_ready(cx)
            .map_err(|error| self.on_reject.inner(error))
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let lanes = &self.shared.lanes;
        let on_reject = self.on_reject.clone();
        if lanes.mode() == Mode::Off {
            let future = self.executor.execute(&mut self.inner, request, None);
            return ResponseFuture::running(future, on_reject);
        }
        let named = match &self.shared.classify {
            None => self.shared.named_in(request.extensions()),
            Some(classify) => {
                let (parts, body) = request.into_parts();
                let named = classify(&parts).and_then(|name| lanes.find(name));
                request = Request::from_parts(parts, body);
                named
            }
        };
        let lane = named.unwrap_or(self.shared.default);
        let config = lanes.config(lane);
        if let Some(record) = Record::of(request.extensions()) {
            record.update(|exchange| exchange.lane = Some(config.name.clone()));
        }
        // The clock is asked only where there is no place.
        let entry = match lanes.try_admit(lane) {
            Some(permit) => Entry::Admitted(permit),
            None => lanes.enter(lane, Instant::now()),
        };
        match entry {
            Entry::Admitted(permit) => {
                let place = Some((lanes, permit));
                let future = self.executor.execute(&mut self.inner, request, place);
                ResponseFuture::running(future, on_reject)
            }
            Entry::Queued(wait) => {
                let deadline = Instant::now() + config.queue_timeout;
                let lanes = lanes.clone();
                // The instance that was polled ready is the one to call; a clone stays behind.
                let clone = self.inner.clone();
                let ready = mem::replace(&mut self.inner, clone);
                let call = (ready, request);
                ResponseFuture::queued(
                    wait,
                    lanes,
                    deadline,
                    call,
                    self.executor.clone(),
                    on_reject,
                )
            }
            Entry::Refused(refusal) => {
                let context = RejectContext::of(&request);
                let rejection = error::rejection(refusal);
                ResponseFuture::rejected(Rejected { rejection, context }, on_reject)
            }
        }
    }
}

impl Shared {
    /// The lane that an earlier stage has chosen, if it exists.
    fn named_in(&self, extensions: &Extensions) -> Option<LaneId> {
        self.lanes.find(extensions.get::<Lane>()?.as_str())
    }
}
