use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gw_core::Mode;
use gw_core::at_hand::Lent;
use gw_core::attempt::AttemptError;
use gw_core::classify::is_grpc_call;
use http::{Method, Request, Response};
use http_body::Body;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::budget::{Budget, Deposit};
use crate::context::Known;
use crate::decide::Eligibility;
use crate::future::ResponseFuture;
use crate::head::{self, Head};
use crate::layer::Shared;
use crate::plan::Plan;
use crate::policy::RetryPolicy;
use crate::replay::{ReplayBody, Slot};

/// Sends requests again that failed. Made by a [`RetryLayer`](crate::RetryLayer).
///
/// The first attempt uses the instance that was polled ready. Each later one uses a clone, which is polled once: if it is
/// not ready, the answer at hand is the answer, and no request waits in line behind those that are on their way.
#[derive(Debug, Clone)]
pub struct Retry<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Retry<S> {
    pub(crate) const fn new(inner: S, shared: Arc<Shared>) -> Self {
        Self { inner, shared }
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

impl<S, B, ResB> Service<Request<B>> for Retry<S>
where
    S: Service<Request<ReplayBody<B>>, Response = Response<ResB>> + Clone,
    S::Error: AttemptError,
    B: Body<Data = Bytes>,
    ResB: Body,
{
    type Response = Response<ResponseBody<ResB>>;
    type Error = S::Error;
    type Future = ResponseFuture<S, B, ResB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> Self::Future {
        let policy = request.extensions().get::<RetryPolicy>();
        let plan = match self.shared.eligibility(&request, policy) {
            Eligibility::Never => None,
            eligibility => self.plan(&request, policy, eligibility),
        };
        // Called where it is: the instance that was polled ready. A request is some 250 bytes and an answer 150, so each goes to its
        // place in one move.
        let Some(plan) = plan else {
            return ResponseFuture::once(self.inner.call(request.map(ReplayBody::once)));
        };
        // To its end in each case: an attempt that came from either would be moved once more.
        let Some(slot) = &plan.slot else {
            return ResponseFuture::replayable(
                self.inner.call(request.map(ReplayBody::once)),
                plan,
            );
        };
        let request = request.map(|body| plan.tee(slot, body));
        ResponseFuture::replayable(self.inner.call(request), plan)
    }
}

impl<S: Clone> Retry<S> {
    /// None for what is sent once after all. Not inlined: what is sent once anyhow has nothing to do with it.
    #[inline(never)]
    fn plan<B, ResB, E>(
        &self,
        request: &Request<B>,
        policy: Option<&RetryPolicy>,
        eligibility: Eligibility,
    ) -> Option<Box<Plan<S, B, ResB, E>>>
    where
        B: Body<Data = Bytes>,
        ResB: Body,
    {
        // It takes the connection over, and cannot be sent twice.
        if request.method() == Method::CONNECT {
            return None;
        }
        let shared = &self.shared;
        let grpc = is_grpc_call(request.method(), request.headers());
        if grpc && head::is_grpc_retry(request.headers()) {
            return None;
        }
        let extensions = request.extensions();
        // Made in its place: it is large, and each move of it costs.
        let mut plan = Box::write(
            Box::new_uninit(),
            Plan {
                service: self.inner.clone(),
                slot: match request.body().is_end_stream() {
                    true => None,
                    false => Some(Slot::empty()),
                },
                shared: Lent::new(shared),
                policy: policy.cloned(),
                budget: extensions.get::<Budget>().cloned(),
                eligibility,
                grpc,
                started: None,
                attempts: 1,
                waited: Duration::ZERO,
                retry: None,
                deposit: Deposit::NONE,
                head: Head::new(request),
                known: None,
            },
        );
        if !plan.head.keep(request, &shared.attempt_field) {
            return None;
        }
        Known::learn(&mut plan.known, extensions, &shared.copy);
        plan.start();
        plan.count();
        Some(plan)
    }
}

impl Shared {
    /// After which failures this request may be sent again, unless one of its fields says otherwise.
    #[inline]
    fn eligibility<B>(&self, request: &Request<B>, policy: Option<&RetryPolicy>) -> Eligibility {
        if self.mode.get() == Mode::Off {
            return Eligibility::Never;
        }
        let permits = match policy {
            Some(policy) => policy.permits(),
            None => self.policy.permits(),
        };
        permits.eligibility(request.method(), request.headers())
    }
}
