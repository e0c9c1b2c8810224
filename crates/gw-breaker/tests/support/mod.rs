//! A layer over a service whose answers a test says one by one.
#![allow(dead_code, reason = "each test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gw_breaker::{
    BreakerConfig, BreakerHandle, BreakerLayer, HalfOpen, Jitter, OpenTime, Snapshot,
};
use gw_testkit::gw_core::{Body, Rejection};
use http::{HeaderValue, Method, Request, Response};
use tower::{Layer as _, Service};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Opens after 3 failures in a row, for 10 s without jitter; one probe at a time, two must succeed; no ramp.
pub(crate) fn config() -> BreakerConfig {
    BreakerConfig::without_policies()
        .consecutive_failures(3)
        .open_time(OpenTime::exponential(10 * SECOND, 80 * SECOND).jitter(Jitter::None))
        .half_open(HalfOpen::probes(1).successes(2))
        .ramp(Duration::ZERO)
}

/// Of a gRPC caller.
pub(crate) fn grpc_call() -> Request<()> {
    let mut call = Request::new(());
    *call.method_mut() = Method::POST;
    let grpc = HeaderValue::from_static("application/grpc");
    call.headers_mut().insert("content-type", grpc);
    call
}

/// What the inner service does with a call.
pub(crate) enum Act {
    Answer(Response<Body>),
    Fail(Rejection),
    Hang,
    /// In the call itself.
    Panic,
    /// Is not ready, and never will be.
    NotReady,
}

/// Does what was said last.
#[derive(Clone)]
pub(crate) struct Inner {
    act: Arc<Mutex<Act>>,
    pub(crate) calls: Arc<Mutex<usize>>,
    pub(crate) asked: Arc<Mutex<usize>>,
}

impl Inner {
    pub(crate) fn new() -> Self {
        Self {
            act: Arc::new(Mutex::new(Act::Hang)),
            calls: Arc::default(),
            asked: Arc::default(),
        }
    }

    pub(crate) fn does(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    pub(crate) fn status(&self, status: u16) {
        self.does(Act::Answer(answer(status)));
    }

    pub(crate) fn calls(&self) -> usize {
        *self.calls.lock().unwrap()
    }

    pub(crate) fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

pub(crate) fn answer(status: u16) -> Response<Body> {
    let body = Body::from(Bytes::new());
    Response::builder().status(status).body(body).unwrap()
}

impl Service<Request<()>> for Inner {
    type Response = Response<Body>;
    type Error = Rejection;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Rejection>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        *self.asked.lock().unwrap() += 1;
        match *self.act.lock().unwrap() {
            Act::NotReady => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        }
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        *self.calls.lock().unwrap() += 1;
        let act = std::mem::replace(&mut *self.act.lock().unwrap(), Act::Hang);
        assert!(!matches!(act, Act::Panic), "as it was told");
        Box::pin(async move {
            match act {
                Act::Answer(answer) => Ok(answer),
                Act::Fail(error) => Err(error),
                Act::Hang | Act::Panic => std::future::pending().await,
                Act::NotReady => panic!("called though it was not ready"),
            }
        })
    }
}

/// A breaker over an [`Inner`].
pub(crate) struct World<S> {
    pub(crate) inner: Inner,
    pub(crate) handle: BreakerHandle,
    pub(crate) service: S,
}

pub(crate) type Breaking = gw_breaker::BreakerService<Inner>;

impl World<Breaking> {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        let layer = BreakerLayer::builder("orders")
            .config(config)
            .build()
            .unwrap();
        let inner = Inner::new();
        Self {
            handle: layer.handle(),
            service: layer.layer(inner.clone()),
            inner,
        }
    }
}

impl<S, B> World<S>
where
    S: Service<Request<()>, Response = Response<B>, Error = Rejection> + Clone,
{
    /// Sends a request, and waits for the head of the answer.
    pub(crate) async fn send(&self) -> Result<Response<B>, Rejection> {
        self.send_this(Request::new(())).await
    }

    pub(crate) async fn send_this(&self, request: Request<()>) -> Result<Response<B>, Rejection> {
        let mut service = self.service.clone();
        std::future::poll_fn(|cx| service.poll_ready(cx)).await?;
        service.call(request).await
    }

    /// Has the inner service answer so, and sends a request.
    pub(crate) async fn answers(&self, status: u16) -> u16 {
        self.inner.status(status);
        self.send().await.unwrap().status().as_u16()
    }

    pub(crate) async fn fails(&self, times: usize) {
        for _ in 0..times {
            assert_eq!(self.answers(500).await, 500);
        }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.handle.snapshot()
    }
}

pub(crate) fn is_refused<B>(answer: &Response<B>) -> bool {
    let rejection = answer.extensions().get::<Rejection>();
    rejection.is_some_and(|rejection| rejection.code() == &gw_breaker::CIRCUIT_OPEN)
}
