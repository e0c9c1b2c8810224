//! The time that gRPC clients give a call: it is kept to, and upstreams are told how much of it is left.

use std::task::{Context, Poll};

use gw_core::classify::is_grpc_call;
use gw_core::context::{Deadline, UpstreamName};
use gw_core::record::Record;
use gw_retry::timeout::TimeFields;
use http::Request;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

static FIELDS: TimeFields = TimeFields::new().grpc_timeout();

/// Brings the deadline of a call to an upstream forward to when the client stops waiting.
pub(in super::super) fn heed_client<B>(request: &mut Request<B>) {
    if !is_call(request) {
        return;
    }
    let Some(limit) = FIELDS.read(request.headers()) else {
        return;
    };
    let extensions = request.extensions_mut();
    if extensions.get::<UpstreamName>().is_none() {
        return;
    }
    let mut began = None;
    if let Some(record) = Record::of(extensions) {
        record.update(|exchange| began = exchange.began);
    }
    let asked = Deadline::after(began.unwrap_or_else(Instant::now), limit).map(Deadline::by_client);
    let set = extensions.get::<Deadline>().copied();
    if let Some(first) = [set, asked].into_iter().flatten().min() {
        extensions.insert(first);
    }
}

fn is_call<B>(request: &Request<B>) -> bool {
    is_grpc_call(request.method(), request.headers())
}

/// Tells upstreams of gRPC calls with each attempt how much time is left until the deadline.
///
/// Not until the attempt's own timer, which ends at the head: gRPC means the whole call.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeLeftLayer;

impl<S> Layer<S> for TimeLeftLayer {
    type Service = TimeLeft<S>;

    fn layer(&self, inner: S) -> TimeLeft<S> {
        TimeLeft { inner }
    }
}

/// See [`TimeLeftLayer`].
#[derive(Debug, Clone)]
pub struct TimeLeft<S> {
    inner: S,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for TimeLeft<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        if is_call(&request)
            && let Some(deadline) = request.extensions().get::<Deadline>().copied()
        {
            let left = deadline.remaining(Instant::now());
            FIELDS.write(request.headers_mut(), left);
        }
        self.inner.call(request)
    }
}
