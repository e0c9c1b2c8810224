//! How an endpoint comes back.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_fails_at_once_when_it_is_back_is_out_at_once_and_longer() {
    let mut world = world(4, config());
    world.fail(1, 5);
    for times in 2..15 {
        let left = world.left(1);
        world.pass(left).await;
        assert_eq!(world.usable().len(), 4, "it is back");
        world.pass(SECOND).await;
        world.fail(1, 1);
        assert_eq!(world.usable(), [0, 2, 3]);
        let time = (30 * SECOND * times).min(300 * SECOND);
        let left = world.left(1);
        assert!((time..=time + time / 10).contains(&left), "{left:?}");
    }
    // A success, and it is one as all others.
    world.come_back(1).await;
    world.report(1, Outcome::Success, 1);
    world.fail(1, 4);
    assert_eq!(world.usable().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn one_bad_interval_is_enough_for_who_was_ejected() {
    let mut world = world(5, config());
    world.fail(2, 5);
    world.pass(40 * SECOND).await;
    world.report(0, Outcome::Success, 1);
    world.interval(200, 2, 40, MS);
    assert_eq!(world.usable(), [0, 1, 3, 4], "its first request failed");
    world.come_back(2).await;
    world.report(2, Outcome::Success, 1);
    world.interval(200, 2, 40, MS);
    world.pass(10 * SECOND).await;
    world.report(0, Outcome::Success, 1);
    assert_eq!(world.reason(2), Some(Reason::FailureRate));
}

#[tokio::test(start_paused = true)]
async fn good_intervals_make_the_next_ejection_shorter() {
    let mut world = world(4, config());
    world.fail(1, 5);
    for _ in 0..3 {
        world.come_back(1).await;
        world.fail(1, 1);
    }
    let multiplier = |world: &World| world.outliers.snapshot().endpoints[1].multiplier;
    assert_eq!(multiplier(&world), 4);
    world.come_back(1).await;
    world.report(1, Outcome::Success, 1);
    assert_eq!(multiplier(&world), 4, "it was out in these intervals");
    let mut last = 4;
    for _ in 0..5 {
        world.pass(10 * SECOND).await;
        world.report(1, Outcome::Success, 1);
        let now = multiplier(&world);
        assert!(now <= last && last - now <= 1, "{now} after {last}");
        last = now;
    }
    assert_eq!(last, 0);
    // Hours without a request count as calm too.
    for _ in 0..3 {
        world.fail(1, 5);
        world.come_back(1).await;
        world.report(1, Outcome::Success, 1);
    }
    assert_eq!(multiplier(&world), 3);
    world.pass(3600 * SECOND).await;
    world.report(0, Outcome::Success, 1);
    assert_eq!(multiplier(&world), 0);
}

/// Story: an ejection that had ended while nobody sent anything kept its length for the next one, though hours had passed since.
#[tokio::test(start_paused = true)]
async fn quiet_intervals_count_from_the_return_on() {
    for (quiet, multiplier) in [(9, 2), (21, 0), (3600, 0)] {
        let mut world = world(4, config());
        world.fail(1, 5);
        world.come_back(1).await;
        world.fail(1, 1);
        world.come_back(1).await;
        world.pass(quiet * SECOND - SECOND).await;
        world.report(0, Outcome::Success, 1);
        let known = &world.outliers.snapshot().endpoints[1];
        assert_eq!(known.multiplier, multiplier, "after {quiet} s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_before_it_came_back_is_not_counted() {
    let mut world = world(4, config());
    world.fail(1, 5);
    world.come_back(1).await;
    // Took 40 s, so it was sent before the ejection ended.
    for _ in 0..100 {
        world
            .set
            .report(1, Outcome::Failure, 40 * SECOND, world.now);
    }
    assert_eq!(world.usable().len(), 4);
    // Nor does a late success make it trustworthy.
    world
        .set
        .report(1, Outcome::Success, 40 * SECOND, world.now);
    world.fail(1, 1);
    assert_eq!(world.usable().len(), 3);
}

/// Story: a stream that was judged at its end, and an answer to a long upload, seemed to have been sent as long ago as the
/// head had taken. So what had been sent before an endpoint was ejected counted as news of how it was since.
#[tokio::test(start_paused = true)]
async fn what_was_sent_long_before_its_latency_began_is_told_apart() {
    let mut world = world(4, config());
    world.fail(1, 5);
    let sent = world.now;
    world.come_back(1).await;
    for _ in 0..5 {
        world
            .set
            .report_sent(1, Outcome::Failure, sent, MS, world.now);
    }
    assert_eq!(world.usable().len(), 4);
    world.fail(1, 1);
    assert_eq!(world.usable().len(), 3);
}

/// Story: a failure that was under way when another thread ejected the endpoint was counted after the row had been set to
/// one less than it takes. So the first failure after the return was one too many to be the last of a row, and the endpoint
/// stayed in until the interval ended.
#[tokio::test(start_paused = true)]
async fn a_failure_that_comes_late_does_not_spoil_the_return() {
    let mut world = world(4, OutlierConfig::new().base(SECOND));
    world.fail(1, 5);
    assert!(!world.set.is_usable(1, world.now));
    // It had looked before it was ejected.
    world.set.fails_late(1, world.now);
    world.pass(2 * SECOND).await;
    assert!(world.set.is_usable(1, world.now));
    world.fail(1, 1);
    assert!(!world.set.is_usable(1, world.now));
}
