//! Events that the sink will never take.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_logingest::consumer::{Consumer, ConsumerState};
use gw_logingest::dead_letter::{DeadLetter, DeadLetters, KeepError};
use gw_logingest::sink::{Delivery, Item, Reason};
use gw_logingest::{Event, MemoryQueue, Pressure, Queue as _};
use tokio::time::{sleep, timeout};

use super::consumer_support::{
    Letters, Request, Scripted, all, batch_by, batch_of, consumer, fill, queue,
};
use super::{INSTANT, down, drain, ok, rejected};

/// Fails once, in the middle of what one client has sent.
#[derive(Clone, Default)]
struct Torn(Arc<AtomicBool>);

impl DeadLetters for Torn {
    async fn keep(&self, letters: &[DeadLetter]) -> Vec<Result<(), KeepError>> {
        if self.0.swap(true, Ordering::Relaxed) {
            return vec![Ok(()); letters.len()];
        }
        let failed = KeepError::Failed(Arc::new(io::Error::other("disk full")));
        let mut outcomes = vec![Err(KeepError::OverShare); letters.len()];
        outcomes[0] = Err(failed);
        outcomes
    }
}

/// All letters of the client went back to the queue, and delivery waited for ever for one that was to be kept.
#[tokio::test(start_paused = true)]
async fn letters_that_went_back_keep_nobody_waiting() {
    let queue = queue();
    let bad: Vec<_> = (0..2).map(|id| (id.to_string(), 10)).collect();
    queue.append(batch_by("poison", &bad)).await.unwrap();
    let (sink, _) = Scripted::new(INSTANT, |_, events| {
        let answer = |event: &Event| match event.client().as_str() {
            "poison" => rejected(),
            _ => Item::Delivered,
        };
        Delivery::Items(events.iter().map(answer).collect())
    });
    let running = Consumer::builder(queue.clone(), sink).dead_letters(Torn::default());
    let running = running.build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(10)).await;
    queue
        .append(batch_of(&[("2".to_owned(), 10)]))
        .await
        .unwrap();
    sleep(Duration::from_secs(10)).await;
    assert_eq!(handle.status().delivered, 1);
    running.abort();
}

/// The sink was down for a moment, and the only event in hand became a letter. The consumer went on to say that the sink is down;
/// reports about failed uploads are suppressed then, so that they never brought another answer.
#[tokio::test(start_paused = true)]
async fn after_the_last_letter_nothing_waits_for_the_sink() {
    let locked = Reason::new("security_exception", "no").with_status(401);
    for (first, trouble) in [
        (down(None), ConsumerState::BackingOff),
        (Delivery::Blocked(locked), ConsumerState::Blocked),
    ] {
        let (queue, letters) = (queue(), Letters::bounded(10));
        fill(&queue, 0..1, 10).await;
        let pressure = Pressure::new();
        let (sink, _) = Scripted::new(Duration::from_secs(1), move |number, _| match number {
            0 => first.clone(),
            _ => Delivery::Refused(Reason::new("parse_exception", "no").with_status(400)),
        });
        let running = consumer(queue.clone(), sink, &letters)
            .linger(Duration::ZERO)
            .pressure(pressure.clone());
        let running = running.build().unwrap();
        let handle = running.handle();
        let running = tokio::spawn(running.run(pending()));
        sleep(Duration::from_millis(1_500)).await;
        assert_eq!(handle.status().state, trouble);
        assert!(!pressure.sink_healthy());
        sleep(Duration::from_secs(120)).await;
        let status = handle.status();
        assert_eq!((status.dead, status.in_hand), (1, 0));
        assert_eq!(status.state, ConsumerState::Delivering);
        assert_eq!(status.reason, None);
        assert!(pressure.sink_healthy());
        running.abort();
    }
}

/// What the sink would not let in went back to the queue with a letter that was one too many for its client, and all was said to be
/// well while delivery rested.
#[tokio::test(start_paused = true)]
async fn a_held_client_does_not_end_the_trouble_with_the_sink() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    letters.share(0);
    let events: Vec<_> = (0..2).map(|id| (id.to_string(), 10)).collect();
    queue.append(batch_by("poison", &events)).await.unwrap();
    let pressure = Pressure::new();
    let locked = Reason::new("security_exception", "no").with_status(401);
    let (sink, _) = Scripted::new(INSTANT, move |_, _| {
        Delivery::Items(vec![rejected(), Item::Blocked(locked.clone())])
    });
    let running = consumer(queue.clone(), sink, &letters).pressure(pressure.clone());
    let running = running.build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(5)).await;
    assert_eq!(handle.status().in_hand, 0);
    assert_eq!(handle.status().state, ConsumerState::Blocked);
    assert!(!pressure.sink_healthy());
    running.abort();
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
    let of_poison = |request: &Request| request.ids[0].starts_with('p');
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
