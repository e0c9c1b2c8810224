//! What is counted, and under which labels.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use gw_core::context::{RouteMatch, UpstreamName};
use gw_core::record::Record;
use gw_core::{Body, Code, GrpcStatus, Rejection};
use gw_observe::{ObserveLayer, RequestBody};
use gw_testkit::metrics_capture::MetricsCapture;
use http::{Method, Request, Response, StatusCode};
use support::{Pipe, every_request, flushed};
use tower::{Layer as _, Service as _, service_fn};

type Sent = Request<RequestBody<Body>>;

const OVERLOADED: Code = Code::new(
    "OVERLOADED",
    StatusCode::SERVICE_UNAVAILABLE,
    "A test.",
    GrpcStatus::Unavailable,
);

/// What the service does, put into the request.
#[derive(Clone)]
struct Plan {
    route: Option<(usize, &'static str)>,
    upstream: Option<String>,
    status: u16,
    refused: bool,
    hangs: bool,
}

const PLAIN: Plan = Plan {
    route: Some((0, "orders")),
    upstream: None,
    status: 200,
    refused: false,
    hangs: false,
};

/// Not an `async fn`: the first half must run in `call`, as a route stage does.
#[allow(clippy::needless_pass_by_value, reason = "as a service is called")]
fn serve(request: Sent) -> impl Future<Output = Result<Response<Body>, Infallible>> {
    let plan = request.extensions().get::<Plan>().unwrap().clone();
    let record = Record::of(request.extensions()).unwrap().clone();
    record.update(|exchange| {
        exchange.route = plan.route.map(|(at, name)| RouteMatch::new(at, name, name));
        if let Some(upstream) = &plan.upstream {
            exchange.attempts = 1;
            exchange.upstream = Some(UpstreamName::new(upstream.as_str()));
            exchange.upstream_time = Some(Duration::from_millis(1));
        }
        exchange.refused_by = plan.refused.then_some("admit");
    });
    async move {
        if plan.hangs {
            std::future::pending::<()>().await;
        }
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::from_u16(plan.status).unwrap();
        if plan.refused {
            response
                .extensions_mut()
                .insert(Rejection::new(&OVERLOADED));
        }
        Ok(response)
    }
}

fn request(plan: Plan) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.extensions_mut().insert(plan);
    request
}

const ACTIVE: &str = "gateway_active_requests";
const REQUESTS: &str = "gateway_requests_total";
const ORDERS: &[(&str, &str)] = &[("route", "orders")];

#[tokio::test]
async fn requests_are_counted_by_their_route() {
    let pipe = Pipe::default();
    let log = every_request(&pipe).start().unwrap();
    let layer = ObserveLayer::builder().access_log(&log).build().unwrap();
    // Installed after the layer was built.
    let capture = MetricsCapture::new();
    capture.run(gw_observe::describe);
    capture
        .scope(async {
            let mut service = layer.layer(service_fn(serve));
            service.call(request(PLAIN)).await.unwrap();
            let upstream = Plan {
                upstream: Some("orders-api".into()),
                status: 502,
                ..PLAIN
            };
            service.call(request(upstream)).await.unwrap();
            let refused = Plan {
                status: 503,
                refused: true,
                ..PLAIN
            };
            service.call(request(refused)).await.unwrap();
            let unmatched = Plan {
                route: None,
                status: 404,
                ..PLAIN
            };
            service.call(request(unmatched)).await.unwrap();

            let hanging = service.call(request(Plan {
                hangs: true,
                ..PLAIN
            }));
            capture.assert_gauge(ACTIVE, ORDERS, 1.0);
            drop(hanging);
            capture.assert_gauge(ACTIVE, ORDERS, 0.0);
        })
        .await;
    for (route, status, source) in [
        ("orders", "200", "service"),
        ("orders", "502", "upstream"),
        ("orders", "503", "gateway"),
        ("orders", "none", "none"),
        ("unmatched", "404", "service"),
    ] {
        let labels = [
            ("route", route),
            ("method", "GET"),
            ("status", status),
            ("source", source),
        ];
        capture.assert_counter(REQUESTS, &labels, 1);
    }
    assert_eq!(capture.counter_sum(REQUESTS), 5);
    for class in ["2xx", "5xx", "none"] {
        let labels = [("route", "orders"), ("status_class", class)];
        let count = if class == "5xx" { 2 } else { 1 };
        capture.assert_recorded("gateway_request_duration_seconds", &labels, count);
    }
    capture.assert_recorded("gateway_overhead_duration_seconds", ORDERS, 4);
    let calls = capture.histogram("gateway_upstream_calls_per_request", ORDERS);
    assert_eq!(calls, [0.0, 0.0, 0.0, 1.0]);
    let upstream = [("upstream", "orders-api"), ("status_class", "5xx")];
    capture.assert_recorded("gateway_upstream_request_duration_seconds", &upstream, 1);
    let rejected = [("stage", "admit"), ("code", "OVERLOADED")];
    capture.assert_counter("gateway_rejections_total", &rejected, 1);
    let aborted = [("route", "orders"), ("phase", "request")];
    capture.assert_counter("gateway_client_aborts_total", &aborted, 1);
    capture.assert_absent("gateway_label_overflow_total");

    flushed(&log.handle());
    let lines = "gateway_access_log_lines_total";
    capture.assert_counter(lines, &[("outcome", "written")], 5);
    assert_eq!(capture.counter_sum(lines), capture.counter_sum(REQUESTS));
    for series in capture.series() {
        assert!(
            capture.description(&series.name).is_some(),
            "{} is not described",
            series.name
        );
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_opened_anew_is_told() {
    const FAILS: &str = "gateway_access_log_reopening_fails";
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    let builder = every_request(&Pipe::default());
    let log = builder.file(logs.join("access.log")).start().unwrap();
    let layer = ObserveLayer::builder().access_log(&log).build().unwrap();
    let answer = async |_| Ok::<_, Infallible>(Response::new(Body::empty()));
    let mut service = layer.layer(service_fn(answer));
    let capture = MetricsCapture::new();
    let mut request = async || {
        let answer = service.call(Request::new(Body::empty()));
        drop(capture.scope(answer).await);
        flushed(&log.handle());
    };
    request().await;
    capture.assert_gauge(FAILS, &[], 0.0);
    std::fs::rename(&logs, dir.path().join("moved")).unwrap();
    log.handle().reopen();
    request().await;
    capture.assert_gauge(FAILS, &[], 1.0);
}

#[tokio::test]
async fn registered_methods_have_a_name() {
    let layer = ObserveLayer::builder().build().unwrap();
    let capture = MetricsCapture::new();
    let methods = [
        "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY",
        "BREW",
    ];
    capture
        .scope(async {
            let mut service = layer.layer(service_fn(serve));
            for method in methods {
                let mut request = request(PLAIN);
                *request.method_mut() = method.parse().unwrap();
                service.call(request).await.unwrap();
            }
        })
        .await;
    for method in methods {
        let name = if method == "BREW" { "other" } else { method };
        let labels = [
            ("route", "orders"),
            ("method", name),
            ("status", "200"),
            ("source", "service"),
        ];
        capture.assert_counter(REQUESTS, &labels, 1);
    }
}

#[tokio::test]
async fn hostile_requests_add_a_bounded_number_of_series() {
    let layer = ObserveLayer::builder().max_routes(2).build().unwrap();
    let capture = MetricsCapture::new();
    let sent = capture
        .scope(async {
            let mut service = layer.layer(service_fn(serve));
            let mut sent = 0;
            let mut send = async |plan: Plan, method: Method| {
                let mut request = request(plan);
                *request.method_mut() = method;
                service.call(request).await.unwrap();
                sent += 1;
            };
            // More statuses and methods than there is room for, and more routes and upstreams.
            for status in 200..600 {
                for method in ["GET", "POST", "BREW"] {
                    let upstream = Some(format!("u{status}"));
                    let plan = Plan {
                        status,
                        upstream,
                        ..PLAIN
                    };
                    send(plan, method.parse().unwrap()).await;
                }
            }
            for at in 1..200 {
                send(
                    Plan {
                        route: Some((at, "many")),
                        ..PLAIN
                    },
                    Method::GET,
                )
                .await;
            }
            // Another route at a place that is taken.
            send(
                Plan {
                    route: Some((0, "intruder")),
                    ..PLAIN
                },
                Method::GET,
            )
            .await;
            sent
        })
        .await;
    assert_eq!(capture.counter_sum(REQUESTS), sent);
    let series = capture.series();
    let of = |name: &str| series.iter().filter(|series| series.name == name).count();
    assert!(of(REQUESTS) <= 64 + 24 + 4, "{}", of(REQUESTS));
    assert!(of("gateway_upstream_request_duration_seconds") <= 256 + 6);
    assert_eq!(of(ACTIVE), 3);
    let other: u64 = ["2xx", "3xx", "4xx", "5xx"]
        .iter()
        .map(|class| {
            let labels = [
                ("route", "orders"),
                ("method", "other"),
                ("status", class),
                ("source", "upstream"),
            ];
            capture.counter(REQUESTS, &labels)
        })
        .sum();
    assert_eq!(other, 1_200 - 64);
    // Statuses, upstreams, and routes twice each: when they begin and when they end.
    let upstreams = 1_200 - 256 * 3;
    let routes = 198 + 1;
    assert_eq!(
        capture.counter("gateway_label_overflow_total", &[]),
        other + upstreams + routes * 2
    );
}
