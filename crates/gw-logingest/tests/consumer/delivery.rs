//! What is delivered, in which requests, and how many of them at once.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_logingest::consumer::ConsumerState;
use gw_logingest::sink::{Delivery, Item};
use gw_logingest::{Event, Queue as _};
use tokio::time::{Instant, sleep, timeout};

use super::consumer_support::{Letters, Scripted, consumer, fill, queue};
use super::{INSTANT, LONG, drain, ok, rejected};

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

/// Story: what is in hand was bounded in encoded bytes alone. Of batches of one small event that is 47 000 for one request at a time,
/// and some 650 bytes of memory more for each than counted.
#[tokio::test(start_paused = true)]
async fn small_events_in_hand_are_those_of_the_requests_and_one_more() {
    let (queue, letters) = (queue(), Letters::default());
    for id in 0..5_000 {
        fill(&queue, id..id + 1, 10).await;
    }
    let (sink, seen) = Scripted::new(LONG, |_, events| ok(events));
    let building = consumer(queue.clone(), sink, &letters).max_events(100);
    let running = building.build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(2)).await;
    let status = handle.status();
    assert_eq!((status.in_hand, status.concurrency), (200, 1));
    assert_eq!(queue.status().leased, 200);
    assert_eq!(seen.requests()[0].ids.len(), 100);
    running.abort();
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
