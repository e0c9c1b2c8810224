//! The trait, with the engine in memory behind it.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::UNIX_EPOCH;

use super::*;
use crate::batch::{BatchId, Class, ClientId};

const ALL: Want = Want {
    bytes: usize::MAX,
    events: usize::MAX,
};

fn batch(id: u128, client: &str) -> Batch {
    let client = ClientId::new(client).unwrap();
    let mut builder = Batch::builder(BatchId::from_u128(id), client, UNIX_EPOCH);
    builder.push(None, Class::Normal, b"{\"message\":\"text\"}");
    builder.finish()
}

fn ids(leased: &[Leased]) -> Vec<u128> {
    let id = |leased: &Leased| leased.batch().id().as_u128();
    leased.iter().map(id).collect()
}

#[tokio::test]
async fn what_goes_in_comes_out_in_order_until_it_is_acknowledged() {
    let queue = MemoryQueue::builder().build().unwrap();
    for id in 0..4 {
        assert_eq!(queue.append(batch(id, "a")).await, Ok(Durability::Memory));
    }
    let mut leased = queue.lease(ALL).await;
    assert_eq!(ids(&leased), [0, 1, 2, 3]);
    assert_eq!((queue.status().batches, queue.status().leased), (4, 4));
    leased.remove(1).acknowledge();
    drop(leased.pop());
    drop(leased);
    assert_eq!((queue.status().batches, queue.status().leased), (3, 0));
    assert_eq!(ids(&queue.lease(ALL).await), [0, 2, 3]);
}

#[tokio::test]
async fn leases_wait_for_a_batch_and_end_with_the_last() {
    let queue = Arc::new(MemoryQueue::builder().build().unwrap());
    let mut waiting = pin!(queue.lease(ALL));
    poll_fn(|cx| {
        assert!(waiting.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    queue.append(batch(7, "a")).await.unwrap();
    let leased = waiting.await;
    assert_eq!(ids(&leased), [7]);

    queue.close();
    assert_eq!(queue.append(batch(8, "a")).await, Err(AppendError::Closed));
    assert_eq!(queue.status().state, QueueState::Closed);
    // The leased batch may still come back.
    let mut waiting = pin!(queue.lease(ALL));
    poll_fn(|cx| {
        assert!(waiting.as_mut().poll(cx).is_pending());
        Poll::Ready(())
    })
    .await;
    drop(leased);
    let leased = waiting.await;
    assert_eq!(ids(&leased), [7]);
    leased.into_iter().for_each(Leased::acknowledge);
    assert!(queue.lease(ALL).await.is_empty());
}

#[tokio::test]
async fn a_client_meets_its_share_before_the_queue_is_full() {
    let queue = MemoryQueue::builder()
        .max_bytes(64 * 1024)
        .client_floor(0)
        .build()
        .unwrap();
    let mut accepted = 0;
    while queue.append(batch(accepted, "noisy")).await.is_ok() {
        accepted += 1;
    }
    let error = queue.append(batch(0, "noisy")).await.unwrap_err();
    assert!(matches!(error, AppendError::OverShare { .. }), "{error:?}");
    let half = queue.status().bytes * 2;
    assert!((63_000..=65_536).contains(&half), "{half}");
    queue.append(batch(0, "quiet")).await.unwrap();
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let queue = MemoryQueue::builder()
        .max_bytes(4096)
        .client_share(1000.0)
        .build()
        .unwrap();
    while queue.append(batch(0, "a")).await.is_ok() {}
    let error = queue.append(batch(0, "b")).await.unwrap_err();
    assert!(matches!(error, AppendError::Full { .. }), "{error:?}");
    assert!(queue.status().bytes <= 4096);
    let mut large = Batch::builder(
        BatchId::from_u128(0),
        ClientId::new("a").unwrap(),
        UNIX_EPOCH,
    );
    large.push(None, Class::Normal, &[b' '; 4096]);
    let error = queue.append(large.finish()).await.unwrap_err();
    assert_eq!(error, AppendError::TooLarge { limit: 3840 });
}

/// Story: the client was told to come back, for ever.
#[tokio::test]
async fn a_batch_beyond_what_one_client_may_ever_hold_is_too_large() {
    let queue = MemoryQueue::builder()
        .max_bytes(65_536)
        .client_share(0.5)
        .build()
        .unwrap();
    let sized = |bytes: usize| {
        let client = ClientId::new("a").unwrap();
        let mut batch = Batch::builder(BatchId::from_u128(0), client, UNIX_EPOCH);
        batch.push(None, Class::Normal, &vec![b' '; bytes]);
        batch.finish()
    };
    let limit = 32_768 - 256;
    let overhead = sized(1000).encoded().len() - 1000;
    let error = queue.append(sized(limit - overhead + 1)).await.unwrap_err();
    assert_eq!(error, AppendError::TooLarge { limit });
    queue.append(sized(limit - overhead)).await.unwrap();
    // Now it is a matter of time.
    let error = queue.append(sized(limit - overhead)).await.unwrap_err();
    assert!(matches!(error, AppendError::OverShare { .. }), "{error:?}");
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let builder = MemoryQueue::builder;
    for (builder, message) in [
        (builder().max_bytes(0), "max_bytes: must be above zero"),
        (
            builder().client_share(f64::NAN),
            "client_share: must be a number from 0.001 to 1000000",
        ),
        (
            builder().max_clients(0),
            "max_clients: must be 1 to 1000000",
        ),
        (
            builder().max_bytes(9).client_floor(10),
            "client_floor: must be at most the room for batches",
        ),
    ] {
        assert_eq!(builder.build().unwrap_err().to_string(), message);
    }
}

#[test]
fn durabilities_are_ordered_and_named() {
    use Durability::{Host, Memory, Process, Replicated};
    let all = [Memory, Process, Host, Replicated];
    assert!(all.is_sorted_by(|a, b| a < b));
    assert_eq!(
        all.map(Durability::as_str),
        ["memory", "process", "host", "replicated"]
    );
}

static_assertions::assert_impl_all!(Leased: Send, Sync);
static_assertions::assert_impl_all!(MemoryQueue: Queue, Clone);
