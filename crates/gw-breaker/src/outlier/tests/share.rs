//! How many may be out.

use super::*;

#[tokio::test(start_paused = true)]
async fn no_more_than_the_share_are_out_and_the_worst_go_first() {
    let mut world = world(10, config().max_percent(20).panic_below(0.0));
    for endpoint in [3, 4, 5] {
        world.fail(endpoint, 5);
    }
    assert_eq!(world.usable(), [0, 1, 2, 5, 6, 7, 8, 9]);
    // Once there is room, at the end of an interval.
    world.pass(40 * SECOND).await;
    world.report(0, Outcome::Success, 1);
    assert_eq!(world.usable(), [0, 1, 2, 3, 4, 6, 7, 8, 9]);
    // Of two that stand out, the one that does so more.
    world.outliers.readmit("5");
    let _ = world.outliers.eject("9");
    world.fail(0, 5);
    for _ in 0..2 {
        world.traffic(1..9, |place| match place {
            2 => 1,
            3 => 3,
            _ => 0,
        });
        world.pass(10 * SECOND).await;
    }
    world.report(1, Outcome::Success, 1);
    // A fifth of nine is one, and it is out already.
    assert_eq!(world.usable(), [1, 2, 3, 4, 5, 6, 7, 8]);
    world.outliers.readmit("0");
    world.report(1, Outcome::Success, 1);
    world.pass(10 * SECOND).await;
    world.traffic(1..9, |place| match place {
        2 | 3 => place,
        _ => 0,
    });
    world.pass(10 * SECOND).await;
    world.report(1, Outcome::Success, 1);
    assert_eq!(world.usable(), [0, 1, 2, 4, 5, 6, 7, 8]);
}

#[tokio::test(start_paused = true)]
async fn the_last_one_is_never_ejected() {
    let world = world(2, config().max_percent(100).panic_below(0.0));
    world.fail(0, 50);
    world.fail(1, 50);
    assert_eq!(world.usable(), [1]);
    let world = self::world(1, config().panic_below(0.0));
    world.fail(0, 50);
    assert_eq!(world.usable(), [0]);
}

#[tokio::test(start_paused = true)]
async fn with_too_few_left_all_are_used_but_those_forced_out() {
    let mut world = world(6, config());
    world.fail(0, 5);
    world.fail(1, 5);
    world.outliers.set_healthy("2", false);
    assert_eq!(world.usable(), [3, 4, 5], "half is not below half");
    world.outliers.set_healthy("3", false);
    assert_eq!(world.usable(), [0, 1, 2, 3, 4, 5]);
    assert!(world.outliers.snapshot().panicking);
    // As if it were not in the set: of five, two would be left.
    assert!(world.outliers.eject("4"));
    assert_eq!(world.usable(), [0, 1, 2, 3, 5]);
    assert!(world.outliers.readmit("4"));
    // It ends when enough are back, with nobody there to notice.
    world.pass(34 * SECOND).await;
    assert_eq!(world.usable(), [0, 1, 4, 5]);
    assert!(!world.outliers.snapshot().panicking);
}

#[tokio::test(start_paused = true)]
async fn who_is_out_takes_a_place_whoever_put_it_out() {
    let world = world(4, config());
    world.outliers.set_healthy("0", false);
    world.fail(1, 5);
    world.fail(2, 5);
    assert_eq!(world.usable(), [2, 3]);
}
