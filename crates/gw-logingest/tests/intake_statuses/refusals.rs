//! What is refused, with which status, and what is told to those who are to come again.

use gw_logingest::event::EventLimits;
use gw_logingest::queue::{AppendError, Queue as _};
use gw_logingest::{Body, Rejection};
use gw_testkit::body::ScriptedBody;
use http::Request;
use serde_json::json;

use super::intake_support::*;

/// A request that is refused, and how.
struct Refused {
    what: &'static str,
    request: Request<Body>,
    status: u16,
    code: &'static str,
    details: serde_json::Value,
}

fn row(
    what: &'static str,
    request: Request<Body>,
    status: u16,
    code: &'static str,
    details: serde_json::Value,
) -> Refused {
    Refused {
        what,
        request,
        status,
        code,
        details,
    }
}

fn with(mut request: Request<Body>, name: &'static str, value: &'static str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

#[tokio::test(start_paused = true)]
async fn refusals() {
    let valid = || array(1);
    let ok = || post(valid());
    let mut put = ok();
    *put.method_mut() = http::Method::PUT;
    let mut get = ok();
    *get.method_mut() = http::Method::GET;
    let mut untyped = ok();
    untyped.headers_mut().remove("content-type");
    let mut odd = ok();
    *odd.uri_mut() = "/api/logs?atomic=yes".parse().unwrap();
    let mut atomic = post(format!("[{},{{}}]", event("info", "a")));
    *atomic.uri_mut() = "/api/logs?atomic=true".parse().unwrap();
    let malformed = "MALFORMED_REQUEST";
    let media = "UNSUPPORTED_MEDIA_TYPE";
    let large = "BODY_TOO_LARGE";
    let invalid = "VALIDATION_FAILED";
    let rows = [
        row("GET", get, 405, "METHOD_NOT_ALLOWED", json!({})),
        row("PUT", put, 405, "METHOD_NOT_ALLOWED", json!({})),
        row(
            "no type",
            untyped,
            415,
            media,
            json!({"field": "content-type"}),
        ),
        row(
            "form",
            with(ok(), "content-type", "application/x-www-form-urlencoded"),
            415,
            media,
            json!({"field": "content-type"}),
        ),
        row(
            "charset",
            with(ok(), "content-type", "application/json; charset=utf-16"),
            415,
            media,
            json!({"field": "content-type"}),
        ),
        row(
            "gzip",
            with(ok(), "content-encoding", "gzip"),
            415,
            media,
            json!({"field": "content-encoding"}),
        ),
        row(
            "zstd",
            with(ok(), "content-encoding", "identity, zstd"),
            415,
            media,
            json!({"field": "content-encoding"}),
        ),
        row(
            "atomic=yes",
            odd,
            400,
            malformed,
            json!({"reason": "atomic"}),
        ),
        row(
            "empty",
            post(""),
            400,
            malformed,
            json!({"reason": "incomplete_json"}),
        ),
        row(
            "cut",
            post("[{\"a\":"),
            400,
            malformed,
            json!({"reason": "incomplete_json"}),
        ),
        row(
            "garbage",
            post("<log/>"),
            400,
            malformed,
            json!({"reason": "invalid_json"}),
        ),
        row(
            "trailing comma",
            post(format!("[{},]", event("info", "a"))),
            400,
            malformed,
            json!({"reason": "invalid_json"}),
        ),
        row(
            "broken event",
            post(format!("[{},{{\"a\"}}]", event("info", "a"))),
            400,
            malformed,
            json!({"reason": "invalid_json"}),
        ),
        row(
            "broken behind a fault",
            post(r#"[{"level":7,nonsense}]"#),
            400,
            malformed,
            json!({"reason": "invalid_json"}),
        ),
        row(
            "not UTF-8",
            request(
                "application/json",
                Body::from(b"[{\"a\":\"\xff\"}]".to_vec()),
            ),
            400,
            malformed,
            json!({"reason": "invalid_json"}),
        ),
        row(
            "deep",
            post("[".repeat(100_000)),
            400,
            malformed,
            json!({"reason": "too_deep"}),
        ),
        row(
            "two readers",
            post(format!(r#"{{"events":[{}],"more":1}}"#, event("info", "a"))),
            400,
            malformed,
            json!({"reason": "unknown_member"}),
        ),
        row(
            "announced",
            with(ok(), "content-length", "100001"),
            413,
            large,
            json!({"limit": "body_bytes", "maximum": 100_000}),
        ),
        row(
            "streamed",
            with(post(" ".repeat(100_001)), "content-length", "5"),
            413,
            large,
            json!({"limit": "body_bytes", "maximum": 100_000}),
        ),
        row(
            "many",
            post(array(51)),
            413,
            large,
            json!({"limit": "events", "maximum": 50}),
        ),
        row(
            "all invalid",
            post(r#"[{"level":"loud"},7]"#),
            422,
            invalid,
            json!({"events": 2, "rejected": 2, "index": 0, "reason": "invalid_level", "pointer": "/level"}),
        ),
        row(
            "one event too large",
            post(format!("{{\"a\":\"{}\"}}", "x".repeat(5000))),
            422,
            invalid,
            json!({"events": 1, "rejected": 1, "index": 0, "reason": "event_too_large", "pointer": ""}),
        ),
        row(
            "all lines invalid",
            ndjson("nonsense\n[\n"),
            422,
            invalid,
            json!({"events": 2, "rejected": 2, "index": 0, "reason": "invalid_json", "pointer": ""}),
        ),
        row(
            "atomic",
            atomic,
            422,
            invalid,
            json!({"events": 2, "rejected": 1, "index": 1, "reason": "missing_field", "pointer": "/trace_id"}),
        ),
    ];
    for Refused {
        what,
        request,
        status,
        code,
        details,
    } in rows
    {
        let queue = FakeQueue::new();
        let ingest = builder(&queue)
            .max_body_bytes(100_000)
            .max_events(50)
            .event_limits({
                let mut limits = EventLimits::default();
                limits.bytes = 4096;
                limits
            })
            .build()
            .unwrap();
        let answer = send(&ingest, request).await;
        assert_eq!(
            (answer.status, answer.code()),
            (status, code),
            "{what}: {answer:?}"
        );
        assert_eq!(answer.json["error"]["details"], details, "{what}");
        assert_eq!(answer.header("x-gw-log-limits"), "0::client", "{what}");
        assert_eq!(answer.header("cache-control"), "no-store", "{what}");
        assert_eq!(answer.header("retry-after"), "", "{what}");
        assert!(
            answer.response.extensions().get::<Rejection>().is_some(),
            "{what}"
        );
        assert!(queue.batches().is_empty(), "{what}: nothing is stored");
        let counts = ingest.handle().snapshot().counts;
        assert_eq!(counts.received, counts.refused, "{what}");
        assert_eq!(counts.imbalance(), 0, "{what}");
        match status {
            405 => assert_eq!(answer.header("allow"), "POST", "{what}"),
            415 if details["field"] == "content-encoding" => {
                assert_eq!(answer.header("accept-encoding"), "identity", "{what}");
            }
            415 => assert_eq!(
                answer.header("accept"),
                "application/json, application/x-ndjson",
                "{what}"
            ),
            _ => {}
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refusals_of_the_queue() {
    let after = seconds(10);
    for (error, status, code, reason, limits) in [
        (
            AppendError::Full { retry_after: after },
            503,
            "OVERLOADED",
            json!("queue_full"),
            "::all",
        ),
        (
            AppendError::Failing { retry_after: after },
            503,
            "OVERLOADED",
            json!("storage"),
            "::all",
        ),
        (
            AppendError::OverShare { retry_after: after },
            429,
            "RATE_LIMIT_EXCEEDED",
            json!(null),
            "::client",
        ),
        (
            AppendError::Closed,
            503,
            "SHUTTING_DOWN",
            json!(null),
            "::all",
        ),
        (
            AppendError::TooLarge { limit: 99 },
            413,
            "BODY_TOO_LARGE",
            json!(null),
            "0::client",
        ),
    ] {
        let queue = FakeQueue::new();
        queue.append_by(Append::Refuse(error));
        let ingest = builder(&queue).build().unwrap();
        let answer = send(&ingest, post(array(3))).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{error}");
        assert_eq!(answer.detail("reason"), &reason, "{error}");
        let wait = answer.header("retry-after");
        let expected = match status {
            413 => "0::client".to_owned(),
            _ => format!("{wait}{limits}"),
        };
        assert_eq!(answer.header("x-gw-log-limits"), expected, "{error}");
        match error {
            AppendError::TooLarge { .. } => {
                assert_eq!(wait, "");
                assert_eq!(
                    (answer.detail("limit"), answer.detail("maximum")),
                    (&json!("batch_bytes"), &json!(99))
                );
            }
            AppendError::Closed => {
                assert!((5..=7).contains(&wait.parse::<u32>().unwrap()), "{wait}")
            }
            _ => assert!((10..=13).contains(&wait.parse::<u32>().unwrap()), "{wait}"),
        }
        let counts = ingest.handle().snapshot().counts;
        assert_eq!(
            (counts.received, counts.refused, counts.imbalance()),
            (3, 3, 0),
            "{error}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_jittered() {
    let queue = FakeQueue::new();
    queue.append_by(Append::Refuse(AppendError::Full {
        retry_after: seconds(100),
    }));
    let ingest = builder(&queue).build().unwrap();
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..50 {
        waits.insert(
            send(&ingest, post(array(1)))
                .await
                .header("retry-after")
                .to_owned(),
        );
    }
    assert!(waits.len() > 3, "{waits:?}");
}

/// Story: five minutes were the most, and the jitter came on top.
#[tokio::test(start_paused = true)]
async fn retry_after_is_five_minutes_at_most_and_still_jittered() {
    let queue = FakeQueue::new();
    queue.append_by(Append::Refuse(AppendError::Full {
        retry_after: seconds(300),
    }));
    let ingest = builder(&queue).build().unwrap();
    let mut waits = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let answer = send(&ingest, post(array(1))).await;
        waits.insert(answer.header("retry-after").parse::<u32>().unwrap());
    }
    let longest = *waits.last().unwrap();
    assert!(waits.len() > 10 && longest <= 300, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_closed_queue_is_refused_before_the_body_is_read() {
    let queue = FakeQueue::new();
    queue.close();
    let (body, handle) = ScriptedBody::script().hold().build();
    let answer = send(
        &builder(&queue).build().unwrap(),
        request("application/json", body),
    )
    .await;
    assert_eq!((answer.status, answer.code()), (503, "SHUTTING_DOWN"));
    assert_eq!(handle.polls(), 0);
}

#[tokio::test(start_paused = true)]
async fn early_refusals_read_nothing() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).max_body_bytes(100).build().unwrap();
    for (name, value) in [
        ("content-length", "101"),
        ("content-encoding", "gzip"),
        ("content-type", "text/plain"),
        ("x-gw-log-hops", "3"),
    ] {
        let (body, handle) = ScriptedBody::script().hold().build();
        let mut request = request("application/json", body);
        request.headers_mut().insert(name, value.parse().unwrap());
        send(&ingest, request).await;
        assert_eq!(handle.polls(), 0, "{name}");
    }
}
