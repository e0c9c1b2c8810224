//! Leased mode on a real server.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use gw_ratelimit::redis::{Leases, OnFailure, SharedLimiter};
use gw_ratelimit::{Limiter, Mode, Quota, Ruling};
use gw_testkit::within;
use proptest::prelude::*;
use tokio::task::JoinSet;

use crate::server::{Server, UNANSWERED, stand_still, until};

/// More than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn build(server: &Server, name: &str, leases: Leases, policies: &[(&str, u32)]) -> SharedLimiter {
    let mut limits = Limiter::builder();
    for (policy, burst) in policies {
        limits = limits.policy(*policy, Quota::per_hour(1).burst(*burst));
    }
    // Should Redis not answer in a test, more would pass than may.
    let store = server.store(name).on_failure(OnFailure::Open);
    limits.build_shared(&store.leases(leases)).unwrap()
}

async fn allowed(limiter: &SharedLimiter, key: &str, requests: u32) -> u32 {
    let policy = limiter.policy("p").unwrap();
    let mut allowed = 0;
    for _ in 0..requests {
        allowed += u32::from(limiter.check(policy, key, 1).await.is_allowed());
    }
    allowed
}

/// What is left of the key's burst.
async fn remaining(limiter: &SharedLimiter, key: &str) -> u32 {
    let policy = limiter.policy("p").unwrap();
    limiter.peek(policy, None, key).await.unwrap().remaining()
}

/// Waits until cells are held.
async fn leased(limiter: &SharedLimiter) {
    until("a lease", async || limiter.store().leases > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instances_with_leases_never_admit_more_together() {
    let server = Server::start();
    let leases = Leases::up_to(16);
    let instances = [(); 3].map(|()| build(&server, "test", leases, &[("p", 1_000)]));
    let mut load = JoinSet::new();
    for task in 0..12 {
        let limiter = instances[task % 3].clone();
        load.spawn(async move { allowed(&limiter, "k", 200).await });
    }
    let passed: u32 = load.join_all().await.iter().sum();
    assert!(passed <= 1_000, "{passed}");
    // What is left is leased to somebody, and those can spend it.
    let mut rest = 0;
    for instance in &instances {
        rest += allowed(instance, "k", 1_000).await;
    }
    assert!(passed + rest <= 1_000, "{passed} and {rest}");
    assert!(passed + rest >= 950, "{passed} and {rest}");
    let (mut asked, mut by_lease) = (0, 0);
    for instance in &instances {
        let store = instance.store();
        assert_eq!((store.failed, store.by_rule), (0, 0));
        asked += store.asked;
        by_lease += store.by_lease;
    }
    assert!(
        by_lease > 10 * asked,
        "{by_lease} without, {asked} questions"
    );
}

#[tokio::test]
async fn requests_of_a_busy_key_do_not_wait_for_redis() {
    let (server, _still) = (Server::start(), stand_still());
    let quota = Quota::per_second(1).burst(100_000);
    let store = server.store("test").leases(Leases::up_to(64));
    let limits = Limiter::builder().policy("p", quota);
    let limiter = limits.build_shared(&store).unwrap();
    for _ in 0..200 {
        assert_eq!(allowed(&limiter, "k", 50).await, 50);
        // Time for what is fetched ahead.
        leased(&limiter).await;
    }
    let store = limiter.store();
    assert_eq!(store.failed, 0);
    assert!(store.by_lease > 9_000, "{store:?}");
    assert!(store.asked < 1_000, "{store:?}");
}

#[tokio::test]
async fn a_refusal_is_remembered() {
    let (server, _still) = (Server::start(), stand_still());
    let limiter = build(&server, "test", Leases::up_to(8), &[("p", 20)]);
    assert_eq!(allowed(&limiter, "k", 100).await, 20);
    let before = limiter.store();
    assert_eq!(allowed(&limiter, "k", 1_000).await, 0);
    let after = limiter.store();
    assert_eq!(after.asked, before.asked);
    assert_eq!(after.by_lease, before.by_lease + 1_000);
    // Redis forgets, and so does who told it to.
    let policy = limiter.policy("p").unwrap();
    assert!(limiter.reset(policy, "k").await);
    assert_eq!(allowed(&limiter, "k", 100).await, 20);
}

#[tokio::test]
async fn a_refused_request_costs_nothing_on_what_is_leased() {
    let (server, still) = (Server::start(), stand_still());
    let policies = [("p", 1_000), ("small", 5)];
    let limiter = build(&server, "test", Leases::up_to(8), &policies);
    let charge = |policy: &str, cost| {
        let policy = limiter.policy(policy).unwrap();
        limiter.charge(policy, "k", cost)
    };
    let mut passed = 0;
    for _ in 0..200 {
        let both = [charge("p", 1), charge("small", 1)];
        passed += u32::from(limiter.check_all(&both).await.is_allowed());
    }
    assert_eq!(passed, 5);
    still.go_on();
    limiter.close(LONG).await;
    let other = build(&server, "test", Leases::up_to(8), &policies);
    // A request that asked while a lease was on its way was charged behind it, and keeps it from being given back.
    let rest = allowed(&other, "k", 2_000).await;
    assert!((995 - 8..=995).contains(&rest), "{rest}");
}

/// Story: what a refused request had taken out of a lease was put back only after it was told how much was left.
#[tokio::test]
async fn a_refused_request_is_told_of_all_that_is_left() {
    let (server, _still) = (Server::start(), stand_still());
    let policies = [("p", 1_000), ("small", 5)];
    let instances = [(); 2].map(|()| build(&server, "test", Leases::up_to(8), &policies));
    let [one, other] = &instances;
    let charge = |policy: &str, key: &str, cost| {
        let policy = one.policy(policy).unwrap();
        one.charge(policy, key, cost)
    };
    assert_eq!(allowed(one, "k", 11).await, 11);
    leased(one).await;
    // Paid at once, in part, and not at all.
    for (cost, small) in [(1, "a"), (20, "b"), (0, "c")] {
        let all = charge("small", small, 5);
        assert!(other.check_all(&[all]).await.is_allowed());
        let both = [charge("p", "k", cost), charge("small", small, 1)];
        let asked = one.store().asked;
        let decision = one.check_all(&both).await;
        assert!(!decision.is_allowed() && one.store().asked > asked);
        assert_eq!(decision.standings()[0].remaining(), 989, "{cost}");
    }
}

/// Story: an instance that knew nothing of a client told a request which cost nothing that the whole burst was left.
#[tokio::test]
async fn a_request_that_costs_nothing_is_told_what_is_left() {
    let (server, _still) = (Server::start(), stand_still());
    let small = Leases::up_to(8).max_keys(1);
    let instances = [(); 3].map(|()| build(&server, "test", small, &[("p", 1_000)]));
    let [one, full, other] = &instances;
    let left = async |limiter: &SharedLimiter, key: &str| {
        let decision = limiter.check(limiter.policy("p").unwrap(), key, 0).await;
        decision.standings()[0].remaining()
    };
    for key in 0..8 {
        assert_eq!(allowed(full, &format!("held {key}"), 2).await, 2);
    }
    for key in 0..16 {
        let key = key.to_string();
        assert_eq!(allowed(other, &key, 3).await, 3);
        // It has a place for it, or none.
        assert_eq!([left(one, &key).await, left(full, &key).await], [997; 2]);
    }
    // Once it knows, it asks again after a second.
    let key = "15";
    assert_eq!(allowed(other, key, 1).await, 1);
    let asked = one.store().asked;
    assert_eq!(left(one, key).await, 997);
    assert_eq!(one.store().asked, asked);
    tokio::time::advance(Duration::from_millis(1_001)).await;
    assert!(left(one, key).await < 997);
    assert_eq!(one.store().asked, asked + 1);
}

/// Story: each answer passed for one to a request that pays. A client that looked ten times a second and paid once in five had
/// twice as many cells leased each time, up to the most, and none of them were spent nor given back.
#[tokio::test]
async fn who_looks_often_and_pays_rarely_holds_nothing() {
    let (server, _still) = (Server::start(), stand_still());
    let limiter = build(&server, "test", Leases::up_to(20), &[("p", 500)]);
    let policy = limiter.policy("p").unwrap();
    for _ in 0..8 {
        assert_eq!(allowed(&limiter, "k", 1).await, 1);
        for _ in 0..3 {
            tokio::time::advance(Duration::from_millis(1_001)).await;
            limiter.check(policy, "k", 0).await;
        }
        // As does what is charged later.
        tokio::time::advance(Duration::from_millis(1_001)).await;
        let late = limiter.charge(policy, "k", 1);
        assert!(limiter.charge_late(late).await.is_some());
        assert_eq!(limiter.store().leases, 0);
    }
}

/// Story: a policy that only watches refused a request that was too dear for it. The cells that were leased were spent all the
/// same; and later, told as if they had been.
#[tokio::test]
async fn what_a_watching_policy_refuses_costs_nothing_on_what_is_leased() {
    let (server, _still) = (Server::start(), stand_still());
    let instances = [(); 2].map(|()| {
        let quota = Quota::per_hour(1).burst(20);
        let limits = Limiter::builder().policy_in("p", quota, Mode::Shadow);
        let store = server.store("test").leases(Leases::up_to(8));
        limits.build_shared(&store).unwrap()
    });
    let [one, other] = &instances;
    let standing = async |limiter: &SharedLimiter, cost| {
        let policy = limiter.policy("p").unwrap();
        let decision = limiter.check(policy, "k", cost).await;
        assert!(decision.is_allowed());
        decision.standings()[0]
    };
    let ruling = async |limiter: &SharedLimiter, cost| standing(limiter, cost).await.ruling();
    for _ in 0..10 {
        assert_eq!(ruling(one, 1).await, Ruling::Allowed);
    }
    leased(one).await;
    // Takes what is left.
    while ruling(other, 1).await == Ruling::Allowed {}
    let asked = one.store().asked;
    let refused = standing(one, 9).await;
    assert_eq!(refused.ruling(), Ruling::Limited);
    assert!(one.store().asked > asked, "it could not know");
    let next = standing(one, 1).await;
    assert_eq!(next.ruling(), Ruling::Allowed);
    assert_eq!(next.remaining() + 1, refused.remaining());
}

/// Story: a client got back all that it had paid, and an instance went on spending what it had leased on top of it.
#[tokio::test]
async fn leased_cells_do_not_outlast_debt_that_was_given_back() {
    let (server, _still) = (Server::start(), stand_still());
    let limiter = build(&server, "test", Leases::up_to(8), &[("p", 500)]);
    assert_eq!(allowed(&limiter, "k", 2).await, 2);
    assert_eq!(limiter.store().leases, 1);
    let policy = limiter.policy("p").unwrap();
    let paid = limiter.charge(policy, "k", 2);
    assert!(limiter.refund(paid).await.is_some());
    tokio::time::advance(Duration::from_millis(1)).await;
    assert_eq!(limiter.store().leases, 0);
}

#[tokio::test]
async fn unspent_cells_are_given_back() {
    let (server, still) = (Server::start(), stand_still());
    let instances = [(); 2].map(|()| build(&server, "test", Leases::up_to(32), &[("p", 500)]));
    let [one, other] = &instances;
    assert_eq!(allowed(one, "k", 100).await, 100);
    still.go_on();
    assert!(one.close(LONG).await > 0);
    assert_eq!(one.store().leases, 0);
    let rest = allowed(other, "k", 1_000).await;
    // A request that asked while a lease was on its way was charged behind it, and keeps it from being given back.
    assert!((400 - 32..=400).contains(&rest), "{rest}");
    // Given back is given back.
    assert_eq!(allowed(one, "k", 100).await, 0);
}

#[tokio::test]
async fn a_closed_limiter_leases_nothing_and_goes_on_deciding() {
    let (server, still) = (Server::start(), stand_still());
    let limiter = build(&server, "test", Leases::up_to(32), &[("p", 500)]);
    assert_eq!(allowed(&limiter, "k", 100).await, 100);
    still.go_on();
    limiter.close(LONG).await;
    let before = limiter.store();
    assert_eq!(allowed(&limiter, "k", 50).await, 50);
    let after = limiter.store();
    assert_eq!((after.leases, after.asked), (0, before.asked + 50));
    assert_eq!(limiter.close(LONG).await, 0);
}

#[tokio::test]
async fn closing_takes_no_longer_than_it_may() {
    const HALF: Duration = Duration::from_millis(25);
    let (server, _still) = (Server::start(), stand_still());
    let limiter = build(&server, "test", Leases::up_to(32), &[("p", 500)]);
    assert_eq!(allowed(&limiter, "k", 100).await, 100);
    // What is fetched ahead comes before the answer to what is asked after it.
    let policy = limiter.policy("p").unwrap();
    limiter.peek(policy, None, "another").await.unwrap();
    leased(&limiter).await;
    server.freeze();
    let closing = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.close(2 * HALF).await }
    });
    until("nothing to be held", async || limiter.store().leases == 0).await;
    tokio::time::advance(HALF).await;
    assert!(!closing.is_finished());
    tokio::time::advance(2 * HALF).await;
    until("closing", async || closing.is_finished()).await;
    assert_eq!(closing.await.unwrap(), 0);
    server.thaw();
}

/// Story: Redis had as little time to take cells back as to answer a request. On a busy machine it took longer, and the cells of
/// a gateway that ended had to run off.
#[tokio::test]
async fn closing_waits_longer_for_an_answer_than_a_request_may() {
    let (server, still) = (Server::start(), stand_still());
    let instances = [(); 2].map(|()| {
        let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(500));
        let store = server.store("test").timeout(UNANSWERED);
        limits
            .build_shared(&store.leases(Leases::up_to(32)))
            .unwrap()
    });
    let [one, other] = &instances;
    assert_eq!(allowed(one, "k", 100).await, 100);
    // What is fetched ahead comes before the answer to what is asked after it.
    let policy = one.policy("p").unwrap();
    one.peek(policy, None, "another").await.unwrap();
    tokio::task::yield_now().await;
    server.freeze();
    let closing = tokio::spawn({
        let one = one.clone();
        async move { one.close(LONG).await }
    });
    tokio::task::yield_now().await;
    tokio::time::advance(2 * UNANSWERED).await;
    assert!(!closing.is_finished());
    server.thaw();
    still.go_on();
    assert!(within("closing", closing).await.unwrap() > 0);
    let rest = allowed(other, "k", 1_000).await;
    // A request that asked while a lease was on its way was charged behind it, and keeps it from being given back.
    assert!((400 - 32..=400).contains(&rest), "{rest}");
}

/// Story: cells were given back while more of the same key were being fetched. Redis had leased those by then, so the first ones
/// were no longer the last ones, and had to run off.
#[tokio::test]
async fn closing_waits_for_what_is_being_fetched_before_it_gives_back() {
    let (server, still) = (Server::start(), stand_still());
    let instances = [(); 2].map(|()| build(&server, "test", Leases::up_to(8), &[("p", 500)]));
    let [one, other] = &instances;
    // The last one leases two cells.
    assert_eq!(allowed(one, "k", 4).await, 4);
    server.freeze();
    let asked = one.store().asked;
    // Of which this spends one, and so fetches more.
    assert_eq!(allowed(one, "k", 1).await, 1);
    until("fetching", async || one.store().asked > asked).await;
    let closing = tokio::spawn({
        let one = one.clone();
        async move { one.close(LONG).await }
    });
    tokio::task::yield_now().await;
    server.thaw();
    still.go_on();
    assert_eq!(within("closing", closing).await.unwrap(), 2);
    assert_eq!(remaining(other, "k").await, 495);
}

/// Story: an instance was closed while cells that had not been spent for long were on their way back. It held none any more,
/// ended at once, and its connection with it: those cells were lost.
#[tokio::test]
async fn closing_waits_for_what_is_being_given_back() {
    let (server, still) = (Server::start(), stand_still());
    let instances = [(); 2].map(|()| build(&server, "test", Leases::up_to(8), &[("p", 500)]));
    let [one, other] = &instances;
    assert_eq!(allowed(one, "k", 4).await, 4);
    server.freeze();
    let [giving_back, closing] = [false, true].map(|closes| {
        let one = one.clone();
        tokio::spawn(async move {
            match closes {
                true => one.close(LONG).await,
                false => one.give_back().await,
            }
        })
    });
    until("nothing to be held", async || one.store().leases == 0).await;
    tokio::task::yield_now().await;
    assert!(!giving_back.is_finished() && !closing.is_finished());
    server.thaw();
    still.go_on();
    assert_eq!(within("giving back", giving_back).await.unwrap(), 1);
    assert_eq!(within("closing", closing).await.unwrap(), 0);
    assert_eq!(remaining(other, "k").await, 496);
}

/// Story: closing had the turn of asking whether Redis is back, and kept it for as long as closing may take, although the
/// connection was dead: no request could ask on another one.
#[tokio::test]
async fn closing_asks_whether_redis_is_back_for_no_longer_than_a_request_may() {
    const PAUSE: Duration = Duration::from_millis(1);
    let (server, _still) = (Server::start(), stand_still());
    let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(500));
    let store = server.store("test").leases(Leases::up_to(32));
    let store = store.timeout(UNANSWERED).failures(1).probe_after(PAUSE);
    let limiter = limits.build_shared(&store).unwrap();
    let policy = limiter.policy("p").unwrap();
    assert_eq!(allowed(&limiter, "k", 100).await, 100);
    // What is fetched ahead comes before the answer to what is asked after it.
    limiter.peek(policy, None, "another").await.unwrap();
    leased(&limiter).await;
    // It fails at once, so that the cells are held still.
    server.set("maxmemory", "1").await;
    limiter.check(policy, "another", 1).await;
    server.set("maxmemory", "0").await;
    assert!(!limiter.store().is_asked);
    // Connecting has a time of its own.
    assert!(limiter.connect().await);
    server.freeze();
    tokio::time::advance(PAUSE).await;
    let asked = limiter.store().asked;
    let closing = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.close(LONG).await }
    });
    until("the probe", async || limiter.store().asked > asked).await;
    assert!(!closing.is_finished());
    tokio::time::advance(2 * UNANSWERED).await;
    until("closing", async || closing.is_finished()).await;
    assert_eq!(closing.await.unwrap(), 0);
    server.thaw();
    tokio::time::advance(PAUSE).await;
    limiter.check(policy, "another", 1).await;
    assert!(limiter.store().is_asked);
}

#[tokio::test]
async fn many_leases_are_given_back_in_few_calls() {
    let (server, still) = (Server::start(), stand_still());
    let limiter = build(&server, "test", Leases::up_to(4), &[("p", 100)]);
    for key in 0..400 {
        assert_eq!(allowed(&limiter, &key.to_string(), 4).await, 4);
    }
    let (held, asked) = (limiter.store().leases, limiter.store().asked);
    assert!(held > 300, "{held}");
    still.go_on();
    let given = limiter.close(LONG).await;
    assert!(given >= held - 20, "{given} of {held}");
    let calls = limiter.store().asked - asked;
    assert!(calls <= 10, "{calls}");
}

#[tokio::test]
async fn cells_that_nobody_spends_are_given_back_in_time() {
    let server = Server::start();
    let instances = [(); 2].map(|()| build(&server, "test", Leases::up_to(8), &[("p", 50)]));
    let [one, other] = &instances;
    assert_eq!(allowed(one, "k", 4).await, 4);
    let policy = other.policy("p").unwrap();
    let returned = async {
        while other.peek(policy, None, "k").await.unwrap().remaining() < 46 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the cells to be given back", returned).await;
    assert_eq!(allowed(other, "k", 100).await, 46);
}

#[tokio::test]
async fn leases_are_held_for_so_many_keys_and_no_more() {
    let (server, _still) = (Server::start(), stand_still());
    let leases = Leases::up_to(8).max_keys(16);
    let limiter = build(&server, "test", leases, &[("p", 100)]);
    for _ in 0..4 {
        for key in 0..200 {
            let passed = allowed(&limiter, &key.to_string(), 2).await;
            assert_eq!(passed, 2);
        }
    }
    let store = limiter.store();
    assert!((1..=16).contains(&store.leases), "{store:?}");
    assert_eq!(store.failed, 0);
}

#[tokio::test]
async fn what_is_leased_is_spent_while_the_server_is_frozen() {
    let (server, _still) = (Server::start(), stand_still());
    let limiter = build(&server, "test", Leases::up_to(32), &[("p", 1_000)]);
    assert_eq!(allowed(&limiter, "k", 64).await, 64);
    leased(&limiter).await;
    server.freeze();
    let before = limiter.store();
    assert_eq!(allowed(&limiter, "k", 1).await, 1);
    assert_eq!(limiter.store().by_lease, before.by_lease + 1);
    server.thaw();
}

#[tokio::test]
async fn a_decision_out_of_a_lease_does_not_allocate() {
    let (server, _still) = (Server::start(), stand_still());
    let policies = [("p", 1_000), ("q", 1_000), ("r", 1_000)];
    let limiter = build(&server, "test", Leases::up_to(128), &policies);
    let check = |cost| {
        let charges = ["p", "q", "r"].map(|policy| {
            let policy = limiter.policy(policy).unwrap();
            limiter.charge(policy, "k", cost)
        });
        let limiter = limiter.clone();
        async move { limiter.check_all(&charges).await.is_allowed() }
    };
    for _ in 0..64 {
        assert!(check(1).await);
    }
    let decided = |cost| {
        let mut check = pin!(check(cost));
        let mut cx = Context::from_waker(Waker::noop());
        let mut outcome = Poll::Pending;
        let used = allocation_counter::measure(|| outcome = check.as_mut().poll(&mut cx));
        (outcome, used.count_total)
    };
    let outcomes: Vec<_> = (0..8).map(|_| decided(1)).collect();
    // But for those that fetch more.
    let free = outcomes
        .iter()
        .filter(|outcome| **outcome == (Poll::Ready(true), 0));
    assert!(free.count() >= 4, "{outcomes:?}");
    // The first time registers metrics.
    assert_eq!(decided(1_001).0, Poll::Ready(false));
    assert_eq!(decided(1_001), (Poll::Ready(false), 0), "refused");
}

#[derive(Debug, Clone)]
enum Step {
    Check { instance: usize, key: u8, cost: u32 },
    GiveBack { instance: usize },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let check = (
        0..3usize,
        0..2u8,
        prop_oneof![4 => Just(1u32), 1 => 0..5u32],
    )
        .prop_map(|(instance, key, cost)| Step::Check {
            instance,
            key,
            cost,
        });
    let step =
        prop_oneof![20 => check, 1 => (0..3usize).prop_map(|instance| Step::GiveBack { instance })];
    prop::collection::vec(step, 50..300)
}

/// Two policies on each request, one of them the same for all keys.
#[test]
fn no_sequence_admits_more_than_the_bursts() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let server = Server::start();
    let run = std::cell::Cell::new(0);
    let config = ProptestConfig::with_cases(24);
    proptest!(config, |(steps in steps(), most in 1..40u32)| {
        run.set(run.get() + 1);
        let name = format!("run{}", run.get());
        let policies = [("p", 40), ("total", 60)];
        let (each, total) = runtime.block_on(async {
            let leases = Leases::up_to(most);
            let instances = [(); 3].map(|()| build(&server, &name, leases, &policies));
            let mut each = [0, 0];
            for step in &steps {
                match *step {
                    Step::GiveBack { instance } => _ = instances[instance].give_back().await,
                    Step::Check { instance, key, cost } => {
                        let limiter = &instances[instance];
                        let [p, total] = ["p", "total"].map(|policy| limiter.policy(policy).unwrap());
                        let charges = [
                            limiter.charge(p, &key, cost),
                            limiter.charge(total, "all", cost),
                        ];
                        if limiter.check_all(&charges).await.is_allowed() {
                            each[usize::from(key)] += cost;
                        }
                    }
                }
            }
            for instance in &instances {
                assert_eq!(instance.store().by_rule, 0);
            }
            (each, each.iter().sum::<u32>())
        });
        prop_assert!(each[0] <= 40 && each[1] <= 40, "{each:?}");
        prop_assert!(total <= 60, "{total}");
    });
}
