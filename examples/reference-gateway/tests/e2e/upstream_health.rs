//! Upstreams and endpoints that fail, and whether they are asked all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use gw_testkit::Gate;
use gw_testkit::upstream::{At, Received, Reply, Upstream, always, in_order};
use serde_json::Value;

use crate::command::until;
use crate::gateway::{Gateway, PATIENT, config, route, upstream};
use crate::http::{get, is_refusal, page, retry_after, send};

/// Two upstreams, `bad` with this breaker below `/bad` and `good` below `/good`.
fn beside_each_other(bad: &str, breaker: &str, route_keys: &str, good: &Upstream) -> String {
    let mut tables = upstream("bad", bad);
    tables += &format!("breaker = {breaker}\n");
    tables += &upstream("good", &good.url());
    tables += &route("bad", "/bad", "bad", route_keys);
    tables += &route("good", "/good", "good", "");
    config("", &tables)
}

async fn breaker(gateway: &Gateway) -> Value {
    let upstreams = page(gateway.admin, "/upstreams").await;
    let all = upstreams["upstreams"].as_array().unwrap();
    let bad = all.iter().find(|it| it["name"] == "bad").unwrap();
    bad["breaker"].clone()
}

async fn metric(gateway: &Gateway, line: &str) -> bool {
    let metrics = get(gateway.admin, "/metrics").await;
    metrics.text().lines().any(|it| it == line)
}

/// Fails twice in the way that `status` and `code` tell, then is not asked any more; the other route does not notice.
async fn opens(gateway: &Gateway, status: u16, code: &str) {
    for _ in 0..2 {
        let answer = get(gateway.traffic, "/bad").await;
        is_refusal(code, &answer, status, code);
    }
    for _ in 0..3 {
        let answer = get(gateway.traffic, "/bad").await;
        let error = is_refusal("open", &answer, 503, "CIRCUIT_OPEN");
        assert_eq!(error["details"]["state"], "open");
        assert!(retry_after("open", &answer) <= 121);
        assert_eq!(get(gateway.traffic, "/good").await.status(), 200);
    }
    let shown = breaker(gateway).await;
    assert_eq!(shown["state"], "open", "{shown}");
    assert!(shown["open_for_ms"].as_u64() > Some(0), "{shown}");
    for line in [
        "gateway_circuit_breaker_state{upstream=\"bad\"} 1",
        "gateway_circuit_breaker_state{upstream=\"good\"} 0",
        "gateway_circuit_breaker_rejections_total{upstream=\"bad\",decision=\"rejected\"} 3",
    ] {
        assert!(metric(gateway, line).await, "{line}");
    }
    gateway.is_idle().await;
}

const TWO: &str = "{ consecutive = 2, open = \"60s\" }";

/// Story: what nobody had asked for yet was in no metric, so that nobody could tell it from what was not there.
#[tokio::test]
async fn upstreams_are_in_the_metrics_before_their_first_request() {
    let good = Upstream::start(always(Reply::ok())).await;
    let gateway = Gateway::serve(&beside_each_other(&good.url(), TWO, "", &good)).await;
    for line in [
        "gateway_circuit_breaker_state{upstream=\"bad\"} 0",
        "gateway_upstream_healthy{upstream=\"bad\"} 1",
        "gateway_upstream_unhealthy{upstream=\"bad\"} 0",
        "gateway_upstream_ejected{upstream=\"bad\"} 0",
    ] {
        assert!(metric(&gateway, line).await, "{line}");
    }
    assert_eq!(get(gateway.traffic, "/bad").await.status(), 200);
}

#[tokio::test]
async fn one_that_hangs_is_not_waited_for_again() {
    let good = Upstream::start(always(Reply::ok())).await;
    let bad = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let timers = "timeouts = { first_byte = \"200ms\" }";
    let gateway = Gateway::serve(&beside_each_other(&bad.url(), TWO, timers, &good)).await;
    opens(&gateway, 504, "GATEWAY_TIMEOUT").await;
    assert_eq!(bad.requests().len(), 2);
}

#[tokio::test]
async fn one_that_refuses_connections_is_not_dialled_again() {
    let good = Upstream::start(always(Reply::ok())).await;
    let bad = Upstream::start(always(Reply::ok())).await;
    let url = bad.url();
    bad.stop().await;
    let gateway = Gateway::serve(&beside_each_other(&url, TWO, "", &good)).await;
    opens(&gateway, 502, "BAD_GATEWAY").await;
}

#[tokio::test]
async fn one_that_resets_is_not_asked_again() {
    let good = Upstream::start(always(Reply::ok())).await;
    let bad = Upstream::start(always(Reply::ok().reset(At::Start))).await;
    let gateway = Gateway::serve(&beside_each_other(&bad.url(), TWO, "", &good)).await;
    opens(&gateway, 502, "BAD_GATEWAY").await;
    assert_eq!(bad.requests().len(), 2);
}

/// Half of its answers are 500: never five in a row, and half is too many all the same.
#[tokio::test]
async fn one_that_fails_every_other_time_is_not_asked_any_more() {
    let good = Upstream::start(always(Reply::ok())).await;
    let replies = (0..10).map(|index| Reply::status([200, 500][index % 2]));
    let bad = Upstream::start(in_order(replies)).await;
    let rate = "{ failure_rate = 0.5, min_calls = 10, open = \"60s\" }";
    let gateway = Gateway::serve(&beside_each_other(&bad.url(), rate, "", &good)).await;
    for index in 0..10 {
        let answer = get(gateway.traffic, "/bad").await;
        assert_eq!(answer.status(), [200, 500][index % 2]);
    }
    let answer = get(gateway.traffic, "/bad").await;
    is_refusal("half", &answer, 503, "CIRCUIT_OPEN");
    assert_eq!(get(gateway.traffic, "/good").await.status(), 200);
    assert_eq!(bad.requests().len(), 10);
    let shown = breaker(&gateway).await;
    assert_eq!(shown["state"], "open", "{shown}");
}

/// What waits for an upstream to come back must not all come at once.
#[tokio::test]
async fn one_that_recovers_is_asked_by_one_request_at_a_time() {
    let good = Upstream::start(always(Reply::ok())).await;
    let (well, gate) = (Arc::new(AtomicBool::new(false)), Gate::new());
    let script = {
        let (well, gate) = (Arc::clone(&well), gate.clone());
        move |_: &Received| match well.load(Ordering::Relaxed) {
            true => Reply::ok().hold(At::Start, &gate),
            false => Reply::status(500),
        }
    };
    let bad = Upstream::start(script).await;
    let soon = "{ consecutive = 2, open = \"100ms\", open_max = \"100ms\" }";
    let gateway = Gateway::serve(&beside_each_other(&bad.url(), soon, PATIENT, &good)).await;
    for _ in 0..2 {
        assert_eq!(get(gateway.traffic, "/bad").await.status(), 500);
    }
    well.store(true, Ordering::Relaxed);
    // Twenty at a time, again and again, until one of them is let through.
    let probe = until("a probe", || async {
        let clients = (0..20).map(|_| tokio::spawn(get_owned(gateway.traffic)));
        let mut clients: Vec<_> = clients.collect();
        let mut refused = 0;
        for client in &mut clients {
            // Whoever is held at the gate has no answer; all others have one at once.
            let answer = tokio::select! {
                biased;
                answer = client => Some(answer.unwrap()),
                () = gate.reached(1) => None,
            };
            if let Some(answer) = answer {
                is_refusal("not yet", &answer, 503, "CIRCUIT_OPEN");
                refused += 1;
            }
        }
        (refused < 20).then_some(clients)
    })
    .await;
    gate.reached(1).await;
    // Another twenty, while the probe is under way.
    for _ in 0..20 {
        let answer = get(gateway.traffic, "/bad").await;
        let error = is_refusal("probing", &answer, 503, "CIRCUIT_OPEN");
        assert_eq!(error["details"]["state"], "half_open");
        assert_eq!(get(gateway.traffic, "/good").await.status(), 200);
    }
    assert_eq!(bad.in_flight(), 1);
    assert!(
        metric(
            &gateway,
            "gateway_circuit_breaker_state{upstream=\"bad\"} 2"
        )
        .await
    );
    gate.open();
    drop(probe);
    until("it to be closed again", || async {
        get(gateway.traffic, "/bad").await;
        let shown = breaker(&gateway).await;
        (shown["state"] == "ramping" || shown["state"] == "closed").then_some(())
    })
    .await;
    assert!(
        metric(
            &gateway,
            "gateway_circuit_breaker_state{upstream=\"bad\"} 0"
        )
        .await
    );
    assert_eq!(bad.peak_in_flight(), 1);
}

async fn get_owned(address: std::net::SocketAddr) -> gw_testkit::client::Answer {
    get(address, "/bad").await
}

/// One endpoint of two fails: it is left out, and clients notice little.
///
/// Story: one whose answers broke off was not, since its heads were good. The breaker in front of both opened.
#[tokio::test]
async fn an_endpoint_that_fails_is_left_out() {
    for fails in [
        Reply::status(500),
        Reply::ok().body("0123456789").reset(At::Body(3)),
    ] {
        let good = Upstream::start(always(Reply::ok())).await;
        let bad = Upstream::start(always(fails)).await;
        let tables = format!(
            "[upstreams.up]\nendpoints = [\"{}\", \"{}\"]\neject = {{ consecutive = 3, base = \"60s\" }}\n{}",
            good.url(),
            bad.url(),
            route("all", "/", "up", ""),
        );
        let gateway = Gateway::serve(&config("", &tables)).await;
        let mut failed = 0;
        for _ in 0..40 {
            let answer = get(gateway.traffic, "/").await;
            failed += usize::from(answer.status() == 500 || !answer.is_complete());
        }
        assert_eq!(
            (failed, bad.requests().len(), good.requests().len()),
            (3, 3, 37)
        );
        let upstreams = page(gateway.admin, "/upstreams").await;
        let endpoints = &upstreams["upstreams"][0]["eject"]["endpoints"];
        assert_eq!(endpoints[0]["state"], "in", "{endpoints}");
        assert_eq!(endpoints[1]["state"], "ejected", "{endpoints}");
        assert_eq!(endpoints[1]["reason"], "consecutive", "{endpoints}");
        gateway.is_idle().await;
    }
}

#[tokio::test]
async fn protections_that_are_off_or_only_watch_let_everything_pass() {
    let good = Upstream::start(always(Reply::ok())).await;
    let bad = Upstream::start(always(Reply::status(500))).await;
    for mode in ["shadow", "off"] {
        let breaker = format!("{{ consecutive = 1, mode = \"{mode}\" }}");
        let text = beside_each_other(&bad.url(), &breaker, "", &good);
        let gateway = Gateway::serve(&text).await;
        for _ in 0..5 {
            assert_eq!(get(gateway.traffic, "/bad").await.status(), 500);
        }
        assert_eq!(self::breaker(&gateway).await["mode"], mode);
    }
}

#[tokio::test]
async fn what_no_breaker_can_be_built_from_names_the_key() {
    for (breaker, key) in [
        ("{ probes = 32 }", "upstreams.bad.breaker.probes"),
        ("{ window = \"1ms\" }", "upstreams.bad.breaker.window"),
        ("{ open = \"6m\" }", "upstreams.bad.breaker.open"),
    ] {
        let good = Upstream::start(always(Reply::ok())).await;
        let text = beside_each_other(&good.url(), breaker, "", &good);
        let said = crate::gateway::check(&text).await;
        let refused = said.refused();
        assert!(refused.contains(key), "{breaker}: {refused}");
    }
}

/// Story: anybody could open a breaker for all, by calls that gave the upstream too little time.
#[tokio::test]
async fn calls_that_give_too_little_time_keep_nobody_away() {
    let out_of_time = Reply::ok()
        .header("content-type", "application/grpc")
        .header("grpc-status", "4");
    let bad = Upstream::start(always(out_of_time)).await;
    let gateway = Gateway::serve(&beside_each_other(&bad.url(), TWO, "", &bad)).await;
    let call = |time: String| {
        format!(
            "POST /bad/B HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
             content-length: 5\r\n{time}\r\n\0\0\0\0\0"
        )
    };
    // The gateway gives up before the answer is there, or the upstream does before that.
    for time in ["1m", "10S"] {
        for _ in 0..4 {
            let answer = send(gateway.traffic, call(format!("grpc-timeout: {time}\r\n"))).await;
            assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
        }
    }
    assert_eq!(breaker(&gateway).await["state"], "closed");
    // By the gateway's own limit an upstream that says so is too slow.
    for status in ["4", "4", "14"] {
        let answer = send(gateway.traffic, call(String::new())).await;
        assert_eq!(answer.header("grpc-status"), Some(status), "{answer:?}");
    }
    assert_eq!(breaker(&gateway).await["state"], "open");
}
