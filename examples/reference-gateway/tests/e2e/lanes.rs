//! Lanes: a full one refuses, the others answer.

use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, always, by_path};
use gw_testkit::{Gate, within};

use crate::gateway::{Gateway, PATIENT, all_to, check, config, route, upstream};
use crate::http::{get, is_refusal, page, retry_after};

/// A lane `slow` with two places and no queue, on threads of its own if asked, beside the default one.
async fn start(gate: &Gate, lane: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start(by_path(
        [
            ("/slow/head", Reply::ok().body("late").hold(At::Start, gate)),
            (
                "/slow/body",
                Reply::ok().body("0123456789").hold(At::Body(4), gate),
            ),
        ],
        Reply::ok().body("fast"),
    ))
    .await;
    let tables = format!(
        "[lanes]\ntotal = 10\n[lanes.lane.core]\nguaranteed = 0.5\n\
         [lanes.lane.slow]\nguaranteed = 0.1\ncap = 0.2\nqueue = 0\n{lane}\n{}{}{}",
        self::upstream("up", &upstream.url()),
        route(
            "slow",
            "/slow",
            "up",
            &format!("lane = \"slow\"\n{PATIENT}")
        ),
        route("fast", "/fast", "up", "")
    );
    (Gateway::serve(&config("", &tables)).await, upstream)
}

/// An operator's page shows which lanes there are and what they may, and not only those that somebody has used.
#[tokio::test]
async fn lanes_are_in_the_metrics_before_their_first_request() {
    let (gateway, _upstream) = start(&Gate::new(), "").await;
    let answer = get(gateway.admin, "/metrics").await;
    let metrics = answer.text();
    for line in [
        "gateway_lane_limit{lane=\"core\"} 10",
        "gateway_lane_limit{lane=\"slow\"} 2",
        "gateway_lane_in_flight{lane=\"core\"} 0",
        "gateway_lane_in_flight{lane=\"slow\"} 0",
        "gateway_lane_queued{lane=\"core\"} 0",
        "gateway_lane_queued{lane=\"slow\"} 0",
    ] {
        let there = metrics.lines().any(|it| it == line);
        assert!(there, "{line} in\n{metrics}");
    }
}

#[tokio::test]
async fn a_full_lane_refuses_and_another_answers() {
    for lane in ["", "threads = 1"] {
        let gate = Gate::new();
        let (gateway, upstream) = start(&gate, lane).await;
        let mut waiting = Client::connect(gateway.traffic).await;
        waiting.get("/slow/head").await;
        // The permit lasts until the body ends, not until the head is there.
        let mut streaming = Client::connect(gateway.traffic).await;
        streaming.get("/slow/body").await;
        let head = streaming.read_head().await;
        upstream.arrived(2).await;
        for _ in 0..3 {
            let answer = get(gateway.traffic, "/slow/other").await;
            is_refusal("a full lane", &answer, 503, "OVERLOADED");
            retry_after("a full lane", &answer);
            assert_eq!(get(gateway.traffic, "/fast").await.text(), "fast");
        }
        gate.open();
        assert_eq!(waiting.read_answer().await.text(), "late");
        assert_eq!(streaming.read_body_of(head).await.text(), "0123456789");
        gateway.is_idle().await;
        assert_eq!(get(gateway.traffic, "/slow/other").await.text(), "fast");
    }
}

#[tokio::test]
async fn a_client_that_leaves_makes_room() {
    let gate = Gate::new();
    let (gateway, upstream) = start(&gate, "").await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(gateway.traffic).await;
        client.get("/slow/head").await;
        clients.push(client);
    }
    upstream.arrived(2).await;
    assert_eq!(get(gateway.traffic, "/slow/other").await.status(), 503);
    clients.pop().unwrap().reset();
    drop(clients);
    gateway.is_idle().await;
    assert_eq!(get(gateway.traffic, "/slow/other").await.status(), 200);
}

#[tokio::test]
async fn a_queued_request_is_served_when_a_place_comes_free() {
    let gate = Gate::new();
    let upstream = Upstream::start(by_path(
        [("/held", Reply::ok().body("held").hold(At::Start, &gate))],
        Reply::ok().body("next"),
    ))
    .await;
    let tables = format!(
        "[lanes]\ntotal = 1\n[lanes.lane.core]\nguaranteed = 1.0\nqueue = 1\nqueue_timeout = \"1m\"\n{}",
        all_to(&upstream.url(), PATIENT)
    );
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut first = Client::connect(gateway.traffic).await;
    first.get("/held").await;
    upstream.arrived(1).await;
    let mut second = Client::connect(gateway.traffic).await;
    second.get("/").await;
    crate::command::until("a queued request", || async {
        let lanes = crate::http::page(gateway.admin, "/lanes").await;
        (lanes["lanes"][0]["queued"] == 1).then_some(())
    })
    .await;
    let answer = get(gateway.traffic, "/").await;
    is_refusal("a full queue", &answer, 503, "OVERLOADED");
    retry_after("a full queue", &answer);
    gate.open();
    assert_eq!(first.read_answer().await.text(), "held");
    assert_eq!(second.read_answer().await.text(), "next");
    gateway.is_idle().await;
}

#[tokio::test]
async fn one_client_cannot_fill_a_lane_with_per_key() {
    for lane in ["", "threads = 1"] {
        let gate = Gate::new();
        let key = "per_key = { key = \"header:x-tenant\", max = 1 }";
        let (gateway, upstream) = start(&gate, &format!("{key}\n{lane}")).await;
        let as_tenant = |tenant: &str| {
            format!("GET /slow/head HTTP/1.1\r\nhost: gateway\r\nx-tenant: {tenant}\r\n\r\n")
        };
        let mut greedy = Client::connect(gateway.traffic).await;
        greedy.send(&as_tenant("greedy")).await;
        upstream.arrived(1).await;
        let mut again = Client::connect(gateway.traffic).await;
        again.send(&as_tenant("greedy")).await;
        let answer = again.read_answer().await;
        is_refusal("one too many", &answer, 429, "RATE_LIMIT_EXCEEDED");
        retry_after("one too many", &answer);
        let mut other = Client::connect(gateway.traffic).await;
        other.send(&as_tenant("modest")).await;
        upstream.arrived(2).await;
        let lanes = page(gateway.admin, "/lanes").await;
        let slow = &lanes["lanes"][1];
        assert_eq!(
            slow["per_key"],
            serde_json::json!({ "max": 1, "keys": 2, "busiest": 1 }),
            "{slow}"
        );
        assert_eq!(slow["rejected"]["per_key"], 1, "{slow}");
        assert_eq!(lanes["lanes"][0]["per_key"], serde_json::Value::Null);
        gate.open();
        assert_eq!(greedy.read_answer().await.text(), "late");
        assert_eq!(other.read_answer().await.text(), "late");
        gateway.is_idle().await;
        let lanes = page(gateway.admin, "/lanes").await;
        assert_eq!(lanes["lanes"][1]["per_key"]["keys"], 0);
    }
}

#[tokio::test]
async fn a_process_that_is_larger_than_it_may_be_refuses() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    // No process is as small as that.
    let memory = "memory = { limit = \"64KiB\", shed_at = 0.5, refuse_at = 0.9 }\n";
    let tables = all_to(&upstream.url(), "");
    let gateway = Gateway::serve(&config(memory, &tables)).await;
    let refused = async {
        loop {
            let answer = get(gateway.traffic, "/").await;
            if answer.status() == 503 {
                return answer;
            }
        }
    };
    let answer = within("a refusal", refused).await;
    is_refusal("no memory", &answer, 503, "OVERLOADED");
    let lanes = page(gateway.admin, "/lanes").await;
    assert_eq!(lanes["load"], "exhausted");
    assert!(
        lanes["lanes"][0]["rejected"]["pressure"].as_u64() >= Some(1),
        "{lanes}"
    );

    let off = memory.replace("limit", "mode = \"off\", limit");
    let gateway = Gateway::serve(&config(&off, &tables)).await;
    assert_eq!(get(gateway.traffic, "/").await.status(), 200);
    assert_eq!(page(gateway.admin, "/lanes").await["load"], "normal");
}

#[tokio::test]
async fn a_lane_is_tried_out_while_another_enforces() {
    let gate = Gate::new();
    let lane = "mode = \"shadow\"\nthreads = 1";
    let (gateway, upstream) = start(&gate, lane).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(gateway.traffic).await;
        client.get("/slow/head").await;
        waiting.push(client);
    }
    upstream.arrived(3).await;
    let slow = gateway.lane("slow").await;
    assert_eq!(
        (&slow["mode"], &slow["in_flight"], &slow["limit"]),
        (&"shadow".into(), &3.into(), &2.into()),
        "{slow}"
    );
    assert_eq!(slow["rejected"]["lane_full"], 1, "{slow}");
    assert_eq!(gateway.lane("core").await["mode"], "enforce");
    gate.open();
    for client in &mut waiting {
        assert_eq!(client.read_answer().await.text(), "late");
    }
    gateway.is_idle().await;

    let tables = "[lanes.lane.core]\nguaranteed = 1.0\nmode = \"off\"\n".to_owned();
    let said = check(&config("", &(tables + &all_to("http://127.0.0.1:1", "")))).await;
    said.succeeded();
    assert!(
        !said.err.contains("note: lanes"),
        "it has effect: {}",
        said.err
    );
}
