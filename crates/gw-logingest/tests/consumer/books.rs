//! The ledger: nothing is lost, whatever the sink does, and the sums are right at any moment.

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use gw_logingest::consumer::ConsumerHandle;
use gw_logingest::queue::{AppendError, Durability, Leased, Outcome, Settle, Want};
use gw_logingest::sink::{Delivery, Item, Reason};
use gw_logingest::{Batch, ClientId, Event, Queue, QueueStatus};
use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use super::consumer_support::{Letters, Scripted, all, batch_of, consumer, fill, queue};
use super::{INSTANT, LONG, down, ok, rejected};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the sink answers and however often the consumer is stopped: each event ends in the sink or among the dead
    /// letters, nothing is acknowledged before, and the books balance.
    #[test]
    fn nothing_is_lost(seed: u64, events in 1..400_usize, stops in 0..4_usize) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async move {
            let (queue, letters) = (queue(), Letters::bounded(usize::MAX));
            fill(&queue, 0..events, 50).await;
            let held: Arc<Mutex<Vec<String>>> = Arc::default();
            for stop in 0..=stops {
                let sink = {
                    let held = held.clone();
                    let random = Mutex::new(fastrand::Rng::with_seed(seed ^ stop as u64));
                    Scripted::new(Duration::from_millis(20), move |_, events| {
                        wild(&mut random.lock().unwrap(), &mut held.lock().unwrap(), events)
                    }).0
                };
                let builder = consumer(queue.clone(), sink, &letters).max_events(20).max_concurrency(3);
                let running = builder.build().unwrap();
                let handle = running.handle();
                if stop == stops {
                    queue.close();
                    timeout(LONG * 24, running.run(pending())).await.unwrap();
                } else {
                    running.run(sleep(Duration::from_millis(1_500 + seed % 3_000))).await;
                }
                let status = handle.status();
                assert_eq!((status.imbalance(), status.in_hand), (0, 0));
                assert_eq!(queue.status().leased, 0);
            }
            assert_eq!(queue.status().batches, 0);
            let held = held.lock().unwrap();
            for id in 0..events {
                let id = id.to_string();
                assert!(held.contains(&id) || letters.ids().contains(&id), "{id} is lost");
            }
        });
    }
}

/// A sink that does everything it may, also lie about what it did in the ways that the contract allows.
fn wild(random: &mut fastrand::Rng, held: &mut Vec<String>, events: &[Event]) -> Delivery {
    match random.u8(..10) {
        0 => return down(None),
        1 => return down(Some(Duration::from_secs(3))),
        2 if random.bool() => return Delivery::Blocked(Reason::new("security_exception", "")),
        3 => return Delivery::TooLarge,
        4 => return Delivery::Refused(Reason::new("parse_exception", "")),
        _ => {}
    }
    let mut items = Vec::new();
    for event in events {
        let id = event.id().into_owned();
        let item = match random.u8(..12) {
            0 => Item::Retry,
            1 => rejected(),
            2 if random.u8(..8) == 0 => Item::Blocked(Reason::new("index_not_found_exception", "")),
            _ if held.contains(&id) => Item::Duplicate,
            _ => {
                held.push(id);
                Item::Delivered
            }
        };
        items.push(item);
    }
    match random.u8(..8) {
        // The answer is lost or cut although the work is done.
        0 => return down(None),
        1 => items.truncate(random.usize(..items.len())),
        _ => {}
    }
    Delivery::Items(items)
}

/// A queue of one batch; whenever a batch is settled, it looks whether the consumer's sums are right.
#[derive(Clone, Default)]
struct Auditor(Arc<Audit>);

impl Queue for Auditor {
    async fn append(&self, _: Batch) -> Result<Durability, AppendError> {
        Err(AppendError::Closed)
    }

    async fn lease(&self, _: Want) -> Vec<Leased> {
        if self.0.given.swap(true, Ordering::Relaxed) {
            return Vec::new();
        }
        let lease = |n: usize| {
            let events: Vec<_> = (0..10).map(|m| (format!("{n}-{m}"), 10)).collect();
            Leased::new(batch_of(&events), self.0.clone(), n as u64)
        };
        (0..4).map(lease).collect()
    }

    fn status(&self) -> QueueStatus {
        QueueStatus::default()
    }

    fn hold(&self, _: &ClientId) {}

    fn release(&self, _: &ClientId) {}

    fn close(&self) {}
}

#[derive(Default)]
struct Audit {
    given: AtomicBool,
    consumer: OnceLock<ConsumerHandle>,
    found: Mutex<Vec<i128>>,
}

impl Settle for Audit {
    fn settle(&self, _: u64, _: Outcome) {
        let status = self.consumer.get().unwrap().status();
        self.found.lock().unwrap().push(status.imbalance());
    }
}

#[tokio::test(start_paused = true)]
async fn the_sums_are_right_at_any_moment() {
    let queue = Auditor::default();
    let (sink, _) = Scripted::new(INSTANT, |number, events| match number % 2 {
        0 => all(rejected())(events),
        _ => ok(events),
    });
    let letters = Letters::bounded(usize::MAX);
    let consumer = consumer(queue.clone(), sink, &letters)
        .max_events(10)
        .build()
        .unwrap();
    queue.0.consumer.set(consumer.handle()).unwrap();
    timeout(LONG, consumer.run(pending())).await.unwrap();
    assert_eq!(*queue.0.found.lock().unwrap(), [0; 4]);
}
