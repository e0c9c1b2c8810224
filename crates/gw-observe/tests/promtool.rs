//! What an exporter makes of the metrics, as Prometheus' own tool reads it.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::io::Write as _;
use std::process::{Command, Stdio};

use gw_core::{Body, GrpcStatus, Rejection};
use gw_observe::{Code, HISTOGRAM_BUCKETS, ObserveLayer, RequestBody};
use http::{Request, Response, StatusCode};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use support::{Pipe, every_request, flushed};
use tower::{Layer as _, Service as _, service_fn};

const CODE: Code = Code::new(
    "OVERLOADED",
    StatusCode::OK,
    "A test.",
    GrpcStatus::Unavailable,
);

#[test]
fn promtool_has_nothing_to_say() {
    let builder =
        HISTOGRAM_BUCKETS
            .iter()
            .fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
                let name = Matcher::Full((*name).to_owned());
                builder.set_buckets_for_metric(name, buckets).unwrap()
            });
    let recorder = builder.build_recorder();
    let page = recorder.handle();
    // The writer's thread counts, too, by handles that are registered here.
    let log = every_request(&Pipe::default()).start().unwrap();
    metrics::with_local_recorder(&recorder, || {
        gw_observe::describe();
        let layer = ObserveLayer::builder()
            .access_log(&log)
            .max_routes(0)
            .build()
            .unwrap();
        let mut service = layer.layer(service_fn(async |request: Request<RequestBody<Body>>| {
            gw_core::record::Record::of(request.extensions())
                .unwrap()
                .update(|exchange| {
                    exchange.route = Some(gw_core::context::RouteMatch::new(0, "a", "/a"));
                    exchange.upstream = Some(gw_core::context::UpstreamName::new("b"));
                    exchange.upstream_time = Some(std::time::Duration::from_millis(2));
                    exchange.attempts = 1;
                });
            let mut response = Response::new(Body::empty());
            response.extensions_mut().insert(Rejection::new(&CODE));
            Ok::<_, Infallible>(response)
        }));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async {
            service.call(Request::new(Body::empty())).await.unwrap();
            drop(service.call(Request::new(Body::empty())));
        });
    });
    flushed(&log.handle());
    let text = page.render();
    for sample in [
        "gateway_requests_total{route=\"other\",method=\"GET\",status=\"200\",source=\"gateway\"} 1",
        "gateway_active_requests{route=\"other\"} 0",
        "gateway_access_log_lines_total{outcome=\"written\"} 2",
        "gateway_upstream_calls_per_request_bucket{route=\"other\",le=\"1\"} 1",
        "gateway_rejections_total{stage=\"unknown\",code=\"OVERLOADED\"} 1",
    ] {
        assert!(
            text.lines().any(|line| line == sample),
            "{sample} in\n{text}"
        );
    }
    for name in [
        "gateway_request_duration_seconds",
        "gateway_overhead_duration_seconds",
        "gateway_upstream_request_duration_seconds",
        "gateway_client_aborts_total",
        "gateway_label_overflow_total",
    ] {
        assert!(
            text.contains(&format!("# HELP {name} ")),
            "{name} in\n{text}"
        );
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let said = promtool.wait_with_output().unwrap();
    assert!(said.status.success(), "{said:?}\n{text}");
    assert!(
        said.stdout.is_empty() && said.stderr.is_empty(),
        "{said:?}\n{text}"
    );
}
