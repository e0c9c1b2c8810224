//! What is sent again, and what never is.

use std::time::Duration;

use gw_testkit::upstream::{At, Received, Reply, Upstream, always};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::gateway::{Gateway, check, config, route, upstream, without_breakers};
use crate::http::{get, is_refusal, page, retry_after, send};

/// One upstream, which is asked however often it fails, and one route to it.
fn retried(upstream: &Upstream, upstream_keys: &str, route_keys: &str) -> String {
    let tables = format!(
        "{}{upstream_keys}\n{}",
        self::upstream("up", &upstream.url()),
        route("all", "/", "up", route_keys)
    );
    config("", &without_breakers(&tables))
}

const SOON: &str = "backoff = { base = \"1ms\", max = \"2ms\" }";

/// Fails in its own way until the third request.
async fn third_time_lucky(failure: Reply) -> Upstream {
    Upstream::start(move |request: &Received| match request.index {
        0 | 1 => failure.clone(),
        _ => Reply::ok().body("done"),
    })
    .await
}

#[tokio::test]
async fn a_read_that_fails_is_hidden() {
    for (failure, timeouts) in [
        (Reply::status(503).body("no"), ""),
        (Reply::ok().reset(At::Start), ""),
        (Reply::ok().cut(At::Head(10)), ""),
        // Long enough for the attempt that is answered, on a busy machine as well.
        (
            Reply::ok().stall(At::Start),
            "timeouts = { attempt = \"1s\" }",
        ),
    ] {
        let upstream = third_time_lucky(failure).await;
        let keys = format!("retry = {{ max_attempts = 3, {SOON} }}\n{timeouts}");
        let gateway = Gateway::serve(&retried(&upstream, "", &keys)).await;
        let answer = get(gateway.traffic, "/").await;
        assert_eq!((answer.status(), &*answer.body), (200, &b"done"[..]));
        let attempts: Vec<_> = upstream
            .requests()
            .iter()
            .map(|it| it.header("x-gw-attempt").map(str::to_owned))
            .collect();
        assert_eq!(attempts, [None, Some("2".into()), Some("3".into())]);
        gateway.is_idle().await;
    }
}

/// Without a table, with another method, or without a key: once.
#[tokio::test]
async fn what_may_have_had_an_effect_is_sent_once() {
    let all = "retry = { max_attempts = 3, methods = [\"POST\", \"PUT\"], require_idempotency_key = true }";
    for (keys, request, sent) in [
        ("", "GET / HTTP/1.1\r\nhost: a\r\n\r\n", 1),
        (
            "retry = {}",
            "PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
            1,
        ),
        (
            "retry = {}",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
            1,
        ),
        (
            all,
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx",
            1,
        ),
        (
            all,
            "POST / HTTP/1.1\r\nhost: a\r\nidempotency-key: \"k\"\r\ncontent-length: 1\r\n\r\nx",
            3,
        ),
    ] {
        let upstream = Upstream::start(always(Reply::ok().reset(At::Start))).await;
        let gateway = Gateway::serve(&retried(&upstream, "", keys)).await;
        let answer = send(gateway.traffic, request).await;
        is_refusal(keys, &answer, 502, "BAD_GATEWAY");
        let requests = upstream.requests();
        assert_eq!(requests.len(), sent, "{keys} {request}");
        // Each attempt is the whole request.
        let whole = |it: &&Received| it.body.is_empty() == request.starts_with("GET");
        assert_eq!(requests.iter().filter(whole).count(), sent, "{requests:?}");
    }
}

/// An upstream that is down gets no more than its budget on top.
#[tokio::test]
async fn a_budget_bounds_what_is_sent_on_top() {
    let upstream = Upstream::start(always(Reply::status(503))).await;
    let budget = "retry_budget = { ratio = 0.2, min_per_second = 0 }";
    let keys = format!("retry = {{ max_attempts = 3, {SOON} }}");
    let gateway = Gateway::serve(&retried(&upstream, budget, &keys)).await;
    for _ in 0..50 {
        assert_eq!(get(gateway.traffic, "/").await.status(), 503);
    }
    assert_eq!(upstream.requests().len(), 60);
    let shown: Value = page(gateway.admin, "/upstreams").await;
    assert_eq!(shown["upstreams"][0]["retry"]["budget_available"], 0);
    let metrics = get(gateway.admin, "/metrics").await;
    assert!(
        metrics
            .text()
            .lines()
            .any(|line| line.starts_with("gateway_retry_budget_exhausted_total{upstream=\"up\"}")),
        "{}",
        metrics.text()
    );
}

/// Tried out before it is relied on: what would be sent again, and what would be too much of it, is counted.
#[tokio::test]
async fn what_is_in_shadow_mode_is_counted_and_not_done() {
    let count = async |gateway: &Gateway, series: &str| {
        let metrics = get(gateway.admin, "/metrics").await;
        let text = metrics.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.map(|count| count.trim().to_owned())
    };
    let watched = "gateway_retries_total{upstream=\"up\",reason=\"shadow\"}";
    let exhausted = "gateway_retry_budget_exhausted_total{upstream=\"up\"}";
    let least = "retry_budget = { ratio = 0.0, min_per_second = 0, mode = \"MODE\" }";
    for (retry, budget, sent, counted) in [
        ("shadow", "off", 5, (Some("5"), None)),
        ("enforce", "shadow", 15, (None, Some("10"))),
        ("enforce", "off", 15, (None, None)),
        ("enforce", "enforce", 5, (None, Some("5"))),
    ] {
        let upstream = Upstream::start(always(Reply::status(503))).await;
        let keys = format!("retry = {{ max_attempts = 3, mode = \"{retry}\", {SOON} }}");
        let text = retried(&upstream, &least.replace("MODE", budget), &keys);
        let said = check(&text).await;
        assert!(!said.err.contains(".mode"), "{}", said.err);
        let gateway = Gateway::serve(&text).await;
        for _ in 0..5 {
            assert_eq!(get(gateway.traffic, "/").await.status(), 503);
        }
        assert_eq!(upstream.requests().len(), sent, "{retry} {budget}");
        let found = (
            count(&gateway, watched).await,
            count(&gateway, exhausted).await,
        );
        let counted = (counted.0.map(str::to_owned), counted.1.map(str::to_owned));
        assert_eq!(found, counted, "{retry} {budget}");
    }
}

/// Nothing else tells why failures come through that a retry would have hidden.
#[tokio::test]
async fn a_budget_of_nothing_is_told() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let budget = "retry_budget = { ratio = 0.0, min_per_second = 0 }";
    for (written, note) in [
        (
            "retry = {}",
            "note: routes[0].retry: never sends anything again",
        ),
        (
            "hedge = {}",
            "note: routes[0].hedge: never sends a second copy",
        ),
    ] {
        let said = check(&retried(&upstream, budget, written)).await;
        assert!(said.err.contains(note), "{}", said.err);
    }
    let said = check(&retried(&upstream, budget, "hedge = { mode = \"off\" }")).await;
    assert!(!said.err.contains("routes[0].hedge"), "{}", said.err);
}

/// Who wonders why nothing is sent again finds it on one page.
#[tokio::test]
async fn modes_and_limits_of_retries_and_hedges_are_shown() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let budget = "retry_budget = { ratio = 0.1, min_per_second = 7, mode = \"shadow\" }";
    let keys = "retry = { mode = \"shadow\" }\n\
                hedge = { percentile = 0.95, max_extra_load = 0.02, mode = \"off\" }";
    let gateway = Gateway::serve(&retried(&upstream, budget, keys)).await;
    let shown: Value = page(gateway.admin, "/upstreams").await;
    let up = &shown["upstreams"][0];
    assert_eq!(up["retry"]["routes"], json!({ "all": "shadow" }));
    assert_eq!(
        up["retry"]["budget"],
        json!({ "mode": "shadow", "ratio": 0.1, "min_per_second": 7 })
    );
    assert_eq!(
        up["hedge"],
        json!([{
            "route": "all", "mode": "off", "delay_ms": null, "percentile": 0.95, "max_extra_load": 0.02,
        }])
    );
}

/// Most are fast. Then one is not, and a second copy is.
#[tokio::test]
async fn a_read_that_takes_longer_than_others_is_asked_a_second_time() {
    let upstream = Upstream::start(|request: &Received| {
        match request.target == "/slow" && request.header("x-gw-attempt").is_none() {
            true => Reply::ok().stall(At::Start),
            false => Reply::ok().body("done"),
        }
    })
    .await;
    // On a busy machine many requests take longer than most: none must be without a second copy for that.
    let keys = "hedge = { percentile = 0.99, max_extra_load = 1.0 }";
    let budget = "retry_budget = { ratio = 1.0, min_per_second = 1000 }";
    let gateway = Gateway::serve(&retried(&upstream, budget, keys)).await;
    let mut sent = 1;
    let mut enough = None;
    // How long they take is worked out once a second, from a hundred of them at least, however long these took.
    while enough.is_none_or(|since: Instant| since.elapsed() < Duration::from_millis(1200)) {
        assert_eq!(get(gateway.traffic, "/").await.status(), 200);
        sent += 1;
        if sent > 150 {
            enough.get_or_insert_with(Instant::now);
        }
    }
    assert_eq!(get(gateway.traffic, "/slow").await.status(), 200);
    let received = upstream.requests().len();
    assert!(received > sent, "{received} {sent}");
    gateway.is_idle().await;
}

/// A gateway in front would do the same once more, for each of its own attempts.
#[tokio::test]
async fn who_has_tried_in_vain_asks_others_not_to() {
    let keys = format!("retry = {{ max_attempts = 3, {SOON} }}");
    let tables = self::upstream("up", "http://127.0.0.1:1") + &route("all", "/", "up", &keys);
    let gateway = Gateway::serve(&config("", &without_breakers(&tables))).await;
    let answer = get(gateway.traffic, "/").await;
    is_refusal("down", &answer, 502, "BAD_GATEWAY");
    assert_eq!(answer.header("x-gw-should-retry"), Some("false"));
}

/// Story: where the breaker opened between two attempts, the answer did not ask others not to, and a gateway in front sent the
/// request again by another instance, whose breaker had not opened yet.
#[tokio::test]
async fn who_is_kept_by_the_breaker_from_trying_again_asks_others_not_to() {
    let upstream = Upstream::start(always(Reply::status(503))).await;
    let mut tables = self::upstream("up", &upstream.url()) + "breaker = { consecutive = 1 }\n";
    tables += &route("all", "/", "up", &format!("retry = {{ {SOON} }}"));
    let gateway = Gateway::serve(&config("", &tables)).await;
    let answer = get(gateway.traffic, "/").await;
    is_refusal("failed", &answer, 503, "UPSTREAM_UNAVAILABLE");
    assert_eq!(answer.header("x-gw-should-retry"), Some("false"));
    // Of this one nothing was sent, and it says when to come back.
    let answer = get(gateway.traffic, "/").await;
    is_refusal("refused", &answer, 503, "CIRCUIT_OPEN");
    assert_eq!(answer.header("x-gw-should-retry"), None);
    retry_after("refused", &answer);
    assert_eq!(upstream.requests().len(), 1);
}

const CALL: &str = "POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
                    idempotency-key: \"k\"\r\ncontent-length: 5\r\n";

/// How many milliseconds a call was told to have left.
fn time_left(request: &Received) -> u64 {
    let told = request.header("grpc-timeout").unwrap_or_default();
    let millis = told.strip_suffix('m').and_then(|it| it.parse().ok());
    millis.unwrap_or_else(|| panic!("{told:?}: {request:?}"))
}

/// A client that does not wait any longer is not waited for, and each attempt is told what is left.
#[tokio::test]
async fn the_time_that_a_grpc_client_gives_is_kept_to_and_told_on() {
    let upstream = Upstream::start(move |request: &Received| match request.index {
        0 => Reply::status(503),
        _ => Reply::ok().stall(At::Start),
    })
    .await;
    let keyed = "methods = [\"POST\"], require_idempotency_key = true";
    let keys = format!(
        "timeouts = {{ request = \"60s\" }}\nretry = {{ max_attempts = 3, {keyed}, {SOON} }}"
    );
    let gateway = Gateway::serve(&retried(&upstream, "", &keys)).await;
    let call = format!("{CALL}grpc-timeout: 2000m\r\n\r\n\0\0\0\0\0");
    let answer = send(gateway.traffic, call).await;
    // DEADLINE_EXCEEDED, long before the route's time is over.
    assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
    let told: Vec<_> = upstream.requests().iter().map(time_left).collect();
    // The second attempt is not given up for another one: its time is the client's.
    let [first, second] = told[..] else {
        panic!("{told:?}");
    };
    assert!(second <= first && first <= 2000, "{told:?}");
    gateway.is_idle().await;
}

/// Whatever the client asks for, the route's own time is not exceeded; what cannot be read asks for nothing.
#[tokio::test]
async fn calls_are_told_of_the_time_of_their_route() {
    let upstream = Upstream::start(always(Reply::ok().header("grpc-status", "0"))).await;
    let gateway = Gateway::serve(&retried(&upstream, "", "timeouts = { request = \"60s\" }")).await;
    for field in ["", "grpc-timeout: 5M\r\n", "grpc-timeout: soon\r\n"] {
        let call = format!("{CALL}{field}\r\n\0\0\0\0\0");
        let answer = send(gateway.traffic, call).await;
        assert_eq!(answer.header("grpc-status"), Some("0"), "{answer:?}");
    }
    let requests = upstream.requests();
    assert_eq!(requests.len(), 3);
    assert!(
        requests
            .iter()
            .all(|it| (1..=60_000).contains(&time_left(it)))
    );
    // To others the field says nothing, and nothing is said in it.
    get(gateway.traffic, "/").await;
    assert_eq!(upstream.requests()[3].header("grpc-timeout"), None);
}

/// What nobody may see in an answer is told on standard error: which upstream, how much, and the trace.
#[tokio::test]
async fn a_budget_that_is_used_up_is_told_of() {
    let upstream = Upstream::start(always(Reply::status(503))).await;
    let budget = "retry_budget = { ratio = 0.0, min_per_second = 0 }";
    let keys = format!("retry = {{ {SOON} }}");
    let mut gateway = Gateway::serve(&retried(&upstream, budget, &keys)).await;
    let answer = get(gateway.traffic, "/").await;
    let error = is_refusal("spent", &answer, 503, "UPSTREAM_UNAVAILABLE");
    let trace = error["trace_id"].as_str().unwrap();
    let told = gateway.tells("retry_budget_exceeded").await;
    for part in ["service=\"up\"", "budget=", trace] {
        assert!(told.contains(part), "{part}: {told}");
    }
}
