//! What a receipt promises is still there when the queue is opened again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

mod intake_support;

use gw_logingest::queue::Want;
use gw_logingest::{DiskQueue, LogIngest, Queue as _};
use gw_testkit::within;
use intake_support::{array, post, read};
use tower::ServiceExt as _;

#[tokio::test]
async fn receipts_outlive_the_queue() {
    let dir = tempfile::tempdir().unwrap();
    let queue = DiskQueue::builder(dir.path()).open().unwrap();
    let ingest = LogIngest::builder(queue.clone()).build().unwrap();
    let mut receipts = Vec::new();
    for events in 1..=5 {
        let Ok(response) = ingest.clone().oneshot(post(array(events))).await;
        let answer = read(response).await;
        assert_eq!(
            (answer.status, &answer.json["durability"]),
            (202, &"host".into())
        );
        receipts.push((answer.json["receipt"].as_str().unwrap().to_owned(), events));
    }
    drop(ingest);
    queue.shutdown().await;
    drop(queue);

    let queue = DiskQueue::builder(dir.path()).open().unwrap();
    let mut found = Vec::new();
    while found.len() < receipts.len() {
        let want = Want {
            bytes: usize::MAX,
            events: usize::MAX,
        };
        for leased in within("the batches", queue.lease(want)).await {
            found.push((leased.batch().id().to_string(), leased.batch().len()));
            leased.acknowledge();
        }
    }
    found.sort_by_key(|&(_, events)| events);
    assert_eq!(found, receipts);
    queue.shutdown().await;
}
