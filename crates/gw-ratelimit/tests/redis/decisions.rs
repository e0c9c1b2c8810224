//! What Redis decides.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use gw_ratelimit::redis::{Leases, RedisStore, SharedLimiter};
use gw_ratelimit::{Decision, Limiter, Mode, Quota, Ruling};
use gw_testkit::{PATIENCE, within};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::server::{SECRET, Server};

pub(crate) fn limiter(server: &Server, policies: &[(&str, Quota)]) -> SharedLimiter {
    let mut limits = Limiter::builder();
    for (name, quota) in policies {
        limits = limits.policy(*name, *quota);
    }
    limits.build_shared(&server.store("test")).unwrap()
}

pub(crate) async fn check(limiter: &SharedLimiter, policy: &str, key: &str, cost: u32) -> Decision {
    let policy = limiter.policy(policy).unwrap();
    limiter.check(policy, key, cost).await
}

pub(crate) async fn remaining(limiter: &SharedLimiter, policy: &str, key: &str) -> u32 {
    let policy = limiter.policy(policy).unwrap();
    limiter.peek(policy, None, key).await.unwrap().remaining()
}

#[tokio::test]
async fn either_protocol_is_spoken() {
    let server = Server::start();
    for (protocol, left) in [("resp2", 4), ("resp3", 3)] {
        let url = format!("{}?protocol={protocol}", server.url());
        let store = RedisStore::new(url, "test", SECRET).timeout(PATIENCE);
        let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(5));
        let limiter = limits.build_shared(&store).unwrap();
        assert!(check(&limiter, "p", "k", 1).await.is_allowed());
        assert_eq!(remaining(&limiter, "p", "k").await, left, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_limit_over_two_instances_under_load() {
    let server = Server::start();
    let quota = Quota::per_hour(1).burst(50);
    let instances = [(); 2].map(|()| limiter(&server, &[("p", quota)]));
    let mut load = JoinSet::new();
    for task in 0..16 {
        let limiter = instances[task % 2].clone();
        load.spawn(async move {
            let mut allowed = 0;
            for _ in 0..25 {
                allowed += u32::from(check(&limiter, "p", "k", 1).await.is_allowed());
            }
            allowed
        });
    }
    assert_eq!(load.join_all().await.iter().sum::<u32>(), 50);
    for instance in &instances {
        let store = instance.store();
        assert_eq!(
            (store.asked, store.failed, store.by_store),
            (200, 0, 200),
            "Redis decided on all"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rate_holds_over_two_instances() {
    let server = Server::start();
    let quota = Quota::per_second(100).burst(10);
    let instances = [(); 2].map(|()| limiter(&server, &[("p", quota)]));
    let (begin, allowed) = (Instant::now(), Arc::new(AtomicU32::new(0)));
    let mut load = JoinSet::new();
    for task in 0..4 {
        let (limiter, allowed) = (instances[task % 2].clone(), Arc::clone(&allowed));
        load.spawn(async move {
            // A busy machine may take longer to see more than the burst.
            while begin.elapsed() < Duration::from_millis(600)
                || allowed.load(Ordering::Relaxed) <= 10
            {
                let decision = check(&limiter, "p", "k", 1).await;
                allowed.fetch_add(decision.is_allowed().into(), Ordering::Relaxed);
            }
        });
    }
    within("cells to come back", load.join_all()).await;
    let allowed = allowed.load(Ordering::Relaxed);
    // Rounded up: what takes longer than it was meant to may have had more.
    let most = 10.0 + 100.0 * begin.elapsed().as_secs_f64();
    assert!(f64::from(allowed) <= most, "{allowed} of {most}");
}

#[tokio::test]
async fn limiters_of_one_name_share_and_others_do_not() {
    let server = Server::start();
    let build = |name: &str, secret: &[u8]| {
        let url = format!("redis://127.0.0.1:{}", server.port());
        let store = gw_ratelimit::redis::RedisStore::new(url, name, secret);
        let store = store.timeout(Duration::from_secs(5));
        let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(1));
        limits.build_shared(&store).unwrap()
    };
    let (secret, other) = (b"0123456789abcdef", b"another 16 bytes");
    assert!(check(&build("a", secret), "p", "k", 1).await.is_allowed());
    assert!(!check(&build("a", secret), "p", "k", 1).await.is_allowed());
    assert!(check(&build("b", secret), "p", "k", 1).await.is_allowed());
    assert!(check(&build("a", other), "p", "k", 1).await.is_allowed());
}

#[tokio::test]
async fn all_policies_are_charged_or_none() {
    let server = Server::start();
    let (a, b) = (Quota::per_hour(1).burst(5), Quota::per_hour(1).burst(2));
    let limiter = limiter(&server, &[("a", a), ("b", b)]);
    let both = ["a", "b"].map(|policy| {
        let policy = limiter.policy(policy).unwrap();
        limiter.charge(policy, "k", 1)
    });
    let mut rulings = Vec::new();
    for _ in 0..3 {
        let decision = limiter.check_all(&both).await;
        rulings.push(decision.is_allowed());
        if !decision.is_allowed() {
            let binding = decision.binding().unwrap();
            assert_eq!(binding.policy(), limiter.policy("b").unwrap());
            let wait = decision.retry_after().unwrap().as_secs();
            assert!((3590..=3600).contains(&wait), "{wait}");
            let told = decision.standings().iter().map(|s| s.remaining());
            assert_eq!(told.collect::<Vec<_>>(), [3, 0]);
        }
    }
    assert_eq!(rulings, [true, true, false]);
    assert_eq!(remaining(&limiter, "a", "k").await, 3);
    assert_eq!(remaining(&limiter, "b", "k").await, 0);
}

#[tokio::test]
async fn rates_and_windows_of_two_instances_are_charged_all_or_none() {
    let server = Server::start();
    let minute = Duration::from_secs(60);
    let build = |leases: Option<Leases>| {
        let mut store = server.store("test");
        if let Some(leases) = leases {
            store = store.leases(leases);
        }
        let limits = Limiter::builder()
            .policy("rate", Quota::per_hour(1).burst(30))
            .policy("window", Quota::sliding_window(20, 10 * minute))
            .policy("day", Quota::sliding_window(25, 1_440 * minute));
        limits.build_shared(&store).unwrap()
    };
    // Rates may be leased; windows are asked for.
    let instances = [build(None), build(Some(Leases::up_to(4)))];
    let mut passed = 0;
    for number in 0..60 {
        let limiter = &instances[number % 2];
        let charges = ["rate", "window", "day"].map(|policy| {
            let policy = limiter.policy(policy).unwrap();
            limiter.charge(policy, "k", 1)
        });
        let decision = limiter.check_all(&charges).await;
        passed += u32::from(decision.is_allowed());
        if !decision.is_allowed() {
            let binding = decision.binding().unwrap();
            assert_eq!(binding.policy(), limiter.policy("window").unwrap());
            assert_eq!((binding.burst(), binding.remaining()), (20, 0));
            assert_eq!(binding.burst_window(), 10 * minute);
            // Until the next window at least, and at most through that one.
            let wait = decision.retry_after().unwrap();
            assert!(wait > Duration::ZERO && wait <= 20 * minute, "{wait:?}");
        }
    }
    // Should a window of ten minutes have ended meanwhile, as many again fade out.
    assert!((20..=21).contains(&passed), "{passed}");
    let [one, other] = &instances;
    assert_eq!(remaining(one, "day", "k").await, 25 - passed);
    other.close(Duration::from_secs(5)).await;
    // Cells that others were charged after are not given back.
    let left = remaining(one, "rate", "k").await;
    assert!((30 - passed - 4..=30 - passed).contains(&left), "{left}");
    let mut windows = server.keys().await;
    windows.retain(|key| key.contains("/"));
    assert_eq!(windows.len(), 2, "{windows:?}");
    let mut connection = server.connect().await;
    for key in windows {
        let life: u64 = redis::cmd("PTTL")
            .arg(&key)
            .query_async(&mut connection)
            .await
            .unwrap();
        let length = if key.contains("day") { 1_440 } else { 10 } * minute;
        let life = Duration::from_millis(life);
        assert!(life > length - minute && life <= 2 * length + Duration::from_millis(1));
        assert!(key.starts_with("{test}:"), "{key}");
    }
    assert!(one.reset(one.policy("window").unwrap(), "k").await);
    assert_eq!(remaining(one, "window", "k").await, 20);
}

#[tokio::test]
async fn a_key_that_is_named_twice_pays_twice() {
    let server = Server::start();
    let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(5));
    let store = server.store("test");
    let plain = limits.clone().build_shared(&store).unwrap();
    let leased = store.leases(Leases::up_to(4));
    let leased = limits.build_shared(&leased).unwrap();
    for (limiter, key) in [(plain, "plain"), (leased, "leased")] {
        let charge = limiter.charge(limiter.policy("p").unwrap(), key, 1);
        let mut rulings = Vec::new();
        for _ in 0..3 {
            rulings.push(limiter.check_all(&[charge, charge]).await.is_allowed());
        }
        assert_eq!(rulings, [true, true, false], "{key}");
        assert_eq!(remaining(&limiter, "p", key).await, 1, "{key}");
        let never = limiter.charge(limiter.policy("p").unwrap(), "other", 3);
        assert!(!limiter.check_all(&[never, never]).await.is_allowed());
        assert_eq!(remaining(&limiter, "p", "other").await, 5);
    }
}

#[tokio::test]
async fn costs() {
    let server = Server::start();
    let limiter = limiter(&server, &[("p", Quota::per_hour(1).burst(5))]);
    assert!(check(&limiter, "p", "k", 0).await.is_allowed());
    assert!(server.keys().await.is_empty(), "free of charge, not noted");
    assert!(check(&limiter, "p", "k", 3).await.is_allowed());
    let refused = check(&limiter, "p", "k", 3).await;
    let wait = refused.retry_after().unwrap().as_secs();
    assert!((3590..=3600).contains(&wait), "{wait}");
    assert!(check(&limiter, "p", "k", 2).await.is_allowed());
    assert!(check(&limiter, "p", "k", 0).await.is_allowed());
    let never = check(&limiter, "p", "k", 6).await;
    assert_eq!(never.binding().unwrap().ruling(), Ruling::TooCostly);
    assert_eq!(never.retry_after(), None);
}

#[tokio::test]
async fn who_only_watches_refuses_nobody_and_is_charged_what_it_allows() {
    let server = Server::start();
    let limits = Limiter::builder()
        .policy("enforced", Quota::per_hour(1).burst(3))
        .policy_in("shadow", Quota::per_hour(1).burst(1), Mode::Shadow)
        .policy_in("off", Quota::per_hour(1).burst(1), Mode::Off);
    let limiter = limits.build_shared(&server.store("test")).unwrap();
    let all = ["enforced", "shadow", "off"].map(|policy| {
        let policy = limiter.policy(policy).unwrap();
        limiter.charge(policy, "k", 1)
    });
    for expected in [true, true, true, false] {
        assert_eq!(limiter.check_all(&all).await.is_allowed(), expected);
    }
    let snapshot = limiter.handle().snapshot();
    let counts: Vec<_> = snapshot
        .iter()
        .map(|policy| (policy.allowed, policy.limited, policy.would_limit))
        .collect();
    assert_eq!(counts, [(3, 1, 0), (1, 0, 3), (0, 0, 0)]);
    assert_eq!(server.keys().await.len(), 2);
}

#[tokio::test]
async fn quotas_of_years_and_of_nanoseconds() {
    let server = Server::start();
    let year = Duration::from_secs(366 * 24 * 60 * 60);
    let policies = [
        ("year", Quota::per(year, 2).burst(20)),
        ("fast", Quota::per_second(250_000_000).burst(u32::MAX)),
        ("month", Quota::per(year / 12, 1).burst(1)),
    ];
    let limiter = limiter(&server, &policies);
    for (policy, left) in [("year", 19), ("month", 0)] {
        assert!(check(&limiter, policy, "k", 1).await.is_allowed());
        assert_eq!(remaining(&limiter, policy, "k").await, left, "{policy}");
    }
    let refused = check(&limiter, "month", "k", 1).await;
    let days = refused.retry_after().unwrap().as_secs_f64() / 86_400.0;
    assert!((30.4..=30.5).contains(&days), "{days}");
    assert!(check(&limiter, "fast", "k", u32::MAX).await.is_allowed());
    assert!(!check(&limiter, "fast", "k", u32::MAX).await.is_allowed());
}

/// Story: Redis counted such a quota in microseconds and what it said was read in nanoseconds, so the last hundreds of cells were said
/// to be gone, and who was refused was sent away for half a minute in place of half a second.
#[tokio::test]
async fn what_is_left_of_millions_a_year_is_told_exactly() {
    const MANY: u32 = 70_000_000;
    let server = Server::start();
    let year = Duration::from_secs(366 * 24 * 60 * 60);
    let limiter = limiter(&server, &[("p", Quota::per(year, MANY).burst(MANY))]);
    assert!(check(&limiter, "p", "k", MANY - 20).await.is_allowed());
    // Two cells come each second.
    let left = remaining(&limiter, "p", "k").await;
    assert!((20..60).contains(&left), "{left}");
    let refused = check(&limiter, "p", "k", 80).await;
    let wait = refused.retry_after().unwrap().as_secs();
    assert!((1..40).contains(&wait), "{wait}");
}
