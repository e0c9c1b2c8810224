use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gw_core::Mode;
use gw_core::attempt::AttemptError;
use gw_core::classify::is_grpc;
use http::{Method, Request, Response, header};
use http_body::Body;
use tokio::time::Instant;
use tower_service::Service;

use crate::body::ResponseBody;
use crate::budget::Budget;
use crate::decide::Eligibility;
use crate::future::ResponseFuture;
use crate::head::Head;
use crate::layer::Shared;
use crate::plan::Plan;
use crate::policy::RetryPolicy;
use crate::replay::{ReplayBody, Slot, Source};

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
        match self.shared.eligibility(&request) {
            // Called where it is: the instance that was polled ready.
            Eligibility::Never => {
                ResponseFuture::once(self.inner.call(request.map(ReplayBody::once)))
            }
            eligibility => self.call_replayable(request, eligibility),
        }
    }
}

impl<S> Retry<S> {
    #[inline]
    fn call_replayable<B, ResB>(
        &mut self,
        request: Request<B>,
        eligibility: Eligibility,
    ) -> ResponseFuture<S, B, ResB>
    where
        S: Service<Request<ReplayBody<B>>, Response = Response<ResB>> + Clone,
        B: Body<Data = Bytes>,
        ResB: Body,
    {
        let now = Instant::now();
        let shared = &self.shared;
        let extensions = request.extensions();
        let policy = extensions.get::<RetryPolicy>().cloned();
        let budget = extensions.get::<Budget>().cloned();
        let deposit = budget.as_ref().unwrap_or(&shared.budget).deposit(now);
        // All gRPC calls are POST.
        let grpc = request.method() == Method::POST && is_grpc(request.headers());
        // Made in its place: it is large, and each move of it costs.
        let place = Box::new_uninit();
        let slot = match request.body().is_end_stream() {
            true => None,
            false => Some(Slot::empty()),
        };
        let max = policy.as_ref().unwrap_or(&shared.policy).replay_max();
        let plan = Box::write(
            place,
            Plan {
                service: self.inner.clone(),
                head: Head::of(&request, shared.copy.as_ref()),
                slot: slot.clone(),
                shared: Arc::clone(shared),
                policy,
                budget,
                eligibility,
                grpc,
                started: now,
                attempts: 1,
                waited: Duration::ZERO,
                retry: None,
                _deposit: deposit,
            },
        );
        let request = request.map(|body| match slot {
            None => ReplayBody::nothing(),
            Some(slot) => ReplayBody::tee(Source::new(body, max, shared.pool.clone()), slot),
        });
        ResponseFuture::replayable(self.inner.call(request), plan)
    }
}

impl Shared {
    /// After which failures this request may be sent again.
    #[inline]
    fn eligibility<B>(&self, request: &Request<B>) -> Eligibility {
        if self.mode.get() == Mode::Off {
            return Eligibility::Never;
        }
        let policy = request.extensions().get::<RetryPolicy>();
        let (method, headers) = (request.method(), request.headers());
        let eligibility = policy.unwrap_or(&self.policy).eligibility(method, headers);
        if eligibility == Eligibility::Never || headers.is_empty() && method != Method::CONNECT {
            return eligibility;
        }
        // What takes the connection over cannot be sent twice, and what was sent again further out is not sent again here.
        let once = method == Method::CONNECT
            || headers.contains_key(header::UPGRADE)
            || (headers.get(&self.attempt_field)).is_some_and(|attempt| attempt != "1");
        if once {
            Eligibility::Never
        } else {
            eligibility
        }
    }
}
