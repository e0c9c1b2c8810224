//! A sink that takes nothing for a while: down, hung, misconfigured.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_logingest::consumer::ConsumerState;
use gw_logingest::sink::{Delivery, Item, Reason};
use gw_logingest::{Pressure, Queue as _};
use tokio::time::{Instant, sleep};

use super::consumer_support::{Letters, Scripted, all, consumer, fill, queue};
use super::{INSTANT, LONG, down, drain, ok};

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
