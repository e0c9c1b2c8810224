//! Events that the sink refuses for now, one by one and each time.

use std::future::pending;
use std::time::Duration;

use gw_logingest::sink::{Delivery, Item};
use gw_logingest::{Event, Queue as _};
use tokio::time::{Instant, sleep};

use super::INSTANT;
use super::consumer_support::{Letters, Scripted, batch_by, consumer, queue};

/// A request is answered event by event: not now, to those that this names.
fn unless(refused: impl Fn(&Event) -> bool) -> impl Fn(usize, &[Event]) -> Delivery {
    move |_, events| {
        let item = |event| match refused(event) {
            true => Item::Retry,
            false => Item::Delivered,
        };
        Delivery::Items(events.iter().map(item).collect())
    }
}

/// A batch of six events of a megabyte, of which the first has this id.
async fn append_large(queue: &impl gw_logingest::Queue, client: &str, first: &str) {
    let rest = (1..6).map(|n| format!("{first}-{n}"));
    let ids = std::iter::once(first.to_owned()).chain(rest);
    let events: Vec<_> = ids.map(|id| (id, 1_000_000)).collect();
    queue.append(batch_by(client, &events)).await.unwrap();
}

/// Story: two events that an ingest pipeline failed for kept their batches in hand, whose bytes were all that the consumer may have
/// in hand. Nobody else was delivered to the sink any more, until the queue was full.
#[tokio::test(start_paused = true)]
async fn two_events_do_not_keep_the_others() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    let heals = Instant::now() + Duration::from_secs(600);
    let answer =
        unless(move |event| matches!(&*event.id(), "bad" | "worse") && Instant::now() < heals);
    let (sink, seen) = Scripted::new(INSTANT, answer);
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    append_large(&queue, "noisy", "bad").await;
    append_large(&queue, "noisy", "worse").await;
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(30)).await;
    for id in 0..1_000 {
        let batch = batch_by("quiet", &[(id.to_string(), 10)]);
        queue.append(batch).await.unwrap();
    }
    sleep(Duration::from_secs(60)).await;
    let quiet = |seen: &super::consumer_support::Seen| {
        let offers = seen.offers();
        (0..1_000)
            .filter(|id| offers.contains_key(&id.to_string()))
            .count()
    };
    assert_eq!(quiet(&seen), 1_000, "{:?}", handle.status());
    let status = handle.status();
    assert_eq!((status.dead, status.held_clients), (0, 1), "{status:?}");
    // Each minute they are tried again, a few times.
    let offers = |id| seen.offers()[id];
    let before = offers("bad");
    sleep(Duration::from_secs(300)).await;
    assert!(
        (10..30).contains(&(offers("bad") - before)),
        "{before} {}",
        offers("bad")
    );
    sleep(Duration::from_secs(300)).await;
    let status = handle.status();
    assert_eq!(
        (queue.status().batches, status.held_clients),
        (0, 0),
        "{status:?}"
    );
    assert_eq!(status.imbalance(), 0);
    running.abort();
}

/// Story: an outage that was told event by event passed for the doing of those whose events waited. The one client there was
/// was held, with all that it had, so for a minute nobody asked whether the sink was back.
#[tokio::test(start_paused = true)]
async fn nobody_is_held_while_the_sink_has_too_much_to_do() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    let heals = Instant::now() + Duration::from_secs(600);
    let (sink, _) = Scripted::new(INSTANT, unless(move |_| Instant::now() < heals));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    for id in 0..5 {
        append_large(&queue, "client", &id.to_string()).await;
    }
    let running = tokio::spawn(running.run(pending()));
    while queue.status().batches > 0 {
        sleep(Duration::from_millis(10)).await;
        let status = handle.status();
        assert_eq!((status.held_clients, status.returned), (0, 0), "{status:?}");
    }
    assert!(heals.elapsed() < Duration::from_secs(35), "{heals:?}");
    running.abort();
}

/// It may be that the sink takes nothing from anybody. But they do not wait without an end to find out.
#[tokio::test(start_paused = true)]
async fn who_sends_nothing_that_is_taken_does_not_keep_the_others_for_ever() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    let (sink, seen) = Scripted::new(INSTANT, unless(|event| event.id().starts_with("bad")));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    append_large(&queue, "noisy", "bad").await;
    append_large(&queue, "noisy", "bad as well").await;
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(30)).await;
    let batch = batch_by("quiet", &[("good".to_owned(), 10)]);
    queue.append(batch).await.unwrap();
    sleep(Duration::from_secs(3_600)).await;
    assert!(seen.offers().contains_key("good"));
    running.abort();
}
