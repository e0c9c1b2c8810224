//! What ejects an endpoint, and what says nothing.

use super::*;

#[tokio::test(start_paused = true)]
async fn failures_in_a_row_eject_at_once() {
    let world = world(4, config());
    world.fail(1, 4);
    world.report(1, Outcome::Success, 1);
    world.fail(1, 4);
    assert_eq!(world.usable(), [0, 1, 2, 3]);
    world.fail(1, 1);
    assert_eq!(world.usable(), [0, 2, 3]);
    assert_eq!(world.reason(1), Some(Reason::Consecutive));
    let left = world.left(1);
    assert!((30 * SECOND..=33 * SECOND).contains(&left), "{left:?}");
}

#[tokio::test(start_paused = true)]
async fn throttling_and_what_is_ignored_say_nothing() {
    let mut world = world(3, config());
    for _ in 0..10 {
        world.fail(0, 4);
        world.report(0, Outcome::Throttled(None), 1);
        world.report(0, Outcome::Ignored, 1);
        world.report(0, Outcome::Success, 1);
    }
    assert_eq!(world.usable(), [0, 1, 2]);
    // They do not end a row either.
    world.fail(0, 4);
    world.report(0, Outcome::Throttled(None), 3);
    world.report(0, Outcome::Ignored, 3);
    world.fail(0, 1);
    assert_eq!(world.usable(), [1, 2]);
    world.pass(10 * SECOND).await;
    world.report(1, Outcome::Success, 1);
    let snapshot = &world.outliers.snapshot().endpoints[0];
    assert_eq!((snapshot.requests, snapshot.failures), (55, 45));
    assert_eq!(snapshot.throttled, 13);
    let latency = snapshot.latency.unwrap();
    assert!(latency.abs_diff(MS) < MS / 40, "{latency:?}");
}

#[tokio::test(start_paused = true)]
async fn it_takes_two_intervals_to_eject_the_one_that_fails_more() {
    let mut world = world(5, config());
    for _ in 0..2 {
        assert_eq!(world.usable().len(), 5);
        world.interval(200, 2, 40, MS);
        world.pass(10 * SECOND).await;
    }
    // Nothing happens until someone reports.
    assert_eq!(world.usable().len(), 5);
    world.report(0, Outcome::Ignored, 1);
    assert_eq!(world.usable(), [0, 1, 3, 4]);
    assert_eq!(world.reason(2), Some(Reason::FailureRate));
}

#[tokio::test(start_paused = true)]
async fn the_slow_one_of_three_is_ejected() {
    let mut world = world(3, config());
    for _ in 0..2 {
        world.interval(200, 2, 0, 5 * MS);
        world.pass(10 * SECOND).await;
    }
    world.report(0, Outcome::Success, 1);
    assert_eq!(world.usable(), [0, 1]);
    assert_eq!(world.reason(2), Some(Reason::Latency));
}

#[tokio::test(start_paused = true)]
async fn a_good_interval_clears_and_a_thin_one_does_not() {
    let mut world = world(5, config());
    for (requests, failures) in [(200, 40), (200, 0), (200, 40)] {
        world.interval(requests, 2, failures, MS);
        world.pass(10 * SECOND).await;
    }
    world.report(0, Outcome::Success, 1);
    assert_eq!(world.usable().len(), 5, "never twice in a row");
    // 50 requests are too few to tell.
    world.interval(50, 2, 0, MS);
    world.pass(10 * SECOND).await;
    world.interval(200, 2, 40, MS);
    world.pass(10 * SECOND).await;
    world.report(0, Outcome::Success, 1);
    assert_eq!(world.usable(), [0, 1, 3, 4]);
}

/// Story: when an endpoint stood out and the others then had too few requests to compare it with, that interval cleared it as a
/// good one does. Where traffic comes and goes it was never ejected.
#[tokio::test(start_paused = true)]
async fn an_interval_without_a_comparison_does_not_clear() {
    let mut world = world(5, config());
    for compared in [true, false, true] {
        if compared {
            world.interval(200, 2, 40, MS);
        } else {
            world.report(2, Outcome::Success, 200);
        }
        world.pass(10 * SECOND).await;
    }
    world.report(0, Outcome::Success, 1);
    assert_eq!(world.reason(2), Some(Reason::FailureRate));
}

/// Story: requests that a second copy overtook were dropped, and counted for nothing. So an endpoint that answered none of its
/// requests was as good as the others, as long as hedges covered for it.
#[tokio::test(start_paused = true)]
async fn who_is_always_given_up_is_slow() {
    let mut world = world(3, config());
    let overtaken = async |world: &mut World, after| {
        for _ in 0..200 {
            world.set.report(1, Outcome::Ignored, after, world.now);
            for other in [0, 2] {
                world.set.report(other, Outcome::Success, MS, world.now);
            }
        }
        world.pass(10 * SECOND).await;
        world.report(0, Outcome::Success, 1);
    };
    world.interval(200, 1, 0, MS);
    world.pass(10 * SECOND).await;
    // Who leaves before what is usual says nothing, however many do.
    for _ in 0..3 {
        overtaken(&mut world, MS / 2).await;
    }
    let known = world.outliers.snapshot().endpoints[1].clone();
    assert_eq!((known.requests, known.latency), (0, None));
    overtaken(&mut world, 10 * MS).await;
    assert_eq!(world.usable().len(), 3);
    let latency = world.outliers.snapshot().endpoints[1].latency.unwrap();
    assert!(latency.abs_diff(10 * MS) < MS, "{latency:?}");
    overtaken(&mut world, 10 * MS).await;
    assert_eq!(world.reason(1), Some(Reason::Latency));
}

#[tokio::test(start_paused = true)]
async fn times_out_of_order_and_at_the_ends_of_time_do_no_harm() {
    let world = world(3, config());
    let early = world.now.checked_sub(SECOND).unwrap_or(world.now);
    for latency in [Duration::ZERO, Duration::MAX] {
        world.set.report(0, Outcome::Success, latency, early);
    }
    let far = world.now + Duration::from_secs(1 << 40);
    world.set.report(0, Outcome::Success, MS, far);
    world.fail(1, 5);
    assert_eq!(world.usable(), [0, 2]);
    assert!(world.set.is_usable(1, far));
}
