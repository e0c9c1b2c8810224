//! What is taken, in which forms, and what a receipt says of it.

use gw_logingest::intake::OnInvalid;
use gw_logingest::queue::Durability;
use serde_json::json;

use super::intake_support::*;

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
    // The body is within its own limit.
    assert_eq!(
        (answer.detail("limit"), answer.detail("maximum")),
        (&json!("batch_bytes"), &json!(2 * 100_000 + 10 * 256))
    );
    assert!(queue.batches().is_empty());
}

/// Story: all events of an upload have one time of receipt, and nothing said in which order they came.
#[tokio::test(start_paused = true)]
async fn events_say_where_in_the_upload_they_stood() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    // Reports are stored behind the others.
    let lines = [
        event("info", "a"),
        "broken".to_owned(),
        of_kind("upload_failure", "own"),
        event("info", "b"),
        of_kind("upload_failure", "collapsed"),
    ];
    let answer = send(&ingest, ndjson(lines.join("\n"))).await;
    assert_eq!(answer.json["errors"][0]["index"], 1);
    tokio::time::advance(seconds(60)).await;
    send(&ingest, post(array(1))).await;
    let stored: Vec<(u64, String)> = queue
        .events()
        .iter()
        .map(|(_, event)| {
            let seq = event["ingest"]["seq"].as_u64().unwrap();
            (seq, event["message"].as_str().unwrap().to_owned())
        })
        .collect();
    let told = "reports of failed uploads were collapsed into this event";
    let expected = [(0, "a"), (3, "b"), (2, "own"), (0, "0"), (1, told)];
    assert_eq!(stored, expected.map(|(seq, text)| (seq, text.to_owned())));
}
