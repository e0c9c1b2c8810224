//! How a consumer ends: on request, or dropped.

use std::future::pending;
use std::time::Duration;

use gw_logingest::Queue as _;
use gw_logingest::consumer::ConsumerState;
use tokio::time::{Instant, sleep, timeout};

use super::consumer_support::{Letters, Scripted, consumer, fill, queue};
use super::{LONG, ok};

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_what_runs_and_gives_the_rest_back() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..3_000, 10).await;
    let (sink, seen) = Scripted::new(Duration::from_secs(3), |_, events| ok(events));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    running.run(sleep(Duration::from_secs(1))).await;
    assert_eq!(seen.requests().len(), 1);
    let status = handle.status();
    assert_eq!((status.delivered, status.imbalance()), (1_000, 0));
    assert_eq!(status.returned, status.leased - 1_000);
    assert_eq!((queue.status().batches, queue.status().leased), (200, 0));
    assert_eq!(status.state, ConsumerState::Stopped);
}

#[tokio::test(start_paused = true)]
async fn shutdown_does_not_wait_for_ever_and_neither_loses_a_dropped_run() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..10, 10).await;
    let start = Instant::now();
    for dropped in [false, true] {
        let (sink, seen) = Scripted::new(LONG, |_, events| ok(events));
        let running = consumer(queue.clone(), sink, &letters).build().unwrap();
        let handle = running.handle();
        if dropped {
            let run = running.run(pending());
            assert!(timeout(Duration::from_secs(10), run).await.is_err());
        } else {
            running.run(sleep(Duration::from_secs(2))).await;
            assert_eq!(start.elapsed(), Duration::from_secs(7));
        }
        assert_eq!(seen.requests().len(), 1);
        assert_eq!(
            (handle.status().returned, handle.status().imbalance()),
            (10, 0)
        );
        assert_eq!((queue.status().batches, queue.status().leased), (1, 0));
    }
}
