//! The consumer with a sink that does as told, on a paused clock.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a broken expectation must stop the test at once, with a message"
)]

mod consumer_support;

use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_logingest::consumer::{Consumer, ConsumerState};
use gw_logingest::queue::{AppendError, Durability, Leased, Outcome, Settle, Want};
use gw_logingest::sink::{Delivery, Fault, Item, Reason};
use gw_logingest::{Batch, ClientId, Event, MemoryQueue, Pressure, Queue};
use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};

use self::consumer_support::{Letters, Scripted, all, batch_by, batch_of, consumer, fill, queue};

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
async fn drain<S: gw_logingest::sink::Sink>(
    queue: &MemoryQueue,
    builder: gw_logingest::consumer::ConsumerBuilder<MemoryQueue, S, Letters>,
) -> gw_logingest::consumer::ConsumerStatus {
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

#[tokio::test(start_paused = true)]
async fn everything_arrives_once_and_in_full_requests() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..2_500, 10).await;
    let (sink, seen) = Scripted::new(INSTANT, |_, events| ok(events));
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!(
        (status.leased, status.delivered, status.retried),
        (2_500, 2_500, 0)
    );
    assert_eq!(status.state, ConsumerState::Stopped);
    let sizes: Vec<_> = seen
        .requests()
        .iter()
        .map(|request| request.ids.len())
        .collect();
    assert_eq!(sizes, [1_000, 1_000, 500]);
    assert!(seen.offers().values().all(|offers| *offers == 1));
}

#[tokio::test(start_paused = true)]
async fn a_lonely_event_waits_a_second_for_company() {
    let (queue, letters) = (queue(), Letters::default());
    let (sink, seen) = Scripted::new(INSTANT, |_, events| ok(events));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(10)).await;
    let start = Instant::now();
    fill(&queue, 0..1, 10).await;
    sleep(Duration::from_millis(700)).await;
    fill(&queue, 1..2, 10).await;
    sleep(Duration::from_secs(5)).await;
    let requests = seen.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].ids, ["0", "1"]);
    assert!(
        (Duration::from_secs(1)..Duration::from_millis(1_010)).contains(&(requests[0].at - start))
    );
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn only_what_failed_is_sent_again() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..100, 10).await;
    let (sink, seen) = Scripted::new(INSTANT, |number, events| {
        let item = |event: &Event| match event.id().parse::<usize>() {
            Ok(id) if id % 10 == 3 && number < 3 => Item::Retry,
            _ => Item::Delivered,
        };
        Delivery::Items(events.iter().map(item).collect())
    });
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!((status.delivered, status.retried), (100, 30));
    let requests = seen.requests();
    assert_eq!(requests.len(), 4);
    for again in &requests[1..] {
        assert_eq!(
            again.ids,
            ["3", "13", "23", "33", "43", "53", "63", "73", "83", "93"]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_list_means_that_the_rest_is_sent_again() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..10, 10).await;
    let (sink, seen) = Scripted::new(INSTANT, |number, events| match number {
        0 => Delivery::Items(vec![Item::Delivered; 7]),
        _ => ok(events),
    });
    drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!(seen.requests()[1].ids, ["7", "8", "9"]);
}

#[tokio::test(start_paused = true)]
async fn duplicates_count_as_delivered_and_rejected_ones_become_letters() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    fill(&queue, 0..10, 10).await;
    let (sink, _) = Scripted::new(INSTANT, |_, events| {
        let mut items = vec![Item::Delivered; events.len()];
        items[1] = Item::Duplicate;
        items[2] = rejected();
        items[3] = Item::Redirected;
        Delivery::Items(items)
    });
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!((status.delivered, status.duplicates), (7, 1));
    assert_eq!((status.redirected, status.dead), (1, 1));
    let letters = letters.all();
    let json: serde_json::Value = serde_json::from_slice(&letters[0].to_json()).unwrap();
    assert_eq!(json["reason"]["status"], 400);
    assert_eq!(json["reason"]["kind"], "document_parsing_exception");
    assert_eq!(
        (&json["_id"], &json["client"]),
        (&"2".into(), &"client".into())
    );
    assert_eq!(json["_source"]["message"], "xxxxxxxxxx");
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_is_down_is_probed_alone_and_less_and_less() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..3_000, 10).await;
    let pressure = Pressure::new();
    let up_at = Instant::now() + Duration::from_secs(600);
    let (sink, seen) = Scripted::new(INSTANT, {
        let pressure = pressure.clone();
        move |number, events| {
            if Instant::now() < up_at {
                // Known from the second probe on.
                assert!(number == 0 || !pressure.sink_healthy());
                down(None)
            } else {
                ok(events)
            }
        }
    });
    let builder = consumer(queue.clone(), sink, &letters).pressure(pressure.clone());
    let status = drain(&queue, builder).await;
    assert_eq!(status.delivered, 3_000);
    assert!(pressure.sink_healthy());
    let probes = seen
        .requests()
        .iter()
        .filter(|request| request.at < up_at)
        .count();
    // The waits are 15 s on average; a hammer would have made hundreds of thousands.
    assert!((25..90).contains(&probes), "{probes}");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_a_floor() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..10, 10).await;
    let (sink, seen) = Scripted::new(INSTANT, |number, events| match number {
        0 => down(Some(Duration::from_secs(120))),
        _ => ok(events),
    });
    drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    let requests = seen.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(120));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_configuration_pauses_and_buries_nothing() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..10, 10).await;
    let fixed = Arc::new(AtomicBool::new(false));
    let (sink, seen) = Scripted::new(INSTANT, {
        let fixed = fixed.clone();
        move |number, events| {
            let reason = Reason::new("index_not_found_exception", "no such index").with_status(404);
            match number {
                _ if fixed.load(Ordering::SeqCst) => ok(events),
                0 => Delivery::Blocked(reason),
                _ => all(Item::Blocked(reason))(events),
            }
        }
    });
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(600)).await;
    let status = handle.status();
    assert_eq!(status.state, ConsumerState::Blocked);
    assert_eq!(status.reason.unwrap().status(), Some(404));
    assert_eq!((status.in_hand, status.delivered, status.dead), (10, 0, 0));
    // Half a minute to a minute apart.
    assert!((10..=21).contains(&seen.requests().len()));
    fixed.store(true, Ordering::SeqCst);
    queue.close();
    running.await.unwrap();
    assert_eq!(handle.status().delivered, 10);
}

#[tokio::test(start_paused = true)]
async fn too_large_requests_are_halved_and_the_limit_is_remembered() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..1_000, 1_000).await;
    let (sink, seen) = Scripted::new(INSTANT, |_, events| {
        let bytes: usize = events.iter().map(|event| event.json().len()).sum();
        if bytes > 300_000 {
            Delivery::TooLarge
        } else {
            ok(events)
        }
    });
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!((status.delivered, status.dead), (1_000, 0));
    let requests = seen.requests();
    let refused = requests
        .iter()
        .filter(|request| request.bytes > 300_000)
        .count();
    assert_eq!(refused, 2, "1.1 MB, then 0.55 MB, then never again");
    assert!(status.max_bytes <= 300_000);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_too_large_alone_becomes_a_letter() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    let sizes = [10, 10, 60_000, 10];
    let events: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(id, size)| (id.to_string(), *size))
        .collect();
    queue.append(batch_of(&events)).await.unwrap();
    let (sink, _) = Scripted::new(INSTANT, |_, events| {
        let bytes: usize = events.iter().map(|event| event.json().len()).sum();
        if bytes > 50_000 {
            Delivery::TooLarge
        } else {
            ok(events)
        }
    });
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!((status.delivered, status.dead), (3, 1));
    assert_eq!(letters.ids(), ["2"]);
    assert_eq!(letters.all()[0].reason().status(), Some(413));
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_finds_everything_too_large_is_misconfigured() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..1_000, 100).await;
    let (sink, _) = Scripted::new(INSTANT, |_, _| Delivery::TooLarge);
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(300)).await;
    let status = handle.status();
    assert_eq!((status.state, status.dead), (ConsumerState::Blocked, 0));
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn full_dead_letters_stop_delivery_and_lose_nothing() {
    let (queue, letters) = (queue(), Letters::bounded(5));
    fill(&queue, 0..10, 10).await;
    let pressure = Pressure::new();
    let (sink, seen) = Scripted::new(INSTANT, |_, events| all(rejected())(events));
    let running = consumer(queue.clone(), sink, &letters).pressure(pressure.clone());
    let running = running.build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(60)).await;
    fill(&queue, 10..20, 10).await;
    sleep(Duration::from_secs(600)).await;
    assert_eq!(handle.status().state, ConsumerState::DeadLettersStuck);
    assert!(!pressure.sink_healthy());
    assert_eq!(seen.requests().len(), 1, "nothing is sent meanwhile");
    assert_eq!(queue.status().batches, 2);

    letters.bound(100);
    queue.close();
    running.await.unwrap();
    assert_eq!((handle.status().dead, letters.all().len()), (20, 20));
    assert!(pressure.sink_healthy());
}

/// Of the client `poison` the sink takes every other event, of all others all.
fn poisoned(_: usize, events: &[Event]) -> Delivery {
    let item = |event: &Event| match event.client().as_str() {
        "poison" if event.id().ends_with('x') => rejected(),
        _ => Item::Delivered,
    };
    Delivery::Items(events.iter().map(item).collect())
}

/// Batches of ten events, half of which the sink will never take.
async fn poison(queue: &MemoryQueue, batches: std::ops::Range<usize>) {
    for batch in batches {
        let name = |n: usize| format!("p{batch}-{n}{}", if n.is_multiple_of(2) { "x" } else { "" });
        let events: Vec<_> = (0..10).map(|n| (name(n), 10)).collect();
        queue.append(batch_by("poison", &events)).await.unwrap();
    }
}

/// One client's poison filled the store, and then nobody's events were delivered.
#[tokio::test(start_paused = true)]
async fn a_client_over_its_share_of_dead_letters_waits_alone() {
    let (queue, letters) = (queue(), Letters::bounded(1_000));
    letters.share(12);
    let pressure = Pressure::new();
    let (sink, seen) = Scripted::new(INSTANT, poisoned);
    let running = consumer(queue.clone(), sink, &letters)
        .max_events(50)
        .pressure(pressure.clone())
        .build()
        .unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    poison(&queue, 0..20).await;
    for n in 0..30 {
        fill(&queue, n * 10..n * 10 + 10, 10).await;
        sleep(Duration::from_secs(20)).await;
        let status = handle.status();
        assert_eq!(status.state, ConsumerState::Delivering);
        assert_eq!(status.imbalance(), 0, "{status:?}");
        assert!(pressure.sink_healthy());
    }
    // All others were delivered as they came; the rest of the poison is in the queue.
    let status = handle.status();
    assert_eq!(
        (status.dead, status.held_clients, status.in_hand),
        (12, 1, 0)
    );
    let offers = seen.offers();
    assert!((0..300).all(|id| offers[&id.to_string()] == 1));
    assert!(
        (16..=18).contains(&queue.status().batches),
        "{:?}",
        queue.status()
    );
    // It was tried again each minute for ten minutes, a few requests at a time.
    let of_poison = |request: &consumer_support::Request| request.ids[0].starts_with('p');
    let tried = seen.requests().iter().filter(|it| of_poison(it)).count();
    assert!((10..=60).contains(&tried), "{tried}");

    // Somebody has looked at the letters.
    letters.share(1_000);
    queue.close();
    running.await.unwrap();
    let status = handle.status();
    assert_eq!((status.held_clients, status.imbalance()), (0, 0));
    // The batch at the bound was kept in part, and came again whole.
    assert!((100..110).contains(&status.dead), "{status:?}");
    assert_eq!(queue.status().batches, 0);
    let ids: std::collections::HashSet<_> = letters.ids().into_iter().collect();
    assert_eq!(ids.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_ends_holds_nobody() {
    for dropped in [false, true] {
        let (queue, letters) = (queue(), Letters::bounded(1_000));
        let (sink, _) = Scripted::new(INSTANT, poisoned);
        poison(&queue, 0..3).await;
        let running = consumer(queue.clone(), sink, &letters).build().unwrap();
        let handle = running.handle();
        let stop = sleep(Duration::from_secs(if dropped { 3_600 } else { 20 }));
        let stopped = timeout(Duration::from_secs(30), running.run(stop)).await;
        assert_eq!(stopped.is_err(), dropped);
        assert_eq!(handle.status().imbalance(), 0);
        assert_eq!(queue.status().batches, 3);
        letters.share(1_000);
        let (sink, _) = Scripted::new(INSTANT, poisoned);
        let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
        assert_eq!((status.dead, status.delivered), (15, 15));
    }
}

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

#[tokio::test(start_paused = true)]
async fn a_sink_that_panics_is_like_one_that_is_down() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..10, 10).await;
    let (sink, _) = Scripted::new(INSTANT, |number, events| {
        assert!(number > 2, "the test asks for this panic");
        ok(events)
    });
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!((status.delivered, status.requests), (10, 4));
}

#[tokio::test(start_paused = true)]
async fn concurrency_grows_with_use_and_shrinks_when_items_are_refused() {
    let (queue, letters) = (queue(), Letters::default());
    let overload = Arc::new(AtomicBool::new(false));
    let (sink, _) = Scripted::new(Duration::from_millis(100), {
        let overload = overload.clone();
        move |_, events| {
            let mut items = vec![Item::Delivered; events.len()];
            if overload.swap(false, Ordering::SeqCst) {
                items[0] = Item::Retry;
            }
            Delivery::Items(items)
        }
    });
    fill(&queue, 0..20_000, 10).await;
    let builder = consumer(queue.clone(), sink, &letters)
        .max_events(10)
        .max_bytes(8 * 1024);
    let running = builder.build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    let wait_for = async |so: &dyn Fn(usize) -> bool| {
        while !so(handle.status().concurrency) {
            sleep(INSTANT).await;
        }
    };
    timeout(LONG, wait_for(&|limit| limit == 32)).await.unwrap();
    overload.store(true, Ordering::SeqCst);
    timeout(LONG, wait_for(&|limit| limit <= 23)).await.unwrap();
    queue.close();
    running.await.unwrap();
    assert_eq!(handle.status().delivered, 20_000);
}

#[tokio::test(start_paused = true)]
async fn a_hung_sink_leaves_the_backlog_in_the_queue() {
    let (queue, letters) = (queue(), Letters::default());
    fill(&queue, 0..20_000, 1_000).await;
    let (sink, seen) = Scripted::new(LONG, |_, events| ok(events));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(600)).await;
    assert_eq!(seen.requests().len(), 1);
    // Two requests and a batch: 10 MiB of events of a kilobyte, and a little.
    assert!(
        handle.status().in_hand < 11_000,
        "{}",
        handle.status().in_hand
    );
    running.abort();
}

#[test]
fn settings_are_checked() {
    let field = |set: fn(
        gw_logingest::consumer::ConsumerBuilder<MemoryQueue, gw_logingest::sink::FileSink, Letters>,
    ) -> _| {
        let builder = Consumer::builder(queue(), gw_logingest::sink::FileSink::new("unused"));
        let builder: gw_logingest::consumer::ConsumerBuilder<_, _, _> =
            set(builder.dead_letters(Letters::default()));
        let error = builder.build().err();
        error.map_or_else(String::new, |error| error.field().to_owned())
    };
    assert_eq!(field(|builder| builder), "");
    assert_eq!(field(|builder| builder.max_bytes(8_191)), "max_bytes");
    assert_eq!(field(|builder| builder.max_events(0)), "max_events");
    assert_eq!(
        field(|builder| builder.max_concurrency(0)),
        "max_concurrency"
    );
    assert_eq!(
        field(|builder| builder.backoff(Duration::ZERO, LONG)),
        "backoff"
    );
    assert_eq!(field(|builder| builder.pause(Duration::ZERO)), "pause");
}

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

#[derive(Default)]
struct Audit {
    given: AtomicBool,
    consumer: std::sync::OnceLock<gw_logingest::consumer::ConsumerHandle>,
    found: Mutex<Vec<i128>>,
}

impl Settle for Audit {
    fn settle(&self, _: u64, _: Outcome) {
        let status = self.consumer.get().unwrap().status();
        self.found.lock().unwrap().push(status.imbalance());
    }
}

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

    fn status(&self) -> gw_logingest::QueueStatus {
        gw_logingest::QueueStatus::default()
    }

    fn hold(&self, _: &ClientId) {}

    fn release(&self, _: &ClientId) {}

    fn close(&self) {}
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
