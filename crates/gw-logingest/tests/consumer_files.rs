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
use std::time::UNIX_EPOCH;

use gw_logingest::consumer::Consumer;
use gw_logingest::dead_letter::{
    DeadLetter, DeadLetterFile, DeadLetterQueue, DeadLetters, KeepError,
};
use gw_logingest::sink::{Delivery, FileSink, Item, Reason, Sink};
use gw_logingest::{Batch, BatchId, Class, ClientId, MemoryQueue, Queue, Want};
use serde_json::Value;

use self::consumer_support::{Scripted, all, batch_by, batch_of, fill, queue};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn letters(count: usize) -> Vec<DeadLetter> {
    letters_of("client", count)
}

/// Which are over their client's share.
fn over_share(kept: &[Result<(), KeepError>]) -> Vec<bool> {
    let over = |kept: &_| matches!(kept, Err(KeepError::OverShare));
    kept.iter().map(over).collect()
}

fn letters_of(client: &str, count: usize) -> Vec<DeadLetter> {
    let events: Vec<_> = (0..count).map(|id| (id.to_string(), 10)).collect();
    let reason =
        Reason::new("document_parsing_exception", "line\nbreak \"quoted\"").with_status(400);
    batch_by(client, &events)
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
    let dead = DeadLetterFile::new(dir.path().join("dead.jsonl"), 1_000_000).unwrap();
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
async fn a_file_that_cannot_be_written_says_why() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("out"), "").unwrap();
    let path = dir.path().join("out/events.jsonl");
    let sink = FileSink::new(&path);
    let events: Vec<_> = batch_of(&[("1".to_owned(), 1)]).events().collect();
    let Delivery::Blocked(reason) = sink.deliver(&events).await else {
        panic!("a directory that is a file is nothing that passes");
    };
    assert_eq!(reason.kind(), "file");
    assert!(reason.message().contains("irectory"), "{reason}");
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
    let dead = DeadLetterFile::new(&path, 1_000_000).unwrap();
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
    let size = |letters: &[DeadLetter]| -> usize {
        let size = |letter: &DeadLetter| letter.to_json().len() + 1;
        letters.iter().map(size).sum()
    };
    let (first, second, third) = (letters_of("a", 10), letters_of("b", 5), letters_of("c", 6));
    // What is free after each halves what comes next.
    let bound = (size(&first) * 2) as u64;
    for attempt in 0..3 {
        // Each in a process of its own; one client gets no more the second time.
        let file = DeadLetterFile::new(&path, bound).unwrap();
        let kept = file.keep(&first).await;
        assert_eq!(kept.iter().all(Result::is_ok), attempt == 0, "{kept:?}");
        assert!(attempt == 0 || over_share(&kept).iter().all(|over| *over));
    }
    let file = DeadLetterFile::new(&path, bound).unwrap();
    assert!(file.keep(&second).await.iter().all(Result::is_ok));
    assert_eq!(lines(&path).len(), 15);
    // Some of these fit, and are kept.
    let kept = DeadLetterFile::new(&path, bound)
        .unwrap()
        .keep(&third)
        .await;
    let kept = kept.iter().take_while(|kept| kept.is_ok()).count();
    assert!((1..6).contains(&kept), "{kept}");
    assert_eq!(lines(&path).len(), 15 + kept);
    assert_eq!(
        lines(&path)[0]["reason"]["message"],
        "line\nbreak \"quoted\""
    );
}

/// One letter that was too large for the file kept all others out, and so stopped delivery.
#[tokio::test]
async fn one_letter_that_does_not_fit_keeps_no_other_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead.jsonl");
    let mut letters = letters_of("a", 3);
    let mut huge = Batch::builder(
        BatchId::from_u128(9),
        ClientId::new("b").unwrap(),
        UNIX_EPOCH,
    );
    huge.push(
        None,
        Class::Normal,
        format!("\"{}\"", "x".repeat(20_000)).as_bytes(),
    );
    let huge = huge.finish().events().next().unwrap();
    letters.insert(1, DeadLetter::new(huge, Reason::new("k", "m")));
    let file = DeadLetterFile::new(&path, 10_000).unwrap();
    let kept = file.keep(&letters).await;
    assert_eq!(over_share(&kept), [false, true, false, false]);
    assert_eq!(lines(&path).len(), 3);
}

#[tokio::test]
async fn a_file_that_cannot_be_written_keeps_nothing_and_later_all() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("out"), "").unwrap();
    let file = DeadLetterFile::new(dir.path().join("out/dead.jsonl"), 10_000).unwrap();
    let kept = file.keep(&letters(2)).await;
    assert!(
        matches!(
            &kept[..],
            [Err(KeepError::Failed(_)), Err(KeepError::Failed(_))]
        ),
        "{kept:?}"
    );
    fs::remove_file(dir.path().join("out")).unwrap();
    assert!(file.keep(&letters(2)).await.iter().all(Result::is_ok));
}

/// The file holds what clients sent, and was made with whatever the umask left.
#[cfg(unix)]
#[tokio::test]
async fn dead_letters_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dead/letters.jsonl");
    let kept = DeadLetterFile::new(&path, 10_000)
        .unwrap()
        .keep(&letters(1))
        .await;
    assert!(kept.iter().all(Result::is_ok));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    // What others are to read is not.
    let (out, beside) = (dir.path().join("out/events"), dir.path().join("beside"));
    let events: Vec<_> = batch_of(&[("1".to_owned(), 1)]).events().collect();
    FileSink::new(&out).deliver(&events).await;
    fs::write(&beside, "").unwrap();
    assert_eq!(mode(&out), mode(&beside));
}

#[tokio::test]
async fn a_queue_keeps_letters_as_events() {
    let queue = Arc::new(queue());
    let store = DeadLetterQueue::new(queue.clone());
    assert!(store.keep(&letters(3)).await.iter().all(Result::is_ok));
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
    let mut outcome = Vec::new();
    for _ in 0..20 {
        outcome = store.keep(&letters(1)).await;
    }
    assert!(
        matches!(&outcome[..], [Err(KeepError::Full)]),
        "{outcome:?}"
    );
}

/// One client's letters were taken for a store that is full for all.
#[tokio::test]
async fn a_queue_keeps_the_letters_of_others() {
    let small = MemoryQueue::builder().max_bytes(8_192).client_floor(0);
    let store = DeadLetterQueue::new(small.build().unwrap());
    let noisy = letters_of("noisy", 1);
    while store.keep(&noisy).await.iter().all(Result::is_ok) {}
    let mixed = [letters_of("a", 1), noisy.clone(), letters_of("b", 1), noisy].concat();
    let kept = store.keep(&mixed).await;
    assert_eq!(over_share(&kept), [false, true, false, true], "{kept:?}");
    assert!(kept[0].is_ok() && kept[2].is_ok());
    // One that no queue of this size takes is split off from those that it came with.
    let small = MemoryQueue::builder()
        .max_bytes(2_048)
        .client_share(1_000.0);
    let store = DeadLetterQueue::new(small.build().unwrap());
    let mut letters = letters_of("a", 2);
    let mut huge = Batch::builder(
        BatchId::from_u128(9),
        ClientId::new("a").unwrap(),
        UNIX_EPOCH,
    );
    huge.push(
        None,
        Class::Normal,
        format!("\"{}\"", "x".repeat(4_000)).as_bytes(),
    );
    let huge = huge.finish().events().next().unwrap();
    letters.insert(1, DeadLetter::new(huge, Reason::new("k", "m")));
    let kept = store.keep(&letters).await;
    assert_eq!(over_share(&kept), [false, true, false], "{kept:?}");
}
