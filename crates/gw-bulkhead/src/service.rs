use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::context::{Criticality, Deadline, Lane};
use gw_core::record::Record;
use gw_core::{Mode, OnReject, RejectContext, Respond};
use http::{Extensions, Request, Response};
use tokio::time::Instant;
use tower_service::Service;

use crate::error::{Observer, Rejected};
use crate::executor::{Execute, Inline};
use crate::future::ResponseFuture;
use crate::lanes::{Arrival, Entry, LaneId, LaneKey, Permit, Refusal, Wait};
use crate::layer::Shared;
use crate::lease::Lease;
use crate::telemetry;
use crate::upgrade::Upgrade;

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
        self.inner.poll_ready(cx).map_err(R::inner)
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        // The way of most requests stands apart: they are some 200 bytes each, and moving them about while it is asked what
        // else there is to ask costs more than admitting them.
        match self.shared.admit_plainly(request.extensions()) {
            Some(permit) => {
                let shared = &self.shared;
                let (lease, side) = self.executor.lease(shared, permit, &mut request);
                let mut on_reject = Some(self.on_reject.clone());
                self.start(request, side, &mut Some(lease), &mut on_reject)
            }
            None => self.look_closer(request),
        }
    }
}

impl<S, X, R> Bulkhead<S, X, R> {
    fn run<B, ResB>(
        &mut self,
        mut request: Request<B>,
        permit: Option<Permit>,
    ) -> ResponseFuture<S, B, ResB, X, R>
    where
        S: Service<Request<B>, Response = Response<ResB>>,
        X: Execute<S, B, ResB>,
        R: Clone,
    {
        let (mut lease, side) = match permit {
            Some(permit) => {
                let shared = &self.shared;
                let (lease, side) = self.executor.lease(shared, permit, &mut request);
                (Some(lease), side)
            }
            None => {
                Upgrade::held_for_by_none(&mut request);
                (None, X::Side::default())
            }
        };
        let mut on_reject = Some(self.on_reject.clone());
        self.start(request, side, &mut lease, &mut on_reject)
    }

    /// Runs it, with what it has of its lane.
    // Apart, and the lease stays with the caller until the service was called, for the reason of `gw_core::call`.
    #[inline(never)]
    fn start<B, ResB>(
        &mut self,
        request: Request<B>,
        side: X::Side,
        lease: &mut Option<Lease>,
        on_reject: &mut Option<R>,
    ) -> ResponseFuture<S, B, ResB, X, R>
    where
        S: Service<Request<B>, Response = Response<ResB>>,
        X: Execute<S, B, ResB>,
    {
        let future = self.executor.execute(&mut self.inner, request, side, lease);
        ResponseFuture::running(future, lease.take(), on_reject.take())
    }

    /// For requests that are not admitted by counting alone.
    #[inline(never)]
    fn look_closer<B, ResB>(&mut self, mut request: Request<B>) -> ResponseFuture<S, B, ResB, X, R>
    where
        S: Service<Request<B>, Response = Response<ResB>> + Clone,
        X: Execute<S, B, ResB>,
        R: Clone,
    {
        let lanes = &self.shared.lanes;
        if lanes.mode() == Mode::Off {
            return self.run(request, None);
        }
        let named = match &self.shared.classify {
            None => self.shared.named_in(request.extensions()),
            Some(classify) => {
                let (parts, body) = request.into_parts();
                let named = classify(&parts, lanes).filter(|lane| lanes.has(*lane));
                request = Request::from_parts(parts, body);
                named
            }
        };
        let lane = named.unwrap_or(self.shared.default);
        self.shared.note(lane, request.extensions());
        // The clock is asked only where there is no place, or more than a place to ask for.
        let arrival = if lanes.is_curious(lane) {
            if lanes.mode_of(lane) == Mode::Off {
                return self.run(request, None);
            }
            let arrival;
            (request, arrival) = self.shared.arrival(lane, request);
            arrival
        } else {
            if let Some(permit) = lanes.admit_plainly(lane) {
                return self.run(request, Some(permit));
            }
            Shared::arrival_of(request.extensions())
        };
        match lanes.enter(lane, arrival) {
            Entry::Admitted(permit) => self.run(request, Some(permit)),
            Entry::Queued(wait) => self.queued(wait, request),
            Entry::Refused(refusal) => self.refused(refusal, &request),
        }
    }

    #[cold]
    fn queued<B, ResB>(
        &mut self,
        wait: Wait,
        request: Request<B>,
    ) -> ResponseFuture<S, B, ResB, X, R>
    where
        S: Service<Request<B>, Response = Response<ResB>> + Clone,
        X: Execute<S, B, ResB>,
        R: Clone,
    {
        // The instance that was polled ready gives up what it has reserved: neither the request that waits keeps it, nor
        // this service, which may never be called again.
        let service = self.inner.clone();
        drop(mem::replace(&mut self.inner, service.clone()));
        let (executor, on_reject) = (self.executor.clone(), self.on_reject.clone());
        let shared = Arc::clone(&self.shared);
        ResponseFuture::queued(wait, shared, (service, request), executor, on_reject)
    }

    #[cold]
    fn refused<B, ResB>(
        &mut self,
        refusal: Refusal,
        request: &Request<B>,
    ) -> ResponseFuture<S, B, ResB, X, R>
    where
        S: Service<Request<B>, Response = Response<ResB>> + Clone,
        X: Execute<S, B, ResB>,
        R: Clone,
    {
        // As when it waits: what the readied instance has reserved is not kept for a next request, which may never come.
        self.inner = self.inner.clone();
        let observer = self.shared.observer(request.extensions());
        let rejected = Rejected::new(refusal, observer, RejectContext::of(request));
        ResponseFuture::rejected(rejected, self.on_reject.clone())
    }
}

impl Shared {
    /// A place for a request of which nothing must be known but its lane, if there is one.
    #[inline]
    fn admit_plainly(&self, extensions: &Extensions) -> Option<Permit> {
        let lanes = &self.lanes;
        if lanes.mode() == Mode::Off || self.classify.is_some() {
            return None;
        }
        let lane = self.named_in(extensions).unwrap_or(self.default);
        lanes.admit_unasked(lane, || self.note(lane, extensions))
    }

    /// Tells the observer, if there is one, in which lane a request is.
    #[inline]
    fn note(&self, lane: LaneId, extensions: &Extensions) {
        if let Some(record) = Record::of(extensions) {
            record.update(|exchange| exchange.lane = Some(self.lanes.config(lane).name.clone()));
        }
    }

    /// Who is told if a request is refused.
    pub(crate) fn observer<'a>(&self, extensions: &'a Extensions) -> Observer<'a> {
        Observer {
            record: Record::of(extensions),
            slot: self.slot,
        }
    }

    /// What there is to say of a request for which there is no place at once.
    fn arrival_of(extensions: &Extensions) -> Arrival {
        let arrival = Arrival::at(Instant::now());
        match extensions.get::<Deadline>() {
            Some(deadline) => arrival.deadline(*deadline),
            None => arrival,
        }
    }

    /// The same in a lane that wants to know more than that it is there.
    fn arrival<B>(&self, lane: LaneId, request: Request<B>) -> (Request<B>, Arrival) {
        let config = self.lanes.config(lane);
        let mut arrival = Self::arrival_of(request.extensions());
        if let Some(criticality) = request.extensions().get::<Criticality>() {
            arrival = arrival.criticality(*criticality);
        }
        if Upgrade::is_asked(&request) {
            arrival = arrival.open_ended();
        }
        let Some(per_key) = &config.per_key else {
            return (request, arrival);
        };
        let (parts, body) = request.into_parts();
        let mut hasher = self.lanes.hasher();
        if let Some(missing) = per_key.hash(&parts, &mut hasher) {
            telemetry::key_missing(config.name(), &missing);
        }
        let arrival = arrival.key(LaneKey::finish(&hasher));
        (Request::from_parts(parts, body), arrival)
    }

    /// The lane that an earlier stage has chosen, if it exists. Where there is but one it is the default.
    #[inline]
    fn named_in(&self, extensions: &Extensions) -> Option<LaneId> {
        if self.lanes.is_sole() {
            return None;
        }
        self.lanes.find(extensions.get::<Lane>()?.as_str())
    }
}
