//! Health and admin listeners.

use gw_testkit::client::{Answer, Client};
use gw_testkit::upstream::{At, Reply, Upstream, always, by_path};

use crate::command::run;
use crate::gateway::{Gateway, all_to, config, upstream};
use crate::http::{get, page, send};

#[tokio::test]
async fn they_answer_while_all_lanes_are_full_and_an_upstream_hangs() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let mut tables = "[limits.all]\nkey = \"global\"\nrate = \"1000/s\"\n".to_owned();
    tables += "[lanes]\ntotal = 2\n[lanes.lane.core]\nguaranteed = 1.0\nqueue = 0\nthreads = 1\n";
    tables += &all_to(&upstream.url(), "limits = [\"all\"]");
    let gateway = Gateway::serve(&config("threads = 1", &tables)).await;
    let mut hanging = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(gateway.traffic).await;
        client.get("/").await;
        hanging.push(client);
    }
    upstream.arrived(2).await;
    assert_eq!(get(gateway.traffic, "/").await.status(), 503);

    assert_eq!(get(gateway.health, "/healthz").await.text(), "ok\n");
    let ready = get(gateway.health, "/readyz").await;
    assert_eq!((ready.status(), ready.text()), (200, "ready\n"));

    let lanes = page(gateway.admin, "/lanes").await;
    assert_eq!(
        (&lanes["total"], &lanes["in_flight"]),
        (&2.into(), &2.into())
    );
    let lane = &lanes["lanes"][0];
    assert_eq!(
        (&lane["name"], &lane["in_flight"]),
        (&"core".into(), &2.into())
    );
    assert_eq!((&lane["limit"], &lane["admitted"]), (&2.into(), &2.into()));
    let rejected: u64 = lane["rejected"]
        .as_object()
        .unwrap()
        .values()
        .map(|n| n.as_u64().unwrap())
        .sum();
    assert_eq!(rejected, 1, "{lane}");

    let upstreams = page(gateway.admin, "/upstreams").await;
    let up = &upstreams["upstreams"][0];
    assert_eq!((&up["name"], &up["in_flight"]), (&"up".into(), &2.into()));
    let limits = page(gateway.admin, "/limits").await;
    assert_eq!(limits["limits"][0]["name"], "all");
    let index = page(gateway.admin, "/").await;
    assert_eq!(index["phase"], "ready");
    for path in index["pages"].as_array().unwrap() {
        assert_eq!(
            get(gateway.admin, path.as_str().unwrap()).await.status(),
            200,
            "{path}"
        );
    }
    drop(hanging);
    gateway.is_idle().await;
}

#[tokio::test]
async fn metrics_are_described_and_promtool_finds_nothing_to_say() {
    let upstream = Upstream::start(by_path(
        [("/stall", Reply::ok().stall(At::Start))],
        Reply::ok(),
    ))
    .await;
    let mut tables = "[limits.few]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 3\n".to_owned();
    tables += "[lanes]\ntotal = 1\n[lanes.lane.core]\nguaranteed = 1.0\nqueue = 0\n";
    tables += &all_to(&upstream.url(), "limits = [\"few\"]");
    let gateway = Gateway::serve(&config("", &tables)).await;
    assert_eq!(get(gateway.traffic, "/").await.status(), 200);
    gateway.is_idle().await;
    let mut hanging = Client::connect(gateway.traffic).await;
    hanging.get("/stall").await;
    upstream.arrived(2).await;
    assert_eq!(get(gateway.traffic, "/").await.status(), 503);
    assert_eq!(get(gateway.traffic, "/").await.status(), 429);

    let answer = get(gateway.admin, "/metrics").await;
    assert_eq!(answer.status(), 200);
    assert!(
        answer
            .header("content-type")
            .unwrap()
            .starts_with("text/plain"),
        "{answer:?}"
    );
    let text = answer.text();
    for sample in [
        "gateway_lane_in_flight{lane=\"core\"} 1",
        "gateway_lane_limit{lane=\"core\"} 1",
        "gateway_lane_queued{lane=\"core\"} 0",
        "gateway_lane_rejections_total{lane=\"core\",reason=\"lane_full\"} 1",
        "gateway_rate_limit_hits_total{policy=\"few\",decision=\"limited\"} 1",
    ] {
        assert!(
            text.lines().any(|line| line == sample),
            "{sample} in\n{text}"
        );
    }
    let samples = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for sample in samples {
        let name = sample.split(['{', ' ']).next().unwrap();
        // A histogram is described once for its three series.
        let name = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        assert!(name.starts_with("gateway_"), "{name}");
        for kind in ["HELP", "TYPE"] {
            let start = format!("# {kind} {name} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            assert!(
                line.is_some_and(|rest| !rest.trim().is_empty()),
                "{start} in\n{text}"
            );
        }
    }
    let said = run("promtool", &["check", "metrics"], text).await;
    said.succeeded();
    assert!(
        said.out.is_empty() && said.err.is_empty(),
        "{said:?}\n{text}"
    );
}

#[tokio::test]
async fn a_page_of_metrics_before_any_traffic_is_valid() {
    let gateway = Gateway::serve(&config("", &all_to("http://127.0.0.1:1", ""))).await;
    let answer = get(gateway.admin, "/metrics").await;
    assert_eq!(answer.status(), 200);
    run("promtool", &["check", "metrics"], answer.text())
        .await
        .succeeded();
}

/// RFC 9110 section 11.1: a scheme is the same in any case.
#[tokio::test]
async fn the_scheme_of_the_token_may_be_written_in_any_case() {
    let text = config("", &all_to("http://127.0.0.1:1", ""));
    let text = text.replacen("[admin]", "[admin]\ntoken_file = \"admin.token\"", 1);
    let gateway = Gateway::serve_with(&text, &[("admin.token", "0123456789abcdef")]).await;
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: a\r\nauthorization: {scheme} 0123456789abcdef\r\n\r\n"
        );
        assert_eq!(send(gateway.admin, request).await.status(), 200, "{scheme}");
    }
}

#[tokio::test]
async fn with_a_token_nobody_reads_without_it() {
    let text = config("", &all_to("http://127.0.0.1:1", ""));
    let text = text.replacen("[admin]", "[admin]\ntoken_file = \"admin.token\"", 1);
    let token = "0123456789abcdef-secret";
    let gateway = Gateway::serve_with(&text, &[("admin.token", &format!("{token}\n"))]).await;
    let long = "x".repeat(4096);
    for path in [
        "/",
        "/metrics",
        "/lanes",
        "/limits",
        "/upstreams",
        "/nothing",
    ] {
        for field in [
            String::new(),
            "authorization: Bearer\r\n".to_owned(),
            "authorization: Bearer \r\n".to_owned(),
            "authorization: Bearer 0123456789abcdef-secreT\r\n".to_owned(),
            format!("authorization: {token}\r\n"),
            format!("authorization: Basic {token}\r\n"),
            format!("authorization: Bearer {token}x\r\n"),
            format!("authorization: Bearer {token}\r\n").repeat(2),
            format!("authorization: Bearer {long}\r\n"),
        ] {
            let answer = send(
                gateway.admin,
                format!("GET {path} HTTP/1.1\r\nhost: a\r\n{field}\r\n"),
            )
            .await;
            let code = match field.is_empty() {
                true => "AUTH_REQUIRED",
                false => "AUTH_INVALID",
            };
            is_envelope(&answer, 401, code);
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
            assert!(!answer.text().contains("lane"), "{answer:?}");
        }
        let answer = send(
            gateway.admin,
            format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n"),
        )
        .await;
        assert_eq!(
            answer.status(),
            if path == "/nothing" { 404 } else { 200 },
            "{path}"
        );
    }
    // The health listener needs none.
    assert_eq!(get(gateway.health, "/readyz").await.status(), 200);
}

/// Story: beside the pages there were answers without a body.
#[tokio::test]
async fn pages_that_are_not_there_and_methods_that_change_are_refused() {
    let gateway = Gateway::serve(&config("", &all_to("http://127.0.0.1:1", ""))).await;
    for (address, path) in [
        (gateway.admin, "/nothing"),
        (gateway.health, "/"),
        (gateway.health, "/metrics"),
    ] {
        is_envelope(&get(address, path).await, 404, "ROUTE_NOT_FOUND");
    }
    for (address, path) in [(gateway.admin, "/lanes"), (gateway.health, "/readyz")] {
        // Whatever its content is called: there is nothing that speaks gRPC here.
        let fields = "content-type: application/grpc\r\ncontent-length: 0\r\n";
        let post = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
        let answer = send(address, post).await;
        is_envelope(&answer, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("allow"), Some("GET,HEAD"), "{path}");
    }
    // The traffic listener does not serve what belongs to the operator.
    for path in ["/metrics", "/lanes", "/healthz"] {
        let answer = get(gateway.traffic, path).await;
        assert_eq!(
            answer.status(),
            502,
            "{path}: goes to the upstream, which is not there"
        );
    }
}

/// Story: a web page whose name resolved to 127.0.0.1 could read all pages of a listener without a token.
#[tokio::test]
async fn without_a_token_it_answers_for_this_machine_alone() {
    let gateway = Gateway::serve(&config("", &all_to("http://127.0.0.1:1", ""))).await;
    let port = gateway.admin.port();
    for host in [
        format!("host: 127.0.0.1:{port}\r\n"),
        format!("Host: localhost:{port}\r\n"),
        "host: LOCALHOST\r\n".to_owned(),
        "host: [::1]:1\r\n".to_owned(),
    ] {
        let answer = send(gateway.admin, format!("GET /lanes HTTP/1.1\r\n{host}\r\n")).await;
        assert_eq!(answer.status(), 200, "{host}");
    }
    for (path, host) in [
        ("/", format!("host: rebound.example:{port}\r\n")),
        ("/metrics", "host: rebound.example\r\n".to_owned()),
        (
            "/lanes",
            format!("host: localhost.rebound.example:{port}\r\n"),
        ),
        (
            "/limits",
            "host: rebound.example\r\nhost: localhost\r\n".to_owned(),
        ),
        (
            "http://rebound.example/logs",
            "host: localhost\r\n".to_owned(),
        ),
        ("/upstreams", String::new()),
        ("/nothing", "host: rebound.example\r\n".to_owned()),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\n{host}\r\n");
        let answer = send(gateway.admin, request).await;
        is_envelope(&answer, 403, "FORBIDDEN");
    }
    // Whoever balances may name the health listener as they like: it says nothing but that it is there.
    let request = "GET /healthz HTTP/1.1\r\nhost: rebound.example\r\n\r\n";
    assert_eq!(send(gateway.health, request).await.status(), 200);
}

#[tokio::test]
async fn a_flood_of_idle_connections_does_not_shut_them_out() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let mut tables = self::upstream("up", &upstream.url());
    tables += &crate::gateway::route("all", "/", "up", "");
    let gateway = Gateway::serve(&config(
        "max_connections = 8\nmax_connections_per_ip = 8",
        &tables,
    ))
    .await;
    let mut idle = Vec::new();
    for _ in 0..32 {
        idle.push(Client::connect(gateway.traffic).await);
    }
    assert_eq!(get(gateway.health, "/healthz").await.status(), 200);
    assert_eq!(get(gateway.admin, "/lanes").await.status(), 200);
    drop(idle);
    crate::command::until("the connections to be gone", || async {
        let index = page(gateway.admin, "/").await;
        (index["connections"]["active"] == 0).then_some(())
    })
    .await;
    assert_eq!(get(gateway.traffic, "/").await.status(), 200);
}

/// A refusal of the listeners that no pipeline stands behind.
#[track_caller]
fn is_envelope(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["error"]["code"], code, "{answer:?}");
    // Story: the link that all other refusals have by default was missing.
    let link = body["error"]["documentation_url"]
        .as_str()
        .unwrap_or_default();
    assert!(
        link.starts_with("https://docs.example.com/errors/"),
        "{answer:?}"
    );
}
