//! Bodies that come slowly, in pieces, or not to their end, and clients that hang up.

use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use serde_json::json;

use super::intake_support::*;

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
