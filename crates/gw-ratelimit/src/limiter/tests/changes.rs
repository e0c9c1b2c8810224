//! What an operator changes.

use std::time::Duration;

use super::*;

#[test]
fn a_quota_changes_and_debts_stay() {
    let limiter = limiter(&[("p", Quota::per_second(10).burst(100))]);
    let (p, now) = (id(&limiter, "p"), fixed());
    assert!(limiter.check(p, "k", 100, now).is_allowed());
    // More room: what was spent stays spent, ten seconds' worth.
    limiter
        .change_quota(p, Quota::per_second(10).burst(150), now)
        .unwrap();
    assert_eq!(remaining(&limiter, "p", "k", now), 50);
    // A higher rate: the same ten seconds are now worth a thousand cells, more than the burst.
    limiter
        .change_quota(p, Quota::per_second(100).burst(200), now)
        .unwrap();
    assert_eq!(remaining(&limiter, "p", "k", now), 0);
    // And the debt was cut to the burst's two seconds; otherwise the client would wait for eight of them.
    let refused = limiter.check(p, "k", 1, now);
    assert_eq!(refused.retry_after(), Some(Duration::from_millis(10)));
    assert_eq!(
        remaining(&limiter, "p", "k", now + Duration::from_secs(1)),
        100
    );
    // Nobody else is touched.
    assert_eq!(remaining(&limiter, "p", "other", now), 200);
    let error = limiter
        .change_quota(p, Quota::per_second(0), now)
        .unwrap_err();
    assert_eq!(error.to_string(), "policy \"p\": rate must be above 0");
    assert_eq!(remaining(&limiter, "p", "other", now), 200);
}

/// Story: the debts that may be left were reckoned from the time at which the operator's call came in. The walk over the
/// keys takes its time; what was charged meanwhile was cut as well, and so forgiven.
#[tokio::test(start_paused = true)]
async fn a_cut_leaves_what_was_charged_meanwhile() {
    let limiter = limiter(&[("p", Quota::per_second(1).burst(10))]);
    let (p, called) = (id(&limiter, "p"), Instant::now());
    tokio::time::advance(Duration::from_secs(1)).await;
    let now = Instant::now();
    assert!(limiter.check(p, "k", 2, now).is_allowed());
    limiter
        .change_quota(p, Quota::per_second(1).burst(2), called)
        .unwrap();
    assert_eq!(remaining(&limiter, "p", "k", now), 0);
}

#[test]
fn keys_are_freed() {
    let limiter = limiter(&[("p", Quota::per_hour(1))]);
    let (p, now) = (id(&limiter, "p"), fixed());
    assert!(limiter.check(p, "k", 1, now).is_allowed());
    assert!(!limiter.reset(p, "other"));
    assert!(limiter.reset(p, "k"));
    assert!(limiter.check(p, "k", 1, now).is_allowed());
}
