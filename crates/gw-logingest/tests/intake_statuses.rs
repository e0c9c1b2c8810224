//! Each row of the table of statuses, with hostile input, and what a receipt says.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

mod intake_support;

use gw_core::{Body, Rejection};
use gw_logingest::event::EventLimits;
use gw_logingest::intake::OnInvalid;
use gw_logingest::queue::{AppendError, Durability, Queue as _};
use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use http::Request;
use intake_support::*;
use serde_json::json;

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

#[tokio::test(start_paused = true)]
async fn a_receipt() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    for (durability, word) in [
        (Durability::Memory, "memory"),
        (Durability::Process, "process"),
        (Durability::Host, "host"),
        (Durability::Replicated, "replicated"),
    ] {
        queue.append_by(Append::Store(durability));
        let body = format!(
            r#"{{"events":[{},{{"level":"loud"}},7]}}"#,
            event("info", "a")
        );
        let answer = send(&ingest, post(body)).await;
        let receipt = queue.batches().last().unwrap().id().to_string();
        assert_eq!(answer.status, 202);
        assert_eq!(
            answer.json,
            json!({
                "receipt": receipt,
                "accepted": 1,
                "rejected": 2,
                "suppressed": 0,
                "duplicate": false,
                "durability": word,
                "errors": [
                    {"index": 1, "code": "invalid_level", "pointer": "/level",
                     "message": "The level is not one of trace, debug, info, warn, error, fatal."},
                    {"index": 2, "code": "not_an_object", "pointer": "",
                     "message": "An event must be a JSON object."},
                ],
                "errors_truncated": false,
                "limits": [],
            })
        );
        assert_eq!(answer.header("x-gw-log-durability"), word);
        assert_eq!(answer.header("x-gw-log-limits"), "0::client");
        assert_eq!(answer.header("content-type"), "application/json");
    }
    let counts = ingest.handle().snapshot().counts;
    assert_eq!(
        (counts.received, counts.accepted, counts.rejected),
        (12, 4, 8)
    );
    assert_eq!(counts.imbalance(), 0);
}

#[tokio::test(start_paused = true)]
async fn forms_of_bodies() {
    for (request, messages) in [
        (post(event("info", "one")), vec!["one"]),
        (
            post(format!(
                "[{},{}]",
                event("info", "one"),
                event("info", "two")
            )),
            vec!["one", "two"],
        ),
        (
            post(format!(r#"{{"events":[{}]}}"#, event("info", "one"))),
            vec!["one"],
        ),
        (
            ndjson(format!(
                "{}\n\nbroken\r\n{}",
                event("info", "one"),
                event("info", "two")
            )),
            vec!["one", "two"],
        ),
        (post("[]"), vec![]),
        (ndjson(""), vec![]),
    ] {
        let queue = FakeQueue::new();
        let answer = send(&builder(&queue).build().unwrap(), request).await;
        assert_eq!(answer.status, 202);
        assert_eq!(queue.messages(), messages);
        // Nothing stored, nothing promised.
        assert_eq!(answer.json["receipt"].is_null(), messages.is_empty());
        assert_eq!(
            answer.header("x-gw-log-durability").is_empty(),
            messages.is_empty()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_32_errors_are_told() {
    let queue = FakeQueue::new();
    let lines = format!("{}\n{}", event("info", "a"), "x\n".repeat(40));
    let answer = send(&builder(&queue).build().unwrap(), ndjson(lines)).await;
    assert_eq!(answer.json["rejected"], 40);
    assert_eq!(answer.json["errors"].as_array().unwrap().len(), 32);
    assert_eq!(answer.json["errors"][31]["index"], 32);
    assert_eq!(answer.json["errors_truncated"], true);
}

#[tokio::test(start_paused = true)]
async fn text_is_wrapped_if_asked_for() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue)
        .on_invalid(OnInvalid::Wrap {
            service: "legacy".into(),
        })
        .build()
        .unwrap();
    let lines = format!("plain \"text\"\n{}\n{{\"level\":7}}", event("info", "a"));
    let answer = send(&ingest, ndjson(lines)).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &json!(3)));
    assert_eq!(queue.messages(), ["plain \"text\"", "a", "{\"level\":7}"]);
    assert_eq!(queue.events()[2].1["ingest"]["wrapped"], "wrong_type");
    assert_eq!(queue.events()[0].1["service"], "legacy");
    // A document that is broken as a whole has no events to wrap.
    assert_eq!(send(&ingest, post("[nonsense]")).await.status, 400);
}

/// Story: control characters grow threefold when they are replaced, so the size of a body does not bound the batch.
#[tokio::test(start_paused = true)]
async fn wrapping_cannot_grow_without_bound() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue)
        .max_body_bytes(100_000)
        .max_events(10)
        .on_invalid(OnInvalid::Wrap {
            service: "legacy".into(),
        })
        .build()
        .unwrap();
    let line = "\u{1}".repeat(9_000) + "\n";
    let answer = send(&ingest, ndjson(line.repeat(10))).await;
    assert_eq!((answer.status, answer.code()), (413, "BODY_TOO_LARGE"));
    assert!(queue.batches().is_empty());
}

#[tokio::test(start_paused = true)]
async fn slow_bodies_are_given_up() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue)
        .idle_timeout(seconds(3))
        .body_timeout(seconds(20))
        .build()
        .unwrap();
    let (body, handle) = ScriptedBody::script()
        .data(format!("[{},", event("info", "a")))
        .hold()
        .build();
    let answer = send(&ingest, request("application/json", body)).await;
    assert_eq!((answer.status, answer.code()), (408, "CLIENT_TIMEOUT"));
    assert_eq!(answer.detail("timeout"), &json!(3));
    assert!(handle.is_dropped());

    // A byte every other second never is idle, and must not go on for ever.
    let (drip, to_body) = tokio::sync::mpsc::channel::<()>(1);
    let start = tokio::time::Instant::now();
    let dripping = Drip {
        interval: tokio::time::interval(seconds(2)),
    };
    let answer = send(&ingest, request("application/json", dripping)).await;
    assert_eq!((answer.status, answer.detail("timeout")), (408, &json!(20)));
    assert_eq!(start.elapsed().as_secs(), 20);
    drop((drip, to_body));
    let counts = ingest.handle().snapshot().counts;
    assert_eq!(
        (counts.received, counts.refused, counts.imbalance()),
        (1, 1, 0)
    );
    assert!(queue.batches().is_empty());
}

/// A space every interval, for ever.
struct Drip {
    interval: tokio::time::Interval,
}

impl http_body::Body for Drip {
    type Data = bytes::Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<bytes::Bytes>, Self::Error>>> {
        self.interval
            .poll_tick(cx)
            .map(|_| Some(Ok(http_body::Frame::data(" ".into()))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_off_leaves_nothing() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let (body, _) = ScriptedBody::script()
        .data(format!("[{}", event("info", "a")))
        .error("reset")
        .build();
    let answer = send(&ingest, request("application/json", body)).await;
    assert_eq!(
        (answer.status, answer.detail("reason")),
        (400, &json!("incomplete_json"))
    );

    // The client hangs up: the server drops the future.
    let (body, handle) = ScriptedBody::script().data(ndjson_lines(5)).hold().build();
    let hanging = tokio::spawn({
        let ingest = ingest.clone();
        async move { send(&ingest, request("application/x-ndjson", body)).await }
    });
    handle.held().await;
    assert_eq!(ingest.handle().snapshot().counts.in_progress, 5);
    hanging.abort();
    assert!(hanging.await.unwrap_err().is_cancelled());
    let counts = ingest.handle().snapshot().counts;
    assert_eq!(
        (
            counts.received,
            counts.refused,
            counts.in_progress,
            counts.imbalance()
        ),
        (5 + 1, 6, 0, 0)
    );
    assert!(queue.batches().is_empty());
}

fn ndjson_lines(count: usize) -> String {
    (0..count)
        .map(|n| event("info", &n.to_string()) + "\n")
        .collect()
}

#[tokio::test(start_paused = true)]
async fn hanging_up_while_it_is_stored_gives_everything_back() {
    let queue = FakeQueue::new();
    let gate = Gate::new();
    queue.append_by(Append::Wait(gate.clone()));
    let ingest = builder(&queue).build().unwrap();
    let storing = tokio::spawn({
        let ingest = ingest.clone();
        async move { send(&ingest, post(array(4))).await }
    });
    gate.reached(1).await;
    let counts = ingest.handle().snapshot().counts;
    assert_eq!(
        (
            counts.received,
            counts.in_progress,
            counts.accepted,
            counts.imbalance()
        ),
        (4, 4, 0, 0)
    );
    storing.abort();
    assert!(storing.await.unwrap_err().is_cancelled());
    let counts = ingest.handle().snapshot().counts;
    assert_eq!(
        (counts.abandoned, counts.in_progress, counts.imbalance()),
        (4, 0, 0)
    );
    assert_eq!(queue.appending(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_answer_waits_for_the_store() {
    let queue = FakeQueue::new();
    let gate = Gate::new();
    queue.append_by(Append::Wait(gate.clone()));
    let ingest = builder(&queue).build().unwrap();
    let storing = tokio::spawn(async move { send(&ingest, post(array(1))).await });
    gate.reached(1).await;
    assert!(!storing.is_finished());
    gate.open();
    let answer = storing.await.unwrap();
    assert_eq!(
        (answer.status, answer.header("x-gw-log-durability")),
        (202, "process")
    );
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

/// Whatever way a body is cut into frames, the answer and what is stored are the same.
#[tokio::test(start_paused = true)]
async fn frames_do_not_matter() {
    let body = format!(
        "[{},{{\"level\":7}},{}]",
        event("info", "a"),
        event("error", "ä")
    );
    for size in [1, 2, 3, 7, 50, 1000] {
        let queue = FakeQueue::new();
        let mut script = ScriptedBody::script();
        for chunk in body.as_bytes().chunks(size) {
            script = script.data(chunk.to_vec());
        }
        let (frames, _) = script.trailers([("x-end", "1")]).build();
        let answer = send(
            &builder(&queue).build().unwrap(),
            request("application/json", frames),
        )
        .await;
        assert_eq!(
            (answer.status, queue.messages()),
            (202, vec!["a".to_owned(), "ä".to_owned()]),
            "{size}"
        );
    }
}

#[test]
fn settings_out_of_bounds_are_refused_by_name() {
    let field = |change: fn(
        gw_logingest::intake::LogIngestBuilder<FakeQueue>,
    ) -> gw_logingest::intake::LogIngestBuilder<FakeQueue>| {
        change(builder(&FakeQueue::new()))
            .build()
            .unwrap_err()
            .field()
            .to_owned()
    };
    assert_eq!(field(|b| b.max_body_bytes(0)), "max_body_bytes");
    assert_eq!(field(|b| b.max_body_bytes(u64::MAX)), "max_body_bytes");
    assert_eq!(field(|b| b.max_events(0)), "max_events");
    assert_eq!(field(|b| b.idle_timeout(seconds(0))), "idle_timeout");
    assert_eq!(field(|b| b.body_timeout(seconds(9999))), "body_timeout");
    assert_eq!(
        field(|b| b.on_invalid(OnInvalid::Wrap { service: "".into() })),
        "on_invalid.service"
    );
    assert_eq!(
        field(|b| {
            let mut marks = gw_logingest::intake::Watermarks::default();
            marks.shed_debug = 10;
            b.watermarks(marks)
        }),
        "watermarks"
    );
}
