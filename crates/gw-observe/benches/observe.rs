//! The trace context alone, and what the layer costs over a bare service. With the feature `metrics`, into a real recorder.
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench")]

use std::convert::Infallible;
use std::future::{Future as _, Ready, ready};
use std::hint::black_box;
use std::io::sink;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use gw_core::context::{PeerAddr, RouteMatch};
use gw_core::record::Record;
use gw_observe::trace::{TraceParent, tracestate};
use gw_observe::{AccessLog, ObserveBuilder, ObserveLayer};
use http::{HeaderValue, Request, Response};
use http_body::Body;
use http_body_util::Full;
use tower::{Layer as _, Service, service_fn};

fn contexts(c: &mut Criterion) {
    let sent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    c.bench_function("traceparent/parse", |b| {
        b.iter(|| TraceParent::parse(black_box(sent)));
    });
    let parent = TraceParent::parse(sent).unwrap();
    c.bench_function("traceparent/print", |b| {
        b.iter(|| black_box(parent).to_bytes());
    });
    let line = "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE";
    c.bench_function("tracestate/as_sent", |b| {
        b.iter(|| tracestate([black_box(line).as_bytes()].into_iter()));
    });
}

/// A request as it comes from a server: the peer's address is there, and so are some fields.
fn request() -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::default());
    *request.uri_mut() = http::Uri::from_static("/api/v1/orders/7");
    for name in [
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "x-request-id",
    ] {
        let value = HeaderValue::from_static("some value");
        request.headers_mut().insert(name, value);
    }
    let peer = PeerAddr(([192, 0, 2, 1], 80).into());
    request.extensions_mut().insert(peer);
    request
}

fn answer<B>(
    route: &RouteMatch,
    request: &Request<B>,
) -> Ready<Result<Response<Full<Bytes>>, Infallible>> {
    if let Some(record) = Record::of(request.extensions()) {
        record.update(|exchange| exchange.route = Some(route.clone()));
    }
    ready(Ok(Response::new(Full::new(Bytes::from_static(b"data")))))
}

/// Calls the service and reads the answer to its end.
fn exchange<S, B>(service: &mut S, request: Request<Full<Bytes>>)
where
    S: Service<Request<Full<Bytes>>, Response = Response<B>, Error = Infallible>,
    B: Body,
{
    let mut cx = Context::from_waker(Waker::noop());
    let mut future = pin!(service.call(request));
    let Poll::Ready(Ok(response)) = future.as_mut().poll(&mut cx) else {
        unreachable!("the inner service answers at once");
    };
    let mut body = pin!(response.into_body());
    assert!(body.as_mut().poll_frame(&mut cx).is_ready());
}

fn layers(c: &mut Criterion) {
    #[cfg(feature = "metrics")]
    let _upkeep = recorder();
    let route = RouteMatch::new(0, "orders", "/api/v1/orders/{id}");
    let mut bare = service_fn(|request: Request<_>| answer(&route, &request));
    c.bench_function("layer/bare", |b| {
        b.iter_batched(
            request,
            |request| exchange(&mut bare, request),
            BatchSize::SmallInput,
        );
    });
    let mut layer = |name: &str, builder: ObserveBuilder| {
        let layer = builder.build().unwrap();
        let mut service = layer.layer(service_fn(|request: Request<_>| answer(&route, &request)));
        c.bench_function(name, |b| {
            b.iter_batched(
                request,
                |request| exchange(&mut service, request),
                BatchSize::SmallInput,
            );
        });
    };
    layer("layer/without_log", ObserveLayer::builder());
    let log = |normal| {
        let log = AccessLog::builder().writer(sink()).normal(normal);
        log.budget_per_second(u32::MAX).start().unwrap()
    };
    for (name, share) in [
        ("sampled_out", 0.0),
        ("one_in_ten", 0.1),
        ("every_line", 1.0),
    ] {
        let log = log(share);
        layer(
            &format!("layer/{name}"),
            ObserveLayer::builder().access_log(&log),
        );
    }
}

/// A recorder for the process, and a thread that empties its histograms, as an exporter does.
#[cfg(feature = "metrics")]
fn recorder() -> impl Drop {
    use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
    use std::time::Duration;

    struct Upkeep(#[allow(dead_code, reason = "dropping it ends the thread")] Sender<()>);
    impl Drop for Upkeep {
        fn drop(&mut self) {}
    }

    let builder = gw_observe::HISTOGRAM_BUCKETS.iter().fold(
        metrics_exporter_prometheus::PrometheusBuilder::new(),
        |builder, (name, buckets)| {
            let name = metrics_exporter_prometheus::Matcher::Full((*name).to_owned());
            builder.set_buckets_for_metric(name, buckets).unwrap()
        },
    );
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).unwrap();
    let (end, ended) = channel();
    std::thread::spawn(move || {
        while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
            handle.run_upkeep();
        }
    });
    Upkeep(end)
}

criterion_group!(benches, contexts, layers);
criterion_main!(benches);
