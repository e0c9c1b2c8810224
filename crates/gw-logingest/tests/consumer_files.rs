//! Sink and dead letters in files, and dead letters in a queue.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a broken expectation must stop the test at once, with a message"
)]

mod consumer_support;

use std::fs;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;

use gw_logingest::consumer::Consumer;
use gw_logingest::dead_letter::{
    DeadLetter, DeadLetterFile, DeadLetterQueue, DeadLetters, KeepError,
};
use gw_logingest::sink::{Delivery, Fault, FileSink, Item, Reason, Sink};
use gw_logingest::{MemoryQueue, Queue, Want};
use serde_json::Value;

use self::consumer_support::{Scripted, all, batch_of, fill, queue};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn letters(count: usize) -> Vec<DeadLetter> {
    let events: Vec<_> = (0..count).map(|id| (id.to_string(), 10)).collect();
    let reason =
        Reason::new("document_parsing_exception", "line\nbreak \"quoted\"").with_status(400);
    batch_of(&events)
        .events()
        .map(|event| DeadLetter::new(event, reason.clone()))
        .collect()
}

#[tokio::test]
async fn a_file_takes_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out/events.jsonl");
    let queue = queue();
    fill(&queue, 0..250, 10).await;
    queue.close();
    let dead = DeadLetterFile::new(dir.path().join("dead.jsonl"), 1_000_000);
    let consumer = Consumer::builder(queue, FileSink::new(&path)).dead_letters(dead);
    consumer
        .max_concurrency(1)
        .build()
        .unwrap()
        .run(pending())
        .await;
    let lines = lines(&path);
    assert_eq!(lines.len(), 250);
    for (id, line) in lines.iter().enumerate() {
        assert_eq!(line["_id"], id.to_string());
        assert_eq!(line["_source"]["message"], "xxxxxxxxxx");
    }
    assert!(!dir.path().join("dead.jsonl").exists());
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_a_sink_that_is_down() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("out"), "").unwrap();
    let path = dir.path().join("out/events.jsonl");
    let sink = FileSink::new(&path);
    let events: Vec<_> = batch_of(&[("1".to_owned(), 1)]).events().collect();
    let unavailable = Delivery::Retry {
        after: None,
        fault: Fault::Unavailable,
    };
    assert_eq!(sink.deliver(&events).await, unavailable);
    fs::remove_file(dir.path().join("out")).unwrap();
    assert_eq!(
        sink.deliver(&events).await,
        Delivery::Items(vec![Item::Delivered])
    );
    assert_eq!(lines(&path).len(), 1);
}

#[tokio::test]
async fn rejected_events_end_in_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    let queue = queue();
    fill(&queue, 0..20, 10).await;
    queue.close();
    let reason = Reason::new("document_parsing_exception", "no").with_status(400);
    let (sink, _) = Scripted::new(std::time::Duration::ZERO, move |_, events| {
        all(Item::Rejected(reason.clone()))(events)
    });
    let dead = DeadLetterFile::new(&path, 1_000_000);
    let consumer = Consumer::builder(queue.clone(), sink).dead_letters(dead);
    let consumer = consumer.linger(std::time::Duration::ZERO).build().unwrap();
    consumer.run(pending()).await;
    assert_eq!(queue.status().batches, 0);
    let lines = lines(&path);
    assert_eq!(lines.len(), 20);
    assert_eq!(
        (&lines[3]["_id"], &lines[3]["reason"]["status"]),
        (&"3".into(), &400.into())
    );
}

#[tokio::test]
async fn the_file_has_a_bound_that_outlives_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    let letters = letters(10);
    let size: usize = letters
        .iter()
        .map(|letter| letter.to_json().len() + 1)
        .sum();
    for _ in 0..2 {
        let file = DeadLetterFile::new(&path, size as u64 * 2 - 1);
        let _kept_the_first_time = file.keep(&letters).await;
    }
    let file = DeadLetterFile::new(&path, size as u64 * 2 - 1);
    assert!(matches!(file.keep(&letters).await, Err(KeepError::Full)));
    assert_eq!(lines(&path).len(), 10);
    assert!(file.keep(&letters[..9]).await.is_ok());
    assert_eq!(lines(&path).len(), 19);
    assert_eq!(
        lines(&path)[0]["reason"]["message"],
        "line\nbreak \"quoted\""
    );
}

#[tokio::test]
async fn a_queue_keeps_letters_as_events() {
    let queue = Arc::new(queue());
    let store = DeadLetterQueue::new(queue.clone());
    store.keep(&letters(3)).await.unwrap();
    let leased = queue
        .lease(Want {
            bytes: usize::MAX,
            events: usize::MAX,
        })
        .await;
    let events: Vec<_> = leased[0].batch().events().collect();
    assert_eq!(
        (events.len(), &*events[1].id(), events[1].client().as_str()),
        (3, "1", "client")
    );
    let json: Value = serde_json::from_slice(events[1].json()).unwrap();
    assert_eq!(json["reason"]["status"], 400);
}

#[tokio::test]
async fn a_full_queue_is_a_full_store() {
    let small = MemoryQueue::builder()
        .max_bytes(4_096)
        .client_share(1_000.0);
    let store = DeadLetterQueue::new(small.build().unwrap());
    let mut outcome = Ok(());
    for _ in 0..20 {
        outcome = store.keep(&letters(1)).await;
    }
    assert!(matches!(outcome, Err(KeepError::Full)), "{outcome:?}");
}
