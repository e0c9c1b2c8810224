//! Requests that the sink refuses whole for what is in them.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_logingest::consumer::ConsumerState;
use gw_logingest::sink::{Delivery, Reason};
use gw_logingest::{Event, Queue as _};
use tokio::time::{Instant, sleep, timeout};

use super::consumer_support::{Letters, Scripted, batch_by, batch_of, consumer, fill, queue};
use super::{INSTANT, LONG, down, drain, ok};

fn refused() -> Delivery {
    Delivery::Refused(Reason::new("parse_exception", "no").with_status(400))
}

fn number(event: &Event) -> usize {
    event.id().parse().unwrap()
}

/// Refuses what has one of these in it.
fn unless(bad: impl Fn(usize) -> bool) -> impl Fn(usize, &[Event]) -> Delivery {
    move |_, events| match events.iter().any(|event| bad(number(event))) {
        true => refused(),
        false => ok(events),
    }
}

/// One event that the sink did not understand stopped delivery for all, until somebody came.
#[tokio::test(start_paused = true)]
async fn one_event_among_a_thousand_is_found_and_put_aside() {
    for bad in [0, 417, 999] {
        let (queue, letters) = (queue(), Letters::bounded(10));
        fill(&queue, 0..1_000, 10).await;
        let (sink, seen) = Scripted::new(INSTANT, unless(move |id| id == bad));
        let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
        assert_eq!((status.delivered, status.dead), (999, 1));
        assert_eq!(letters.ids(), [bad.to_string()]);
        assert_eq!(letters.all()[0].reason().status(), Some(400));
        let requests = seen.requests();
        let alone = requests.iter().filter(|it| it.ids == [bad.to_string()]);
        assert_eq!(alone.count(), 3);
        // Two for each halving, and the event alone twice more.
        assert!(requests.len() <= 1 + 2 * 10 + 2, "{}", requests.len());
        // No pause, and no wait.
        assert!(requests[requests.len() - 1].at - requests[0].at < Duration::from_secs(1));
    }
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_alone_is_put_aside_after_three_deliveries() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    fill(&queue, 0..1, 10).await;
    let (sink, seen) = Scripted::new(INSTANT, unless(|_| true));
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!((status.dead, seen.requests().len()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_good_does_not_wait_for_what_is_not() {
    let (queue, letters) = (queue(), Letters::bounded(1_000));
    fill(&queue, 0..50_000, 10).await;
    let (sink, _) = Scripted::new(Duration::from_millis(50), unless(|id| id % 1_000 == 7));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    queue.close();
    let running = tokio::spawn(running.run(pending()));
    while !running.is_finished() {
        let state = handle.status().state;
        assert!(!matches!(state, ConsumerState::Blocked), "{state:?}");
        sleep(Duration::from_millis(10)).await;
    }
    let status = handle.status();
    assert_eq!((status.delivered, status.dead), (49_950, 50));
    assert_eq!(status.imbalance(), 0);
}

/// Of each ten thousand events so many are bad, evenly among the good ones.
#[tokio::test(start_paused = true)]
async fn many_bad_events_do_not_keep_the_good_ones_for_long() {
    for (bad, seconds) in [(100, 10), (500, 30), (2_000, 60)] {
        let (queue, letters) = (queue(), Letters::bounded(10_000));
        fill(&queue, 0..20_000, 10).await;
        // The multiples of a prime number, so that they follow no pattern of halves.
        let answer = unless(move |id| id * 7_919 % 10_000 < bad);
        let (sink, _) = Scripted::new(Duration::from_millis(10), answer);
        let running = consumer(queue.clone(), sink, &letters).build().unwrap();
        let handle = running.handle();
        queue.close();
        let running = tokio::spawn(running.run(pending()));
        let (bad, started) = (2 * bad as u64, Instant::now());
        while handle.status().delivered < 20_000 - bad {
            sleep(Duration::from_millis(100)).await;
            let took = started.elapsed();
            assert!(took < Duration::from_secs(seconds), "{bad}: {took:?}");
        }
        // The last ones have no good one behind them, so that it takes some pauses.
        timeout(LONG, running).await.expect("it ends").unwrap();
        assert_eq!(handle.status().dead, bad);
        assert_eq!(handle.status().imbalance(), 0);
    }
}

/// Before anything was taken, and when much has been, so that many requests go out at once.
#[tokio::test(start_paused = true)]
async fn a_sink_that_refuses_everything_is_misconfigured() {
    for (good, linger) in [
        (0, Duration::from_secs(1)),
        (0, Duration::ZERO),
        (50_000, Duration::from_secs(1)),
        (50_000, Duration::ZERO),
    ] {
        let (queue, letters) = (queue(), Letters::bounded(1_000));
        let works = Arc::new(AtomicBool::new(true));
        let (sink, seen) = Scripted::new(Duration::from_millis(20), {
            let works = works.clone();
            move |_, events| match works.load(Ordering::SeqCst) {
                true => ok(events),
                false => refused(),
            }
        });
        let running = consumer(queue.clone(), sink, &letters).linger(linger);
        let running = running.build().unwrap();
        let handle = running.handle();
        let running = tokio::spawn(running.run(pending()));
        fill(&queue, 0..good, 10).await;
        sleep(Duration::from_secs(60)).await;
        assert_eq!(handle.status().delivered, good as u64);
        works.store(false, Ordering::SeqCst);
        let before = seen.requests().len();
        for id in good..good + 1_000 {
            queue
                .append(batch_of(&[(id.to_string(), 10)]))
                .await
                .unwrap();
            sleep(INSTANT).await;
        }
        sleep(Duration::from_secs(600)).await;
        let status = handle.status();
        assert_eq!(status.state, ConsumerState::Blocked);
        assert_eq!(status.reason.clone().unwrap().status(), Some(400));
        let most = if linger.is_zero() { 2 } else { 0 };
        assert!(status.dead <= most, "{good} {linger:?} {status:?}");
        // No more than until each event is alone, and some each half minute or minute.
        let requests = seen.requests().len() - before;
        assert!(requests < 2_100, "{good} {linger:?}: {requests}");
        works.store(true, Ordering::SeqCst);
        queue.close();
        running.await.unwrap();
        let after = handle.status();
        assert_eq!(after.dead, status.dead);
        assert_eq!(after.delivered + after.dead, good as u64 + 1_000);
        assert_eq!(after.imbalance(), 0);
    }
}

/// Requests that are still under way say that the sink takes something, when it does so no more.
#[tokio::test(start_paused = true)]
async fn a_sink_that_begins_to_refuse_under_load_buries_little() {
    let (queue, letters) = (queue(), Letters::bounded(10_000));
    fill(&queue, 0..200_000, 10).await;
    let takes = |number: usize| number < 300 || number.is_multiple_of(50) && number < 400;
    let (sink, _) = Scripted::new(
        Duration::from_millis(20),
        move |request, events| match takes(request) {
            true if request.is_multiple_of(3)
                && events.iter().any(|it| number(it) % 1_000 == 7) =>
            {
                refused()
            }
            true => ok(events),
            false => refused(),
        },
    );
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    sleep(Duration::from_secs(30)).await;
    let status = handle.status();
    assert_eq!(status.state, ConsumerState::Blocked, "{status:?}");
    assert!(status.dead <= 20, "{status:?}");
    running.abort();
}

/// Who sends nothing but bad events is to wait alone.
#[tokio::test(start_paused = true)]
async fn whose_events_are_all_bad_does_not_keep_the_others() {
    let (queue, letters) = (queue(), Letters::bounded(1_000));
    let (sink, _) = Scripted::new(INSTANT, unless(|id| id < 10_000));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    // More than a consumer has in hand.
    for id in 0..10_000 {
        let batch = batch_by("noisy", &[(id.to_string(), 5_000)]);
        queue.append(batch).await.unwrap();
    }
    sleep(Duration::from_secs(120)).await;
    let status = handle.status();
    assert_eq!(
        (status.state, status.delivered),
        (ConsumerState::Blocked, 0)
    );
    assert_eq!(status.dead, 0);
    for id in 10_000..10_100 {
        let batch = batch_by("quiet", &[(id.to_string(), 10)]);
        queue.append(batch).await.unwrap();
    }
    // One pause, and what is tried then.
    sleep(Duration::from_secs(120)).await;
    assert_eq!(handle.status().delivered, 100);
    assert_eq!(handle.status().imbalance(), 0);
    running.abort();
}

#[tokio::test(start_paused = true)]
async fn good_events_end_the_doubt() {
    let (queue, letters) = (queue(), Letters::bounded(1_000));
    let (sink, _) = Scripted::new(INSTANT, unless(|id| id < 40 || id % 10 == 0));
    let running = consumer(queue.clone(), sink, &letters).build().unwrap();
    let handle = running.handle();
    let running = tokio::spawn(running.run(pending()));
    // Nothing but bad ones, and nobody can know.
    fill(&queue, 0..40, 10).await;
    sleep(Duration::from_secs(120)).await;
    let status = handle.status();
    assert_eq!((status.state, status.dead), (ConsumerState::Blocked, 0));
    // And then some that are good, together with one that is not.
    for n in 4..40 {
        fill(&queue, n * 10..n * 10 + 10, 10).await;
        sleep(Duration::from_secs(120)).await;
    }
    let status = handle.status();
    assert_eq!((status.delivered, status.dead), (36 * 9, 40 + 36));
    assert_eq!(status.state, ConsumerState::Delivering);
    queue.close();
    running.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_was_cut_stays_so_when_the_sink_is_down_or_takes_less() {
    let (queue, letters) = (queue(), Letters::bounded(10));
    fill(&queue, 0..16, 1_000).await;
    let answer = unless(|id| id == 3);
    let (sink, seen) = Scripted::new(INSTANT, move |number, events| match number {
        // The first half, and then a quarter.
        1 => down(None),
        3 | 4 => Delivery::TooLarge,
        _ => answer(number, events),
    });
    let status = drain(&queue, consumer(queue.clone(), sink, &letters)).await;
    assert_eq!((status.delivered, status.dead), (15, 1));
    let sizes: Vec<_> = seen.requests().iter().map(|it| it.ids.len()).collect();
    assert!(sizes[1..].iter().all(|size| *size <= 8), "{sizes:?}");
}
