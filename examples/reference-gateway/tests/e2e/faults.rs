//! Upstreams that fail, and what a client sees of it.

use gw_testkit::client::{Client, Ended};
use gw_testkit::upstream::{At, Framing, Reply, Upstream, always, by_path};

use crate::gateway::{Gateway, all_to, config, route, upstream, without_breakers};
use crate::http::{get, is_refusal, retry_after, send};
use crate::log_lines::to_file;

const SECRET: &str = "panic at db.rs:42: cannot reach 10.0.0.7 as admin";

#[tokio::test]
async fn a_refused_connection_is_502() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let (address, url) = (upstream.addr(), upstream.url());
    upstream.stop().await;
    let gateway = Gateway::serve(&config("", &all_to(&url, ""))).await;
    for _ in 0..2 {
        let answer = get(gateway.traffic, "/").await;
        is_refusal("refused", &answer, 502, "BAD_GATEWAY");
        assert!(!answer.text().contains(&address.to_string()), "{answer:?}");
        assert!(!answer.text().contains("refused"), "{answer:?}");
    }
    gateway.is_idle().await;
}

/// Which one it was is told in log and metric, and not in the answer.
#[tokio::test]
async fn an_upstream_that_hangs_is_504_by_whichever_timer_fires() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let timers = [
        ("request", "{ request = \"200ms\" }", "deadline_passed"),
        ("attempt", "{ attempt = \"200ms\" }", "attempt_timeout"),
        ("first", "{ first_byte = \"200ms\" }", "first_byte_timeout"),
    ];
    let mut tables = to_file("");
    tables += &self::upstream("up", &upstream.url());
    for (name, timeouts, _) in timers {
        tables += &route(
            name,
            &format!("/{name}"),
            "up",
            &format!("timeouts = {timeouts}"),
        );
    }
    let gateway = Gateway::serve(&config("", &tables)).await;
    for (name, _, cause) in timers {
        let answer = get(gateway.traffic, &format!("/{name}")).await;
        is_refusal(name, &answer, 504, "GATEWAY_TIMEOUT");
        assert!(!answer.text().contains(cause), "{answer:?}");
    }
    let lines = gateway.logged(timers.len()).await;
    let causes: Vec<_> = lines.iter().map(|line| &line["cause"]).collect();
    assert_eq!(causes, timers.map(|(_, _, cause)| cause));
    let metrics = get(gateway.admin, "/metrics").await;
    for (_, _, cause) in timers {
        let series = format!(
            "gateway_upstream_requests_total{{upstream=\"up\",outcome=\"{cause}\",attempt=\"1\"}} 1"
        );
        assert!(metrics.text().contains(&series), "{}", metrics.text());
    }
    gateway.is_idle().await;
    upstream.open_connections(0).await;
}

/// Section 15 of the design: 504 says when to come back. Whichever timer fires, the client is told alike.
#[tokio::test]
async fn every_504_says_when_to_come_back() {
    let upstream = Upstream::start(by_path(
        [("/says", Reply::status(504))],
        Reply::ok().stall(At::Start),
    ))
    .await;
    let mut tables = self::upstream("up", &upstream.url());
    tables += &route(
        "first",
        "/first",
        "up",
        "timeouts = { first_byte = \"200ms\" }",
    );
    tables += &route(
        "request",
        "/request",
        "up",
        "timeouts = { request = \"200ms\" }",
    );
    tables += &route("says", "/says", "up", "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    for path in ["/first", "/request", "/says"] {
        let answer = get(gateway.traffic, path).await;
        is_refusal(path, &answer, 504, "GATEWAY_TIMEOUT");
        retry_after(path, &answer);
    }
}

#[tokio::test]
async fn what_an_upstream_says_of_its_failure_stays_inside() {
    let failing = |status| {
        Reply::status(status)
            .header("content-type", "text/plain")
            .header("x-debug", SECRET)
            .header("set-cookie", SECRET)
            .header("etag", "\"10.0.0.7\"")
            .reason(SECRET)
            .body(SECRET)
    };
    let upstream = Upstream::start(by_path(
        [500, 501, 502, 503, 504, 507].map(|status| (format!("/{status}"), failing(status))),
        Reply::ok(),
    ))
    .await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    for (status, code) in [
        (500, "INTERNAL"),
        (501, "BAD_GATEWAY"),
        (502, "BAD_GATEWAY"),
        (503, "UPSTREAM_UNAVAILABLE"),
        (504, "GATEWAY_TIMEOUT"),
        (507, "BAD_GATEWAY"),
    ] {
        let answer = get(gateway.traffic, &format!("/{status}")).await;
        is_refusal("failing", &answer, status, code);
        assert!(!format!("{answer:?}").contains("10.0.0.7"), "{answer:?}");
        let reason = answer.head.as_ref().unwrap().reason();
        assert!(!reason.contains("10.0.0.7"), "{reason}");
    }
    gateway.is_idle().await;
}

/// The manual: "`Retry-After` is on every 429, 503 and 504 of the gateway." Without breakers, which would answer in the upstream's place.
#[tokio::test]
async fn a_503_of_the_upstream_says_when_to_come_back() {
    let upstream = Upstream::start(by_path(
        [
            ("/told", Reply::status(503).header("retry-after", "77")),
            ("/at-once", Reply::status(503).header("retry-after", "0")),
            ("/before", Reply::status(503).header("retry-after", "-7")),
            ("/soon", Reply::status(503).header("retry-after", "soon")),
            (
                "/long-ago",
                Reply::status(503).header("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ),
            (
                "/twice",
                Reply::status(503)
                    .header("retry-after", "3600")
                    .header("retry-after", "7200"),
            ),
        ],
        Reply::status(503),
    ))
    .await;
    let gateway =
        Gateway::serve(&config("", &without_breakers(&all_to(&upstream.url(), "")))).await;
    assert_eq!(
        retry_after("told", &get(gateway.traffic, "/told").await),
        77
    );
    // What an upstream says that no client can go by is as if it had said nothing.
    for path in [
        "/untold",
        "/at-once",
        "/before",
        "/soon",
        "/long-ago",
        "/twice",
    ] {
        let answer = get(gateway.traffic, path).await;
        assert!(retry_after(path, &answer) < 10, "{path}: {answer:?}");
    }
    // A gRPC client has HTTP 200, and reads the same in fields of its own.
    for (path, least, most) in [("/told", 77, 77), ("/untold", 1, 9), ("/twice", 1, 9)] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\ncontent-length: 0\r\n\r\n"
        );
        let answer = send(gateway.traffic, request).await;
        let number = |name| answer.header(name).and_then(|value| value.parse().ok());
        let seconds: u64 = number("retry-after").unwrap_or_default();
        assert!((least..=most).contains(&seconds), "{path}: {answer:?}");
        assert_eq!(number("grpc-retry-pushback-ms"), Some(seconds * 1000));
        assert_eq!(answer.header("grpc-status"), Some("14"));
    }
}

#[tokio::test]
async fn faults_that_the_client_is_to_see_pass_through() {
    let reply = Reply::status(404)
        .header("x-kept", "1")
        .body("no such order");
    let upstream = Upstream::start(always(reply)).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let answer = get(gateway.traffic, "/").await;
    assert_eq!((answer.status(), answer.text()), (404, "no such order"));
    assert_eq!(answer.header("x-kept"), Some("1"));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_cut_for_the_client_too() {
    let upstream = Upstream::start(by_path(
        [
            (
                "/reset-length",
                Reply::ok().body("0123456789").reset(At::Body(4)),
            ),
            (
                "/reset-chunks",
                Reply::ok().chunks(["0123", "456789"]).reset(At::Body(9)),
            ),
            (
                "/cut-chunks",
                Reply::ok().chunks(["0123", "456789"]).cut(At::LastChunk),
            ),
            (
                "/truncated",
                Reply::ok()
                    .body("0123")
                    .framing(Framing::Length(10))
                    .close(),
            ),
            (
                "/bad-chunk",
                Reply::raw(
                    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\n0123\r\nzz\r\n",
                ),
            ),
        ],
        Reply::ok(),
    ))
    .await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    for path in [
        "/reset-length",
        "/reset-chunks",
        "/cut-chunks",
        "/truncated",
        "/bad-chunk",
    ] {
        let mut client = Client::connect(gateway.traffic).await;
        client.get(path).await;
        let answer = client.read_answer().await;
        // A reset may overtake the head, which is then a refusal; a complete 200 would be a lie.
        match answer.head.as_ref().map(|head| head.status()) {
            Some(200) => {
                assert!(
                    matches!(answer.ended, Ended::Cut | Ended::Reset),
                    "{path}: {answer:?}"
                );
                assert!(
                    b"0123456789".starts_with(&answer.body),
                    "{path}: {answer:?}"
                );
            }
            _ => drop(is_refusal(path, &answer, 502, "BAD_GATEWAY")),
        }
    }
    gateway.is_idle().await;
}

#[tokio::test]
async fn an_answer_that_is_none_is_502() {
    let upstream = Upstream::start(by_path(
        [
            ("/garbage", Reply::raw("SSH-2.0-OpenSSH_9.6\r\n")),
            ("/silence", Reply::raw("")),
            ("/half-head", Reply::ok().cut(At::Head(10))),
            ("/reset-head", Reply::ok().reset(At::Start)),
            (
                "/two-lengths",
                Reply::ok().body("0123").framing(Framing::TwoLengths(4, 2)),
            ),
            (
                "/unasked-101",
                Reply::raw(
                    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
                ),
            ),
            ("/large-head", Reply::ok().large_head(1024)),
        ],
        Reply::ok(),
    ))
    .await;
    let gateway =
        Gateway::serve(&config("", &without_breakers(&all_to(&upstream.url(), "")))).await;
    for path in [
        "/garbage",
        "/silence",
        "/half-head",
        "/reset-head",
        "/two-lengths",
        "/unasked-101",
        "/large-head",
    ] {
        let answer = get(gateway.traffic, path).await;
        is_refusal(path, &answer, 502, "BAD_GATEWAY");
        assert!(!answer.text().contains("SSH"), "{answer:?}");
    }
    gateway.is_idle().await;
}

#[tokio::test]
async fn a_pause_within_the_answer_cuts_it() {
    let upstream = Upstream::start(always(Reply::ok().body("0123456789").stall(At::Body(4)))).await;
    let timeouts = "timeouts = { idle = \"200ms\" }";
    let tables = to_file("") + &all_to(&upstream.url(), timeouts);
    let gateway = Gateway::serve(&config("", &tables)).await;
    let answer = get(gateway.traffic, "/").await;
    assert_eq!((answer.status(), answer.text()), (200, "0123"));
    assert!(!answer.is_complete(), "{answer:?}");
    let lines = gateway.logged(1).await;
    let said = (&lines[0]["code"], &lines[0]["cause"]);
    assert_eq!(said, (&"GATEWAY_TIMEOUT".into(), &"idle_timeout".into()));
    let metrics = get(gateway.admin, "/metrics").await;
    let series = "gateway_upstream_answers_cut_total{upstream=\"up\",reason=\"idle_timeout\"} 1";
    assert!(metrics.text().contains(series), "{}", metrics.text());
    gateway.is_idle().await;
}

#[tokio::test]
async fn a_full_pool_is_503_and_its_queue_is_bounded() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let mut tables = self::upstream("up", &upstream.url());
    tables += "pool = { max_connections = 1, queue = 0, queue_timeout = \"1m\" }\n";
    tables += &route("all", "/", "up", "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let mut first = Client::connect(gateway.traffic).await;
    first.get("/").await;
    upstream.arrived(1).await;
    let answer = get(gateway.traffic, "/").await;
    is_refusal("a full pool", &answer, 503, "OVERLOADED");
    retry_after("a full pool", &answer);
    drop(first);
    gateway.is_idle().await;
}

#[tokio::test]
async fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let early = Reply::status(403)
        .body("no")
        .read_body(gw_testkit::upstream::ReadBody::After);
    let upstream = Upstream::start(always(early)).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let mut client = Client::connect(gateway.traffic).await;
    client
        .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234")
        .await;
    let answer = client.read_answer().await;
    assert_eq!((answer.status(), answer.text()), (403, "no"));
    drop(client);
    gateway.is_idle().await;
}

/// A connection that the upstream has closed is nobody's fault: nothing was sent on it.
#[tokio::test]
async fn connections_that_the_upstream_closes_between_requests_do_no_harm() {
    let upstream = Upstream::start(always(Reply::ok().body("ok").close_unannounced())).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    for n in 1..=20 {
        assert_eq!(get(gateway.traffic, "/").await.status(), 200, "request {n}");
        // The gateway has heard of the end when the upstream is done with it.
        upstream.open_connections(0).await;
    }
    gateway.is_idle().await;
}
