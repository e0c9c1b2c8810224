use std::mem;
use std::task::{Context, Poll, ready};

use gw_core::call::call_into;
use gw_core::classify::Classify;
use gw_core::on_reject::Caller;
use gw_core::{OnReject, Respond};
use http::{Request, Response};
use http_body::Body;
use tokio::time::Instant;
use tower_service::Service;

use crate::ContentClassifier;
use crate::admission::Refused;
use crate::attempt::Attempt;
use crate::body::ResponseBody;
use crate::breaker::Breaker;
use crate::classify::ClassifyError;
use crate::config::LatencyFrom;
use crate::error::Rejected;
use crate::future::{Judge, ResponseFuture};
use crate::select::{Select, Single};

/// Keeps requests from an upstream that is broken. Made by a [`BreakerLayer`](crate::BreakerLayer).
#[derive(Debug)]
pub struct BreakerService<S, K = Single, C = ContentClassifier, R = Respond> {
    inner: S,
    select: K,
    manner: Manner<C, R>,
    readiness: Readiness,
}

/// How requests are judged and refused.
#[derive(Debug, Clone)]
pub(crate) struct Manner<C, R> {
    pub(crate) judge: Judge<C>,
    pub(crate) latency_from: LatencyFrom,
    pub(crate) slot: &'static str,
    pub(crate) on_reject: R,
}

/// What is known of the inner service since it was last called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readiness {
    /// It was not asked.
    Unknown,
    /// It was asked, and may have reserved something or wait for it.
    Asked,
    Ready,
}

impl<S, K, C, R> BreakerService<S, K, C, R> {
    pub(crate) const fn new(inner: S, select: K, manner: Manner<C, R>) -> Self {
        Self {
            inner,
            select,
            manner,
            readiness: Readiness::Unknown,
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

// By hand: a clone of the inner service has reserved nothing.
impl<S: Clone, K: Clone, C: Clone, R: Clone> Clone for BreakerService<S, K, C, R> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.select.clone(), self.manner.clone())
    }
}

impl<S, K, C, R, B, ResB> Service<Request<B>> for BreakerService<S, K, C, R>
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone,
    K: Select,
    C: Classify + ClassifyError<S::Error> + Clone,
    R: OnReject<Response<ResB>, S::Error> + Clone,
    ResB: Body,
{
    type Response = Response<ResponseBody<ResB, C>>;
    type Error = R::Error;
    type Future = ResponseFuture<S, B, C, R>;

    /// Asks the inner service, unless the breaker is not closed: then it is ready, and asks when a request may pass.
    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        if !self.select.passes() {
            return Poll::Ready(Ok(()));
        }
        self.readiness = Readiness::Asked;
        let ready = ready!(self.inner.poll_ready(cx));
        self.readiness = Readiness::Ready;
        Poll::Ready(ready.map_err(R::inner))
    }

    #[inline]
    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let breaker = self.select.find(&mut request);
        breaker.core().hub.seen();
        let readiness = mem::replace(&mut self.readiness, Readiness::Unknown);
        if readiness == Readiness::Ready
            && let Some(ticket) = breaker.ticket_if_closed()
        {
            drop(breaker);
            let mut attempt = Attempt::new(ticket, request.extensions());
            attempt.begin(self.manner.latency_from, request.extensions_mut());
            return self.sent(request, &mut attempt);
        }
        let admitted = self.manner.admit(&breaker, &mut request);
        drop(breaker);
        self.otherwise(request, admitted, readiness)
    }
}

impl<C, R> Manner<C, R> {
    /// Where the breaker is not simply closed. Nothing is admitted, and the request passes, if it only would have been refused.
    #[cold]
    fn admit<B>(&self, breaker: &Breaker, request: &mut Request<B>) -> Result<Attempt, Refused> {
        let hub = &breaker.core().hub;
        match breaker.admit(Instant::now()) {
            Ok(admission) => {
                let mut attempt = Attempt::new(admission.into_ticket(), request.extensions());
                attempt.begin(self.latency_from, request.extensions_mut());
                Ok(attempt)
            }
            Err(_) if hub.is_shadow() => {
                hub.metrics.would_reject();
                Ok(Attempt::nothing())
            }
            Err(refused) => {
                hub.metrics.rejected();
                Err(refused)
            }
        }
    }
}

impl<S: Clone, K: Select, C: Clone, R: Clone> BreakerService<S, K, C, R> {
    /// By the instance that is ready.
    #[inline(always)]
    fn sent<B>(&mut self, request: Request<B>, attempt: &mut Attempt) -> ResponseFuture<S, B, C, R>
    where
        S: Service<Request<B>>,
    {
        // Classifiers have no state as a rule, so there is nothing to decide when one is cloned.
        let judge = &self.manner.judge;
        let caller = Caller::of(request.method(), request.headers());
        call_into(&mut self.inner, request, |future| {
            ResponseFuture::running(future, attempt.take(), judge.clone(), caller)
        })
    }

    /// Where the breaker is not simply closed, or the inner service was not found ready.
    #[cold]
    fn otherwise<B>(
        &mut self,
        request: Request<B>,
        admitted: Result<Attempt, Refused>,
        readiness: Readiness,
    ) -> ResponseFuture<S, B, C, R>
    where
        S: Service<Request<B>>,
    {
        match admitted {
            Ok(mut attempt) if readiness == Readiness::Ready => self.sent(request, &mut attempt),
            Ok(attempt) => self.late(request, attempt),
            Err(refused) => {
                self.release(readiness);
                let rejected = Rejected::new(refused, self.manner.slot, &request);
                let Manner {
                    judge, on_reject, ..
                } = &self.manner;
                ResponseFuture::rejected(rejected, on_reject.clone(), judge.clone())
            }
        }
    }

    /// What the inner service has reserved for a request that is refused is not kept for the next one, which may never
    /// come.
    fn release(&mut self, readiness: Readiness) {
        self.select.refresh();
        if readiness != Readiness::Unknown {
            self.inner = self.inner.clone();
        }
    }

    /// By the instance that may have been asked before, and keeps its place where it waits.
    fn late<B>(&mut self, request: Request<B>, attempt: Attempt) -> ResponseFuture<S, B, C, R>
    where
        S: Service<Request<B>>,
    {
        self.select.refresh();
        let spare = self.inner.clone();
        let service = mem::replace(&mut self.inner, spare);
        ResponseFuture::late(service, request, attempt, self.manner.judge.clone())
    }
}
