//! The consumer with a sink that does as told, on a paused clock.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a broken expectation must stop the test at once, with a message"
)]

mod books;
#[path = "../consumer_support/mod.rs"]
mod consumer_support;
mod dead_letters;
mod delivery;
mod endings;
mod outages;
mod poison;
mod refused;
mod settings;

use std::future::pending;
use std::time::Duration;

use gw_logingest::consumer::{ConsumerBuilder, ConsumerStatus};
use gw_logingest::sink::{Delivery, Fault, Item, Reason, Sink};
use gw_logingest::{Event, MemoryQueue, Queue as _};
use tokio::time::timeout;

use self::consumer_support::{Letters, all};

const INSTANT: Duration = Duration::from_millis(1);

const LONG: Duration = Duration::from_secs(3_600);

fn ok(events: &[Event]) -> Delivery {
    all(Item::Delivered)(events)
}

fn rejected() -> Item {
    Item::Rejected(Reason::new("document_parsing_exception", "no").with_status(400))
}

const fn down(after: Option<Duration>) -> Delivery {
    Delivery::Retry {
        after,
        fault: Fault::Unavailable,
    }
}

/// Runs until the queue, which is closed, is empty.
async fn drain<S: Sink>(
    queue: &MemoryQueue,
    builder: ConsumerBuilder<MemoryQueue, S, Letters>,
) -> ConsumerStatus {
    queue.close();
    let consumer = builder.build().unwrap();
    let handle = consumer.handle();
    timeout(LONG, consumer.run(pending()))
        .await
        .expect("it ends");
    let status = handle.status();
    assert_eq!(status.imbalance(), 0, "{status:?}");
    assert_eq!((status.in_hand, status.returned), (0, 0));
    assert_eq!(queue.status().batches, 0);
    status
}
