//! Redis is not there, goes, comes back, or answers no more.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use gw_ratelimit::redis::{Leases, OnFailure, RedisStore, SharedLimiter};
use gw_ratelimit::{Limiter, PolicyId, Quota};
use gw_testkit::PATIENCE;
use gw_testkit::log_capture::LogCapture;

use crate::server::{SECRET, Server, UNANSWERED, stand_still, unanswered, until};

/// Longer than any test takes.
const NEVER: Duration = Duration::from_secs(3600);

pub(crate) fn build(store: &RedisStore, burst: u32) -> SharedLimiter {
    let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(burst));
    limits.build_shared(store).unwrap()
}

pub(crate) async fn allowed(limiter: &SharedLimiter, requests: usize) -> usize {
    let policy = limiter.policy("p").unwrap();
    let mut allowed = 0;
    for _ in 0..requests {
        allowed += usize::from(limiter.check(policy, "k", 1).await.is_allowed());
    }
    allowed
}

/// Asks until Redis decides again.
pub(crate) async fn recovered(limiter: &SharedLimiter) {
    let policy = limiter.policy("p").unwrap();
    let asked = async || {
        limiter.check(policy, "somebody else", 0).await;
        limiter.store().is_asked
    };
    until("Redis to decide again", asked).await;
}

/// A frozen server: how many of ten requests pass out of a burst of five, and three of them were charged before.
async fn frozen(rule: OnFailure) -> (usize, SharedLimiter, Server) {
    let server = Server::start();
    let store = server.store("test").on_failure(rule);
    let limiter = build(&store.timeout(UNANSWERED).probe_after(NEVER), 5);
    assert!(limiter.connect().await);
    assert_eq!(allowed(&limiter, 3).await, 3);
    assert_eq!(limiter.store().by_store, 3);
    server.freeze();
    let passed = unanswered(allowed(&limiter, 10)).await;
    (passed, limiter, server)
}

#[tokio::test]
async fn a_frozen_server_is_asked_a_few_times_and_then_no_more() {
    let (_, limiter, _server) = frozen(OnFailure::LocalFallback).await;
    let store = limiter.store();
    assert!(!store.is_asked);
    assert_eq!((store.failed, store.by_rule), (3, 10));
    // From here on nobody waits.
    allowed(&limiter, 1_000).await;
    let later = limiter.store();
    assert_eq!((later.asked, later.failed), (store.asked, 3));
    assert_eq!(later.by_rule, 1_010);
}

#[tokio::test]
async fn this_instance_decides_and_knows_what_redis_decided() {
    let (passed, limiter, _server) = frozen(OnFailure::LocalFallback).await;
    assert_eq!(passed, 2, "the burst less what was charged before");
    let policy = limiter.policy("p").unwrap();
    let refused = limiter.check(policy, "k", 1).await;
    assert!(refused.retry_after().is_some());
    let other = limiter.check(policy, "another", 1).await;
    assert!(other.is_allowed());
}

#[tokio::test]
async fn everything_passes_and_nothing_is_told() {
    let (passed, limiter, _server) = frozen(OnFailure::Open).await;
    assert_eq!(passed, 10);
    let decision = limiter.check(limiter.policy("p").unwrap(), "k", 99).await;
    assert!(decision.is_allowed() && decision.binding().is_none());
}

#[tokio::test]
async fn nothing_passes_unless_no_policy_is_enforced() {
    let (passed, limiter, _server) = frozen(OnFailure::Closed).await;
    assert_eq!(passed, 0);
    let policy = limiter.policy("p").unwrap();
    let decision = limiter.check(policy, "k", 1).await;
    assert!(decision.binding().is_none() && decision.retry_after().is_none());
    let handle = limiter.handle();
    handle.set_mode_of_all(gw_ratelimit::Mode::Shadow);
    assert!(limiter.check(policy, "k", 1).await.is_allowed());
    handle.set_mode_of_all(gw_ratelimit::Mode::Off);
    assert!(limiter.check(policy, "k", 1).await.is_allowed());
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    for (rule, expected) in [
        (OnFailure::LocalFallback, 5),
        (OnFailure::Open, 10),
        (OnFailure::Closed, 0),
    ] {
        // Bound, so that nobody else listens there, and not listening itself.
        let bound = tokio::net::TcpSocket::new_v4().unwrap();
        bound.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("redis://{}", bound.local_addr().unwrap());
        let store = RedisStore::new(url, "test", SECRET).on_failure(rule);
        let limiter = build(&store.timeout(UNANSWERED).probe_after(NEVER), 5);
        assert_eq!(allowed(&limiter, 10).await, expected, "{rule:?}");
        assert!(!limiter.connect().await);
        let counts = limiter.store();
        assert_eq!((counts.asked, counts.failed, counts.by_rule), (3, 3, 10));
    }
}

/// Story: a connection that Redis had ended, as it does with idle ones, was found out by the next question, which had no answer
/// then. Where requests were few, every second one was decided without Redis.
#[tokio::test]
async fn a_connection_that_ended_while_nobody_asked_costs_no_decision() {
    let server = Server::start();
    let limiter = build(&server.store("test"), 5);
    for _ in 0..4 {
        assert_eq!(allowed(&limiter, 1).await, 1);
        server.hang_up().await;
    }
    let store = limiter.store();
    assert_eq!((store.failed, store.by_rule, store.by_store), (0, 0, 4));
    // None of them was asked twice.
    assert_eq!(allowed(&limiter, 2).await, 1);
}

#[tokio::test]
async fn a_server_that_is_stopped_and_started_again_is_found_by_a_probe() {
    let mut server = Server::start();
    let store = server.store("test").probe_after(Duration::from_millis(5));
    let limiter = build(&store, 5);
    assert_eq!(allowed(&limiter, 3).await, 3);
    server.stop();
    assert_eq!(allowed(&limiter, 10).await, 2);
    assert!(!limiter.store().is_asked);
    server.start_again();
    recovered(&limiter).await;
    // It knows nothing any more.
    assert_eq!(allowed(&limiter, 10).await, 5);
}

#[tokio::test]
async fn a_server_that_thaws_is_found_by_a_probe_and_still_knows_its_debts() {
    let server = Server::start();
    let store = server.store("test").probe_after(Duration::from_millis(5));
    let limiter = build(&store.timeout(UNANSWERED), 5);
    assert!(limiter.connect().await);
    assert_eq!(allowed(&limiter, 3).await, 3);
    server.freeze();
    assert_eq!(unanswered(allowed(&limiter, 10)).await, 2);
    assert!(!limiter.store().is_asked);
    server.thaw();
    recovered(&limiter).await;
    // What was asked while it was frozen may have been charged late, once each: that is on the strict side.
    assert!(allowed(&limiter, 10).await <= 2);
}

#[tokio::test]
async fn a_dropped_question_is_charged_at_most_once_and_leaves_nothing_behind() {
    for leases in [None, Some(Leases::up_to(10))] {
        let server = Server::start();
        let mut store = server.store("test");
        if let Some(leases) = leases {
            store = store.leases(leases);
        }
        let limiter = build(&store, 1_000);
        let policy = limiter.policy("p").unwrap();
        assert_eq!(allowed(&limiter, 2).await, 2);
        server.freeze();
        let mut dropped = 0;
        for _ in 0..50 {
            let mut check = pin!(limiter.check(policy, "k", 1));
            // Polled once, so that it is on its way; then nobody waits for it any more.
            let sent = poll_fn(|cx| Poll::Ready(check.as_mut().poll(cx).is_pending())).await;
            dropped += u32::from(sent);
            tokio::task::yield_now().await;
        }
        server.thaw();
        assert!(dropped >= 40, "{dropped} were under way");
        let standing = limiter.peek(policy, None, "k").await.unwrap();
        // Each took a cell at most; those that asked for more to lease took these as well.
        let (least, most) = match leases {
            None => (1_000 - 2 - 50, 1_000 - 2),
            Some(_) => (1_000 - 2 - 50 * 12, 1_000 - 2),
        };
        let left = standing.remaining();
        assert!((least..=most).contains(&left), "{left}");
        assert!(limiter.store().is_asked, "nobody's fault");
        // All that is left can be spent, and not a cell more.
        let mut passed = 0;
        while limiter.check(policy, "k", 1).await.is_allowed() {
            passed += 1;
        }
        assert!(passed >= left && passed <= 998, "{passed} of {left}");
    }
}

#[tokio::test]
async fn a_probe_that_is_dropped_is_followed_by_another() {
    let server = Server::start();
    let store = server.store("test").failures(1);
    let store = store.timeout(UNANSWERED);
    let limiter = build(&store.probe_after(Duration::from_millis(1)), 5);
    let policy = limiter.policy("p").unwrap();
    server.freeze();
    unanswered(allowed(&limiter, 1)).await;
    assert!(!limiter.store().is_asked);
    let dropped = async || {
        let mut check = pin!(limiter.check(policy, "k", 1));
        poll_fn(|cx| Poll::Ready(check.as_mut().poll(cx).is_pending())).await
    };
    until("a probe", dropped).await;
    server.thaw();
    recovered(&limiter).await;
}

/// Story: a store that came and went wrote a warning each time, thousands an hour.
#[tokio::test]
async fn a_store_that_comes_and_goes_is_told_of_once_a_minute() {
    let server = Server::start();
    let store = server.store("test").failures(1);
    let limiter = build(&store.probe_after(Duration::from_millis(1)), 100);
    let capture = LogCapture::new();
    let coming_and_going = async {
        for _ in 0..3 {
            server.set("maxmemory", "1").await;
            while limiter.store().is_asked {
                allowed(&limiter, 1).await;
            }
            server.set("maxmemory", "0").await;
            recovered(&limiter).await;
        }
    };
    capture.scope(coming_and_going).await;
    let told = capture.only("rate limit: Redis does not answer and is not asked for now");
    assert_eq!(told.field("times").as_deref(), Some("1"));
    assert_eq!(told.field("decides").as_deref(), Some("local_fallback"));
    capture.only("rate limit: Redis answers again and decides");
}

/// Until there is a lease, and then until a store that has failed is not asked any more, though it is well again. How much was spent.
async fn leases_and_loses_its_store(
    server: &Server,
    limiter: &SharedLimiter,
    policy: PolicyId,
) -> u32 {
    let mut spent = 0;
    while limiter.store().leases == 0 {
        spent += u32::try_from(allowed(limiter, 1).await).unwrap();
    }
    server.set("maxmemory", "1").await;
    while limiter.store().is_asked {
        limiter.check(policy, "another", 1).await;
    }
    server.set("maxmemory", "0").await;
    spent
}

/// Story: nobody but a probe may ask while it is under way. Cells that were given back then were given to nobody.
#[tokio::test]
async fn who_closes_while_a_probe_is_under_way_waits_for_it() {
    let server = Server::start();
    let store = server.store("test").leases(Leases::up_to(10)).failures(1);
    let limiter = build(&store.probe_after(Duration::from_millis(1)), 100);
    let policy = limiter.policy("p").unwrap();
    let spent = leases_and_loses_its_store(&server, &limiter, policy).await;
    let mut probe = Box::pin(limiter.check(policy, "another", 1));
    let begun = async || {
        probe = Box::pin(limiter.check(policy, "another", 1));
        poll_fn(|cx| Poll::Ready(probe.as_mut().poll(cx).is_pending())).await
    };
    until("a probe", begun).await;
    let closing = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.close(PATIENCE).await }
    });
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(probe.await.is_allowed());
    assert!(closing.await.unwrap() > 0);
    let standing = limiter.peek(policy, None, "k").await.unwrap();
    assert_eq!(standing.remaining(), 100 - spent);
}

/// Whoever probes may be blocked, and never hear of the answer.
#[tokio::test]
async fn who_closes_asks_in_place_of_a_probe_that_is_blocked() {
    const PROBE_AFTER: Duration = Duration::from_millis(100);
    let server = Server::start();
    let _still = stand_still();
    let store = server.store("test").leases(Leases::up_to(10)).failures(1);
    let limiter = build(&store.timeout(PROBE_AFTER).probe_after(PROBE_AFTER), 100);
    let policy = limiter.policy("p").unwrap();
    let spent = leases_and_loses_its_store(&server, &limiter, policy).await;
    tokio::time::advance(PROBE_AFTER).await;
    let mut blocked = pin!(limiter.check(policy, "another", 1));
    assert!(poll_fn(|cx| Poll::Ready(blocked.as_mut().poll(cx).is_pending())).await);
    // It has had its time, and may not ask any more.
    tokio::time::advance(PROBE_AFTER).await;
    let closing = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.close(PATIENCE).await }
    });
    tokio::task::yield_now().await;
    tokio::time::advance(PROBE_AFTER).await;
    assert!(closing.await.unwrap() > 0);
    let standing = limiter.peek(policy, None, "k").await.unwrap();
    assert_eq!(standing.remaining(), 100 - spent);
}

#[tokio::test]
async fn a_server_that_takes_no_writes_is_a_server_that_does_not_answer() {
    let server = Server::start();
    let limiter = build(&server.store("test").probe_after(NEVER), 5);
    assert_eq!(allowed(&limiter, 1).await, 1);
    server.set("maxmemory", "1").await;
    assert_eq!(allowed(&limiter, 10).await, 4);
    let store = limiter.store();
    assert_eq!((store.failed, store.by_rule), (3, 10));
}
