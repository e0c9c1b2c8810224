//! What an operator sets and changes.

use std::time::Duration;

use gw_ratelimit::{Limiter, Quota};

use crate::decisions::{check, limiter, remaining};
use crate::server::Server;

#[tokio::test]
async fn a_reset_key_starts_afresh() {
    let server = Server::start();
    let limiter = limiter(&server, &[("p", Quota::per_hour(1).burst(1))]);
    let policy = limiter.policy("p").unwrap();
    assert!(!limiter.reset(policy, "k").await);
    assert!(check(&limiter, "p", "k", 1).await.is_allowed());
    assert!(!check(&limiter, "p", "k", 1).await.is_allowed());
    assert!(limiter.reset(policy, "k").await);
    assert!(check(&limiter, "p", "k", 1).await.is_allowed());
}

#[tokio::test]
async fn a_quota_is_changed_live() {
    let server = Server::start();
    let limiter = limiter(&server, &[("p", Quota::per_hour(1).burst(1))]);
    assert!(check(&limiter, "p", "k", 1).await.is_allowed());
    assert!(!check(&limiter, "p", "k", 1).await.is_allowed());
    let handle = limiter.handle();
    handle.set_quota("p", Quota::per_hour(1).burst(3)).unwrap();
    assert!(check(&limiter, "p", "k", 2).await.is_allowed());
    assert!(!check(&limiter, "p", "k", 1).await.is_allowed());
}

#[tokio::test]
async fn tiers_have_quotas_of_their_own_and_one_debt() {
    let server = Server::start();
    let limits = Limiter::builder()
        .policy("p", Quota::per_hour(60).burst(2))
        .tier("p", "gold", Quota::per_hour(60).burst(5));
    let limiter = limits.build_shared(&server.store("test")).unwrap();
    let policy = limiter.policy("p").unwrap();
    let gold = limiter.tier(policy, "gold");
    assert!(gold.is_some() && limiter.tier(policy, "silver").is_none());
    let check = async |tier| {
        let charge = limiter.charge(policy, "k", 1).tier(tier);
        limiter.check_all(&[charge]).await.is_allowed()
    };
    assert!(check(None).await && check(None).await && !check(None).await);
    for expected in [true, true, true, false] {
        assert_eq!(check(gold).await, expected);
    }
    assert!(!check(None).await);
    let standing = limiter.peek(policy, gold, "k").await.unwrap();
    assert_eq!((standing.burst(), standing.remaining()), (5, 0));
    assert_eq!(limiter.peek(policy, None, "k").await.unwrap().burst(), 2);
}

#[tokio::test]
async fn strikes_are_noted_by_each_instance() {
    use gw_ratelimit::Penalty;
    let server = Server::start();
    let build = || {
        let penalty = Penalty::new(2, Duration::from_secs(3600)).max_factor(4);
        let limits = Limiter::builder()
            .policy("p", Quota::per_hour(60).burst(8))
            .penalty("p", penalty);
        limits.build_shared(&server.store("test")).unwrap()
    };
    let [one, other] = [build(), build()];
    assert!(check(&one, "p", "k", 8).await.is_allowed());
    for _ in 0..6 {
        assert!(!check(&one, "p", "k", 1).await.is_allowed());
    }
    let policy = one.policy("p").unwrap();
    assert!(
        one.reset(policy, "k").await,
        "its debt, and its strikes here"
    );
    assert!(check(&one, "p", "k", 8).await.is_allowed());
    for _ in 0..6 {
        assert!(!check(&one, "p", "k", 1).await.is_allowed());
    }
    assert!(other.reset(policy, "k").await, "its debt, for all");
    assert!(check(&one, "p", "k", 1).await.is_allowed());
    assert_eq!(remaining(&one, "p", "k").await, 4, "at four times the cost");
    assert!(check(&other, "p", "k", 1).await.is_allowed());
    assert_eq!(remaining(&one, "p", "k").await, 3, "at its cost");
}

#[test]
fn what_cannot_work_is_not_built() {
    use gw_ratelimit::redis::{Leases, RedisStore};
    let good = || RedisStore::new("redis://127.0.0.1:1", "n", "0123456789abcdef");
    let long = "0123456789abcdef";
    for (store, field) in [
        (RedisStore::new("127.0.0.1:1", "n", long), "url"),
        (
            RedisStore::new("redis://127.0.0.1:1/#insecure", "n", long),
            "url",
        ),
        // Story: these were built, and meant another database, another port and another user than they said, or none.
        (RedisStore::new("redis://127.0.0.1:1/-1", "n", long), "url"),
        (RedisStore::new("redis://127.0.0.1:0", "n", long), "url"),
        (
            RedisStore::new("redis://127.0.0.1:1?db=1", "n", long),
            "url",
        ),
        (
            RedisStore::new("redis://127.0.0.1:1/?db=1", "n", long),
            "url",
        ),
        (
            RedisStore::new("redis://user@127.0.0.1:1", "n", long),
            "url",
        ),
        (
            RedisStore::new("redis://user:@127.0.0.1:1", "n", long),
            "url",
        ),
        (RedisStore::new("unix:///redis?db=-1", "n", long), "url"),
        (RedisStore::new("unix:///redis?user=me", "n", long), "url"),
        // Story: what nobody reads was passed over, so the database was 0, and nobody was told of the user.
        (
            RedisStore::new("unix:///redis?database=1", "n", long),
            "url",
        ),
        (
            RedisStore::new("unix:///redis?username=me&password=word", "n", long),
            "url",
        ),
        (RedisStore::new("unix:///redis?db=1&db=2", "n", long), "url"),
        (
            RedisStore::new("redis://127.0.0.1:1?protocol=4", "n", long),
            "url",
        ),
        #[cfg(not(feature = "redis-tls"))]
        (RedisStore::new("rediss://127.0.0.1:1", "n", long), "url"),
        (
            RedisStore::new("redis://127.0.0.1:1", "{n}", long),
            "store name",
        ),
        (good().label("two words"), "label"),
        (
            RedisStore::new("redis://127.0.0.1:1", "n", "short"),
            "secret",
        ),
        (good().timeout(Duration::ZERO), "timeout"),
        (good().probe_after(Duration::ZERO), "probe_after"),
        // Story: it was built, and the third question without an answer panicked in a request.
        (good().probe_after(Duration::MAX), "probe_after"),
        (good().failures(0), "failures"),
        (good().failures(33), "failures"),
        (good().leases(Leases::up_to(0)), "leases"),
        (
            good().leases(Leases::up_to(1).max_keys(0)),
            "leases.max_keys",
        ),
    ] {
        let error = Limiter::builder().build_shared(&store).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(!format!("{store:?}").contains("0123456789abcdef"));
    }
    let longest = good().probe_after(RedisStore::MAX_PROBE_AFTER);
    let meant = [
        "redis://[::1]:6379/1",
        "redis://user:p%40ss@redis",
        "redis://:word@redis/0",
        "redis://redis?protocol=resp3",
        "unix:///redis?db=1&user=me&pass=word&protocol=resp2",
    ]
    .map(|url| RedisStore::new(url, "n", long));
    for store in [good(), longest].into_iter().chain(meant) {
        assert!(Limiter::builder().build_shared(&store).is_ok());
    }
}
