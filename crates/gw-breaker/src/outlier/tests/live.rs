//! What is changed while it runs: health, modes, lists and rules.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_health_check_and_an_ejection_do_not_end_one_another() {
    let mut world = world(4, config());
    world.fail(1, 5);
    assert!(world.outliers.set_healthy("1", false));
    assert_eq!(world.state(1), EndpointState::Unhealthy);
    assert!(world.outliers.set_healthy("1", true));
    assert_eq!(world.reason(1), Some(Reason::Consecutive));
    world.outliers.set_healthy("1", false);
    world.pass(60 * SECOND).await;
    assert_eq!(world.usable(), [0, 2, 3]);
    world.outliers.set_healthy("1", true);
    assert_eq!(world.usable(), [0, 1, 2, 3]);
    assert!(!world.outliers.set_healthy("nobody", true));
    assert!(!world.outliers.eject("nobody") && !world.outliers.readmit("nobody"));
}

#[tokio::test(start_paused = true)]
async fn shadow_mode_decides_and_off_forgets() {
    let mut world = world(4, config());
    world.outliers.set_mode(Mode::Shadow);
    world.fail(1, 5);
    assert_eq!(world.reason(1), Some(Reason::Consecutive));
    assert_eq!(world.usable(), [0, 1, 2, 3]);
    assert!(world.outliers.eject("3"));
    assert_eq!(world.usable(), [0, 1, 2], "an operator is not overruled");
    world.outliers.set_mode(Mode::Enforce);
    assert_eq!(world.usable(), [0, 2], "what it decided holds now");
    world.outliers.set_mode(Mode::Off);
    assert_eq!(world.outliers.mode(), Mode::Off);
    assert_eq!(world.usable(), [0, 1, 2]);
    world.fail(1, 50);
    world.outliers.set_mode(Mode::Enforce);
    assert_eq!(world.usable(), [0, 1, 2]);
    world.pass(SECOND).await;
    world.fail(1, 4);
    assert_eq!(world.usable(), [0, 1, 2], "nor was it counted");
    world.fail(1, 1);
    assert_eq!(world.usable(), [0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_new_list_keeps_what_is_known() {
    let world = world(4, config());
    world.fail(1, 5);
    world.fail(3, 4);
    let new = world.outliers.endpoints(["3", "9", "1", "3"]).unwrap();
    assert_eq!(new.len(), 4);
    let usable = |n| new.is_usable(n, world.now);
    assert_eq!([0, 1, 2, 3].map(usable), [true, true, false, true]);
    assert_eq!(world.outliers.snapshot().endpoints.len(), 3);
    // A request that was sent by the old list.
    world.fail(3, 1);
    assert!(usable(0), "one of three may be out");
    world.outliers.readmit("1");
    world.outliers.readmit("3");
    world.fail(3, 5);
    assert_eq!([0, 1, 2, 3].map(usable), [false, true, true, false]);
    // Who has left is nobody's concern.
    world.fail(0, 50);
    assert_eq!(world.outliers.snapshot().endpoints.len(), 3);
    // A number that is in no list.
    world.set.report(77, Outcome::Failure, MS, world.now);
    assert!(world.set.is_usable(77, world.now));
    let many = (0..=Outliers::MAX_ENDPOINTS).map(|n| n.to_string());
    let error = world.outliers.endpoints(many).unwrap_err();
    assert_eq!(error.field(), "endpoints");
    assert!(!usable(0));
    let none = world.outliers.endpoints([""; 0]).unwrap();
    assert!(none.is_empty());
    world.fail(3, 5);
}

#[tokio::test(start_paused = true)]
async fn rules_change_live() {
    let world = world(4, config());
    world.fail(1, 3);
    assert!(
        world
            .outliers
            .reconfigure(&config().consecutive(0))
            .is_err()
    );
    world
        .outliers
        .reconfigure(&config().consecutive(4).base(SECOND))
        .unwrap();
    world.fail(1, 1);
    assert_eq!(world.usable(), [0, 2, 3]);
    let left = world.left(1);
    assert!(left <= SECOND + SECOND / 10, "{left:?}");
}

/// Story: of an endpoint that had failed as often as a new configuration allows no failure was the last of a row any more: it
/// stayed in until the interval ended.
#[tokio::test(start_paused = true)]
async fn a_shorter_row_holds_for_who_is_in_the_middle_of_a_longer_one() {
    for failed in [2, 3, 4] {
        let world = world(4, config());
        world.fail(1, failed);
        let shorter = config().consecutive(3);
        world.outliers.reconfigure(&shorter).unwrap();
        assert_eq!(world.usable(), [0, 1, 2, 3]);
        world.fail(1, 1);
        assert_eq!(world.usable(), [0, 2, 3], "after {failed}");
    }
}

/// Story: an endpoint that had been ejected under a shorter row needed many failures after its return, and not one.
#[tokio::test(start_paused = true)]
async fn a_longer_row_leaves_who_was_ejected_one_failure_from_the_next() {
    for back in [false, true] {
        let mut world = world(4, config());
        world.fail(1, 5);
        // One that was not seen to be ejected yet when it failed.
        world.set.fails_late(1, world.now);
        let longer = config().consecutive(10);
        if back {
            world.come_back(1).await;
            // Says nothing of how it is.
            world.report(1, Outcome::Throttled(None), 1);
            world.outliers.reconfigure(&longer).unwrap();
        } else {
            world.outliers.reconfigure(&longer).unwrap();
            world.come_back(1).await;
        }
        world.fail(1, 1);
        assert_eq!(world.usable(), [0, 2, 3]);
        // Who has succeeded since is one as all others.
        world.come_back(1).await;
        world.report(1, Outcome::Success, 1);
        world.fail(1, 9);
        world
            .outliers
            .reconfigure(&config().consecutive(20))
            .unwrap();
        world.fail(1, 10);
        assert_eq!(world.usable(), [0, 1, 2, 3]);
        world.fail(1, 1);
        assert_eq!(world.usable(), [0, 2, 3]);
    }
}
