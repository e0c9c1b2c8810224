//! What is kept in Redis, for how long, and what is made of it when clocks or scripts are not what they were.

use std::time::Duration;

use gw_ratelimit::{Limiter, Quota};

use crate::decisions::{check, limiter, remaining};
use crate::server::{Server, until};

#[tokio::test]
async fn a_key_lives_as_long_as_its_debt() {
    let server = Server::start();
    let limiter = limiter(&server, &[("p", Quota::per_minute(6).burst(6))]);
    assert!(check(&limiter, "p", "k", 3).await.is_allowed());
    let keys = server.keys().await;
    let mut connection = server.connect().await;
    let life: i64 = redis::cmd("PTTL")
        .arg(&keys[0])
        .query_async(&mut connection)
        .await
        .unwrap();
    // Three cells of ten seconds, a millisecond for rounding, less what went by since.
    assert!((20_000..=30_001).contains(&life), "{life}");
    assert!(keys[0].starts_with("{test}:p:"), "{}", keys[0]);

    // Gone with the debt: nothing is there to sweep, and a key that is gone owes nothing.
    let short = Limiter::builder().policy("p", Quota::per_second(1_000));
    let short = short.build_shared(&server.store("short")).unwrap();
    let policy = short.policy("p").unwrap();
    assert!(short.check(policy, "k", 10).await.is_allowed());
    let gone = async || server.keys().await.len() <= 1;
    until("the key to be gone", gone).await;
    assert_eq!(
        short.peek(policy, None, "k").await.unwrap().remaining(),
        1_000
    );
}

#[tokio::test]
async fn a_server_that_forgot_the_script_learns_it_again() {
    let server = Server::start();
    let limiter = limiter(&server, &[("p", Quota::per_hour(1).burst(3))]);
    let mut connection = server.connect().await;
    for expected in [true, true, true, false] {
        let allowed = check(&limiter, "p", "k", 1).await.is_allowed();
        assert_eq!(allowed, expected);
        let _: () = redis::cmd("SCRIPT")
            .arg("FLUSH")
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    assert_eq!(limiter.store().failed, 0);
}

#[tokio::test]
async fn a_policy_stays_what_it_counts_with() {
    let server = Server::start();
    let minute = Duration::from_secs(60);
    let window = Quota::sliding_window(10, minute);
    let policies = [("p", Quota::per_hour(60)), ("w", window)];
    let limiter = limiter(&server, &policies);
    let handle = limiter.handle();
    for (policy, quota) in [
        ("p", window),
        ("w", Quota::per_hour(60)),
        ("w", Quota::sliding_window(10, 2 * minute)),
    ] {
        let error = handle.set_quota(policy, quota).unwrap_err();
        assert_eq!((error.field(), error.policy()), ("quota", Some(policy)));
    }
    assert!(check(&limiter, "w", "k", 10).await.is_allowed());
    assert!(!check(&limiter, "w", "k", 1).await.is_allowed());
    // The limit is another thing: what was spent stays spent.
    handle
        .set_quota("w", Quota::sliding_window(12, minute))
        .unwrap();
    assert!(check(&limiter, "w", "k", 2).await.is_allowed());
    assert!(!check(&limiter, "w", "k", 1).await.is_allowed());
}

#[tokio::test]
async fn a_window_written_by_a_clock_ahead_ends() {
    let server = Server::start();
    let day = Duration::from_secs(86_400);
    let limiter = limiter(&server, &[("w", Quota::sliding_window(10, day))]);
    assert!(check(&limiter, "w", "k", 7).await.is_allowed());
    let key = server.keys().await.remove(0);
    let mut connection = server.connect().await;
    let mut get = redis::cmd("GET");
    get.arg(&key);
    let held: String = get.query_async(&mut connection).await.unwrap();
    let (number, rest) = held.split_once(' ').unwrap();
    let ahead = format!("{} {rest}", number.parse::<u64>().unwrap() + 30);
    let mut set = redis::cmd("SET");
    set.arg(&key).arg(ahead);
    let _: () = set.query_async(&mut connection).await.unwrap();
    // Nothing is forgiven, nothing is added, and it counts in this window from now on.
    assert!(!check(&limiter, "w", "k", 4).await.is_allowed());
    let written: String = get.query_async(&mut connection).await.unwrap();
    assert_eq!(written, held);
    assert!(check(&limiter, "w", "k", 3).await.is_allowed());
}

#[tokio::test]
async fn a_clock_that_is_set_back_shuts_nobody_out() {
    let server = Server::start();
    let limiter = limiter(&server, &[("p", Quota::per_minute(6).burst(6))]);
    assert!(check(&limiter, "p", "k", 3).await.is_allowed());
    let key = server.keys().await.remove(0);
    let mut connection = server.connect().await;
    // As if it had been written by a clock that was an hour ahead.
    let held: String = redis::cmd("GET")
        .arg(&key)
        .query_async(&mut connection)
        .await
        .unwrap();
    let mut ahead: Vec<_> = held.split(' ').map(str::to_owned).collect();
    for time in &mut ahead[..2] {
        let (seconds, nanos) = time.split_once('.').unwrap();
        *time = format!("{}.{nanos}", seconds.parse::<u64>().unwrap() + 3_600);
    }
    let _: () = redis::cmd("SET")
        .arg(&key)
        .arg(ahead.join(" "))
        .query_async(&mut connection)
        .await
        .unwrap();

    // The debt is what it was when it was written: no more, and nothing of it is forgiven.
    assert_eq!(remaining(&limiter, "p", "k").await, 3);
    assert!(!check(&limiter, "p", "k", 4).await.is_allowed());
    assert!(check(&limiter, "p", "k", 3).await.is_allowed());
    let refused = check(&limiter, "p", "k", 1).await;
    let wait = refused.retry_after().unwrap().as_secs();
    assert!((5..=10).contains(&wait), "{wait}");
    // From now on it runs off by the clock as it is.
    let held: String = redis::cmd("GET")
        .arg(&key)
        .query_async(&mut connection)
        .await
        .unwrap();
    let (seconds, _): (u64, u64) = redis::cmd("TIME")
        .query_async(&mut connection)
        .await
        .unwrap();
    let tat: u64 = held.split('.').next().unwrap().parse().unwrap();
    assert!(tat <= seconds + 60, "{held}");
}
