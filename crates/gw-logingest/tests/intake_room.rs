//! Bodies for which there is no room: refused before they are read to their end, unless they need none.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod intake_support;

use gw_logingest::queue::{AppendError, Queue};
use gw_logingest::{Body, LogIngest, MemoryQueue, Mode};
use gw_testkit::body::{BodyHandle, ScriptedBody};
use http::Request;
use intake_support::*;
use serde_json::json;

const OWN: &str = "upload_failure";

/// A body of which only the beginning arrives.
fn begun(beginning: String) -> (Request<ScriptedBody>, BodyHandle) {
    let (body, handle) = ScriptedBody::script().data(beginning).hold().build();
    (request("application/json", body), handle)
}

fn full() -> Append {
    let retry_after = seconds(10);
    Append::Refuse(AppendError::Full { retry_after })
}

/// Story: a body was read, split and validated to its end before the queue was asked, so that with a sink away each refusal of a large
/// batch cost what taking it would have, and its client tried again.
#[tokio::test(start_paused = true)]
async fn what_has_no_room_is_refused_before_the_body_has_ended() {
    let retry_after = seconds(10);
    for (error, percent, status, reason) in [
        (None, 95, 503, json!("audit_only")),
        (
            Some(AppendError::Full { retry_after }),
            0,
            503,
            json!("queue_full"),
        ),
        (
            Some(AppendError::Failing { retry_after }),
            0,
            503,
            json!("storage"),
        ),
        (
            Some(AppendError::OverShare { retry_after }),
            0,
            429,
            json!(null),
        ),
    ] {
        let queue = FakeQueue::new();
        queue.fill(percent);
        if let Some(error) = error {
            queue.append_by(Append::Refuse(error));
        }
        let ingest = builder(&queue).build().unwrap();
        let (request, body) = begun(format!("[{},", event("info", "first")));
        let answer = send(&ingest, request).await;
        assert_eq!(
            (answer.status, answer.detail("reason")),
            (status, &reason),
            "{error:?}"
        );
        assert!(!answer.header("retry-after").is_empty(), "{error:?}");
        let limits = answer.header("x-gw-log-limits");
        assert!(limits.contains(answer.header("retry-after")), "{limits}");
        assert!(body.is_dropped() && queue.batches().is_empty());
        let counts = ingest.handle().snapshot().counts;
        assert_eq!(
            (counts.received, counts.refused, counts.imbalance()),
            (1, 1, 0),
            "{error:?}"
        );
    }
}

/// An error would breed the next report.
#[tokio::test(start_paused = true)]
async fn what_is_held_back_needs_no_room() {
    let queue = FakeQueue::new();
    queue.fill(100);
    queue.append_by(full());
    let ingest = builder(&queue).build().unwrap();
    let (body, _) = ScriptedBody::script()
        .data(format!("[{},", of_kind(OWN, "own")))
        .data(format!("{},", event("debug", "debug")))
        .data(format!("{}]", of_kind(OWN, "own")))
        .build();
    let answer = send(&ingest, request("application/json", body)).await;
    assert_eq!(
        (answer.status, &answer.json["suppressed"]),
        (202, &json!(3))
    );
    assert!(queue.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn audit_records_in_pieces_use_what_is_kept_for_them() {
    let queue = FakeQueue::new();
    queue.fill(97);
    let ingest = builder(&queue).build().unwrap();
    let (body, _) = ScriptedBody::script()
        .data(format!("[{},", of_kind("audit", "a")))
        .data(format!("{}]", of_kind("audit", "b")))
        .build();
    let answer = send(&ingest, request("application/json", body)).await;
    assert_eq!((answer.status, &answer.json["accepted"]), (202, &json!(2)));
}

/// The bounds of the queue hold in each mode, the marks in one.
#[tokio::test(start_paused = true)]
async fn without_the_marks_only_the_queue_refuses() {
    for mode in [Mode::Shadow, Mode::Off] {
        let queue = FakeQueue::new();
        queue.fill(97);
        let ingest = builder(&queue).mode(mode).build().unwrap();
        let pieces = || {
            let (body, _) = ScriptedBody::script()
                .data(format!("[{},", event("info", "a")))
                .data(format!("{}]", event("info", "b")))
                .build();
            request("application/json", body)
        };
        assert_eq!(send(&ingest, pieces()).await.status, 202, "{mode:?}");
        queue.append_by(full());
        let (request, _) = begun(format!("[{},", event("info", "first")));
        let answer = send(&ingest, request).await;
        assert_eq!(answer.detail("reason"), &json!("queue_full"), "{mode:?}");
    }
}

/// How long to wait goes by what was announced, or a client would be told to come back for its first event.
#[tokio::test(start_paused = true)]
async fn the_wait_is_that_for_the_whole_body() {
    let queue = FakeQueue::new();
    queue.append_by(full());
    let ingest = builder(&queue).build().unwrap();
    let (mut request, _) = begun(format!("[{},", event("info", "first")));
    let headers = request.headers_mut();
    headers.insert("content-length", "100000".parse().unwrap());
    assert_eq!(send(&ingest, request).await.status, 503);
    let asked = queue.asked();
    assert_eq!(asked.len(), 2);
    assert!((100..1_000).contains(&asked[0]), "{asked:?}");
    assert_eq!(asked[1], 100_000);
}

#[tokio::test(start_paused = true)]
async fn a_body_in_small_pieces_asks_seldom() {
    let queue = FakeQueue::new();
    let ingest = builder(&queue).build().unwrap();
    let mut script = ScriptedBody::script();
    for piece in array(100).as_bytes().chunks(5) {
        script = script.data(piece.to_vec());
    }
    let (body, _) = script.build();
    let answer = send(&ingest, request("application/json", body)).await;
    assert_eq!(
        (answer.status, &answer.json["accepted"]),
        (202, &json!(100))
    );
    let asked = queue.asked();
    assert!((6..=8).contains(&asked.len()), "{asked:?}");
    assert!(asked.windows(2).all(|pair| pair[1] >= 2 * pair[0]));
}

/// A client that fills its share is refused by its first event, and others are not.
#[tokio::test(start_paused = true)]
async fn who_is_over_its_share_is_refused_by_the_first_event() {
    let queue = MemoryQueue::builder().max_bytes(100_000).build().unwrap();
    let ingest = LogIngest::builder(queue.clone()).build().unwrap();
    let of = |length: usize| event("info", &"x".repeat(length));
    while send(&ingest, post(of(2_000))).await.status == 202 {}
    let filled = queue.status().bytes;
    let (request, _) = begun(format!("[{},", of(2_000)));
    let answer = send(&ingest, request).await;
    assert_eq!((answer.status, answer.code()), (429, "RATE_LIMIT_EXCEEDED"));
    assert_eq!(queue.status().bytes, filled);
    let mut other: Request<Body> = post(of(2_000));
    let peer = std::net::SocketAddr::from(([192, 0, 2, 2], 1));
    let peer = gw_core::context::PeerAddr(peer);
    other.extensions_mut().insert(peer);
    assert_eq!(send(&ingest, other).await.status, 202);
}

/// What the queue says to the question is what it says to the batch.
#[tokio::test(start_paused = true)]
async fn the_question_and_the_batch_get_one_answer() {
    let queue = MemoryQueue::builder().max_bytes(100_000).build().unwrap();
    let client = gw_logingest::ClientId::new("c").unwrap();
    let batch = |bytes: usize| {
        let now = std::time::SystemTime::now();
        let id = gw_logingest::BatchId::new(now);
        let mut builder = gw_logingest::Batch::builder(id, client.clone(), now);
        builder.push(None, gw_logingest::Class::Normal, &vec![b'x'; bytes]);
        builder.finish()
    };
    let mut answers = Vec::new();
    for bytes in [20_000, 40_000, 20_000, 70_000, 100_000] {
        let batch = batch(bytes);
        let asked = queue.has_room(&client, batch.encoded().len());
        let appended = queue.append(batch).await.map(drop);
        assert_eq!(asked, appended, "{bytes}");
        answers.extend(appended.err());
    }
    assert!(matches!(
        answers[..],
        [
            AppendError::OverShare { .. },
            AppendError::Full { .. },
            AppendError::TooLarge { .. }
        ]
    ));
    queue.close();
    assert_eq!(queue.has_room(&client, 1), Err(AppendError::Closed));
}
