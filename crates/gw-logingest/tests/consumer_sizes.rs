//! How large requests are, against a sink whose limit changes.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "tests: a broken expectation must stop the test at once"
)]

mod consumer_support;

use std::time::Duration;

use gw_logingest::sink::{Delivery, Item};
use gw_logingest::{Event, Queue as _};

use self::consumer_support::{Letters, Scripted, consumer, fill, queue};

const SMALL: usize = 30_000;
const MOST: usize = 128 * 1024;

fn bytes(events: &[Event]) -> usize {
    events.iter().map(|event| event.json().len()).sum()
}

/// Delivers 40,000 events of some 1 KB to a sink that takes [`SMALL`] requests at first, and any from this one on. Returns the most
/// bytes of a request at the end, and which requests were refused.
async fn deliver(raised_at: usize) -> (usize, Vec<usize>) {
    let (queue, letters) = (queue(), Letters::default());
    let (sink, seen) = Scripted::new(Duration::from_millis(1), move |number, events| {
        match number < raised_at && bytes(events) > SMALL {
            true => Delivery::TooLarge,
            false => Delivery::Items(vec![Item::Delivered; events.len()]),
        }
    });
    fill(&queue, 0..40_000, 1_000).await;
    queue.close();
    let running = consumer(queue, sink, &letters).max_bytes(MOST);
    let running = running.build().unwrap();
    let handle = running.handle();
    running.run(std::future::pending()).await;
    let status = handle.status();
    assert_eq!((status.delivered, status.dead), (40_000, 0));
    let requests = seen.requests();
    let refused = requests.iter().enumerate();
    let refused = refused.filter(|(number, request)| *number < raised_at && request.bytes > SMALL);
    (
        status.max_bytes,
        refused.map(|(number, _)| number).collect(),
    )
}

/// Story: a sink that was given a small limit by mistake got small requests until the gateway was started anew.
#[tokio::test(start_paused = true)]
async fn a_limit_that_the_sink_raises_is_found() {
    let (most, refused) = deliver(100).await;
    // What was taken, and one event more would have been too much.
    assert!((MOST - 2_000..=MOST).contains(&most), "{most}");
    assert!(refused.len() <= 4, "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_stays_costs_few_requests() {
    let (most, refused) = deliver(usize::MAX).await;
    // Measured generously, so a little above the true limit.
    assert!((SMALL * 3 / 4..SMALL * 5 / 4).contains(&most), "{most}");
    // Three to find it, and then each after twice as many requests as the one before.
    assert!((6..=9).contains(&refused.len()), "{refused:?}");
    let gaps: Vec<_> = refused.windows(2).map(|two| two[1] - two[0]).collect();
    assert!(
        gaps[3..].windows(2).all(|two| two[1] * 2 > two[0] * 3),
        "{gaps:?}"
    );
}
