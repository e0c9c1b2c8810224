//! The metrics of requests, as Prometheus reads them.

use gw_testkit::Gate;
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, by_path};

use crate::command::{run, until};
use crate::gateway::{Gateway, PATIENT, config, route, upstream};
use crate::http::{get, send};
use crate::log_lines::to_file;

/// The sum of all samples of this name that have these labels.
pub(crate) fn sum(page: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let values = page.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        let all = |(key, value): &(&str, &str)| rest.contains(&format!("{key}=\"{value}\""));
        let fits = (rest.is_empty() || rest.starts_with('{')) && labels.iter().all(all);
        fits.then(|| value.parse::<f64>().unwrap() as u64)
    });
    values.sum()
}

async fn metrics(gateway: &Gateway) -> String {
    let answer = get(gateway.admin, "/metrics").await;
    answer.text().to_owned()
}

/// Each stage refuses something, and is named.
#[tokio::test]
async fn each_refusal_is_counted_by_stage_and_code() {
    let gate = Gate::new();
    let part = || Reply::ok().body("0123456789").stall(At::Body(4));
    let upstream = Upstream::start(by_path(
        [
            ("/held", Reply::ok().hold(At::Start, &gate)),
            ("/late", Reply::ok().stall(At::Start)),
            ("/cut", part()),
            ("/cut/thread", part()),
        ],
        Reply::ok(),
    ))
    .await;
    let mut tables = to_file(", normal = 1.0");
    tables += "[limits.few]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 1\n\
               [lanes]\ntotal = 10\n[lanes.lane.core]\nguaranteed = 0.5\n\
               [lanes.lane.one]\nguaranteed = 0.1\ncap = 0.1\nqueue = 0\n\
               [lanes.lane.brief]\nguaranteed = 0.1\nmax_hold = \"2s\"\n\
               [lanes.lane.thread]\nguaranteed = 0.1\nmax_hold = \"2s\"\nthreads = 1\n\
               [auth.api_keys.partners]\nfile = \"keys.toml\"\nheader = \"x-api-key\"\n";
    tables += &self::upstream("up", &upstream.url());
    tables += &self::upstream("away", "http://127.0.0.1:1");
    tables += &route("open", "/open", "up", "max_body_bytes = \"4B\"");
    tables += &route("few", "/few", "up", "limits = [\"few\"]");
    tables += &route("held", "/held", "up", &format!("lane = \"one\"\n{PATIENT}"));
    tables += &route("late", "/late", "up", "timeouts = { request = \"200ms\" }");
    tables += &route("brief", "/cut", "up", "lane = \"brief\"");
    tables += &route("away", "/away", "away", "");
    tables += "[[routes]]\nname = \"post\"\nmatch = { path = \"/post\", methods = [\"POST\"] }\n\
               upstream = \"up\"\npublic = true\n\
               [[routes]]\nname = \"thread\"\nmatch = { path = \"/cut/thread\" }\n\
               upstream = \"up\"\npublic = true\nlane = \"thread\"\n\
               [[routes]]\nname = \"closed\"\nmatch = { prefix = \"/closed\" }\n\
               upstream = \"up\"\nauth = [\"partners\"]\n";
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut held = Client::connect(gateway.traffic).await;
    held.get("/held").await;
    upstream.arrived(1).await;
    assert_eq!(get(gateway.traffic, "/few").await.status(), 200);
    let cases = [
        ("GET /nothing", 404, "route_resolve", "ROUTE_NOT_FOUND"),
        ("GET /post", 405, "route_resolve", "METHOD_NOT_ALLOWED"),
        ("GET /a/..%2fb", 400, "route_resolve", "MALFORMED_REQUEST"),
        ("POST /open", 413, "route_resolve", "BODY_TOO_LARGE"),
        ("GET /few", 429, "pre_auth_limit", "RATE_LIMIT_EXCEEDED"),
        ("GET /held", 503, "admit", "OVERLOADED"),
        ("GET /closed", 401, "authenticate", "AUTH_REQUIRED"),
        ("GET /away", 502, "forward", "BAD_GATEWAY"),
        ("GET /late", 504, "forward", "GATEWAY_TIMEOUT"),
    ];
    for (number, (line, status, ..)) in (2..).zip(&cases) {
        let body = match line.starts_with("POST") {
            true => "content-length: 5\r\n\r\n01234",
            false => "\r\n",
        };
        let request = format!("{line} HTTP/1.1\r\nhost: a\r\n{body}");
        assert_eq!(
            send(gateway.traffic, request).await.status(),
            *status,
            "{line}"
        );
        until(line, || async {
            let counts = crate::http::page(gateway.admin, "/access-log").await;
            (counts["requests"] == number).then_some(())
        })
        .await;
    }
    let page = metrics(&gateway).await;
    for (line, _, stage, code) in cases {
        let labels = [("stage", stage), ("code", code)];
        assert_eq!(
            sum(&page, "gateway_rejections_total", &labels),
            1,
            "{line}\n{page}"
        );
    }
    assert_eq!(sum(&page, "gateway_rejections_total", &[]), 9, "{page}");
    assert_eq!(
        sum(&page, "gateway_active_requests", &[("route", "held")]),
        1
    );

    // A lane cuts an answer that has begun: its code is in the log, where no status could tell it. Its time is long enough
    // to begin on a busy machine, so both are waited for at once.
    let before = sum(&page, "gateway_rejections_total", &[("stage", "admit")]);
    let (here, there) = tokio::join!(
        get(gateway.traffic, "/cut"),
        get(gateway.traffic, "/cut/thread")
    );
    for answer in [here, there] {
        assert!(!answer.is_complete(), "{answer:?}");
    }
    until("the cuts to be counted", || async {
        let page = metrics(&gateway).await;
        let cut = sum(&page, "gateway_rejections_total", &[("stage", "admit")]);
        (cut == before + 2).then_some(())
    })
    .await;
    let page = metrics(&gateway).await;
    let cut = [("stage", "admit"), ("code", "GATEWAY_TIMEOUT")];
    assert_eq!(sum(&page, "gateway_rejections_total", &cut), 2, "{page}");
    gate.open();
    assert_eq!(held.read_answer().await.status(), 200);
    let lines = gateway.logged(13).await;
    let cut = lines
        .iter()
        .filter(|line| line["route"] == "brief" || line["route"] == "thread");
    assert_eq!(cut.clone().count(), 2);
    for line in cut {
        assert_eq!(line["code"], "GATEWAY_TIMEOUT", "{line}");
        let ended = (&line["ended_by"], &line["phase"], &line["status"]);
        assert_eq!(
            ended,
            (&"gateway".into(), &"response".into(), &200.into()),
            "{line}"
        );
    }
}

#[tokio::test]
async fn requests_are_measured_and_promtool_finds_nothing_to_say() {
    let upstream = Upstream::start(by_path([("/broken", Reply::status(500))], Reply::ok())).await;
    let mut tables = self::upstream("up", &upstream.url());
    tables += &route("orders", "/orders", "up", "");
    tables += &route("broken", "/broken", "up", "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    for _ in 0..3 {
        assert_eq!(get(gateway.traffic, "/orders/7?a=b").await.status(), 200);
    }
    assert_eq!(get(gateway.traffic, "/broken").await.status(), 500);
    assert_eq!(get(gateway.traffic, "/nothing").await.status(), 404);
    gateway.is_idle().await;

    let page = metrics(&gateway).await;
    let said = run("promtool", &["check", "metrics"], &page).await;
    said.succeeded();
    assert!(
        said.out.is_empty() && said.err.is_empty(),
        "{said:?}\n{page}"
    );
    for (name, labels, value) in [
        (
            "gateway_requests_total",
            "route=orders,method=GET,status=200,source=upstream",
            3,
        ),
        (
            "gateway_requests_total",
            "route=broken,method=GET,status=500,source=upstream",
            1,
        ),
        (
            "gateway_requests_total",
            "route=unmatched,method=GET,status=404,source=gateway",
            1,
        ),
        (
            "gateway_request_duration_seconds_count",
            "route=orders,status_class=2xx",
            3,
        ),
        (
            "gateway_request_duration_seconds_bucket",
            "route=orders,status_class=2xx,le=+Inf",
            3,
        ),
        ("gateway_overhead_duration_seconds_count", "route=orders", 3),
        (
            "gateway_upstream_request_duration_seconds_count",
            "upstream=up,status_class=2xx",
            3,
        ),
        ("gateway_upstream_calls_per_request_sum", "route=orders", 3),
        (
            "gateway_upstream_calls_per_request_sum",
            "route=unmatched",
            0,
        ),
        ("gateway_active_requests", "", 0),
        ("gateway_rejections_total", "", 1),
    ] {
        let labels: Vec<_> = labels
            .split(',')
            .filter_map(|it| it.split_once('='))
            .collect();
        assert_eq!(
            sum(&page, name, &labels),
            value,
            "{name} {labels:?} in\n{page}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_counted_by_how_far_it_had_come() {
    let upstream = Upstream::start(by_path(
        [("/head", Reply::ok().stall(At::Start))],
        Reply::ok().body("0123456789").stall(At::Body(4)),
    ))
    .await;
    let tables = crate::gateway::all_to(&upstream.url(), "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut before = Client::connect(gateway.traffic).await;
    before.get("/head").await;
    let mut within = Client::connect(gateway.traffic).await;
    within.get("/body").await;
    let _head = within.read_head().await;
    upstream.arrived(2).await;
    drop((before, within));
    for phase in ["upstream", "response"] {
        until("an abort to be counted", || async {
            let page = metrics(&gateway).await;
            let labels = [("route", "all"), ("phase", phase)];
            (sum(&page, "gateway_client_aborts_total", &labels) == 1).then_some(())
        })
        .await;
    }
    gateway.is_idle().await;
}
