//! Several runtimes, such as those of lanes with threads of their own: none of them may hold what all need.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gw_ratelimit::redis::{Leases, RedisStore, SharedLimiter};
use gw_ratelimit::{Limiter, Quota};
use gw_testkit::within;
use tokio::runtime::Builder;

use crate::failures::{allowed, recovered};
use crate::server::{Server, until};

fn build(store: &RedisStore) -> SharedLimiter {
    let limits = Limiter::builder().policy("p", Quota::per_hour(1).burst(100));
    limits.build_shared(store).unwrap()
}

/// Built where there is no runtime, as a program does that starts its runtimes later.
async fn build_outside(store: RedisStore) -> SharedLimiter {
    on_a_thread(move || build(&store)).await
}

async fn on_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = tokio::sync::oneshot::channel();
    thread::spawn(move || _ = done.send(run()));
    within("a thread", result).await.unwrap()
}

/// What `asking` says in a runtime of its own, which has ended by then.
async fn elsewhere<T: Send + 'static, F: Future<Output = T>>(
    asking: impl FnOnce() -> F + Send + 'static,
) -> T {
    on_a_thread(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(asking())
    })
    .await
}

/// What `asking` says in a runtime that is blocked from then on, until the other value is dropped.
pub(crate) async fn in_what_blocks<T: Send + 'static, F: Future<Output = T>>(
    asking: impl FnOnce() -> F + Send + 'static,
) -> (T, mpsc::Sender<()>) {
    let (end, ended) = mpsc::channel::<()>();
    let (done, result) = tokio::sync::oneshot::channel();
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            _ = done.send(asking().await);
            _ = ended.recv();
        });
    });
    (within("the first answer", result).await.unwrap(), end)
}

/// Story: the connection lived in the runtime of whoever asked first. Where that was a lane with a thread of its own, a handler
/// that blocked it let the checks of all other lanes run into their timeout, and Redis was not asked any more.
#[tokio::test]
async fn a_blocked_thread_that_has_asked_first_holds_up_nobody() {
    let server = Server::start();
    let limiter = build(&server.store("test"));
    let lane = limiter.clone();
    let (asked, _blocked) = in_what_blocks(async move || allowed(&lane, 1).await).await;
    assert_eq!((asked, allowed(&limiter, 1).await), (1, 1));
    let store = limiter.store();
    assert_eq!((store.failed, store.by_store), (0, 2));
}

#[tokio::test]
async fn nor_does_one_that_has_had_a_lost_connection_made_anew() {
    let mut server = Server::start();
    let store = server.store("test").probe_after(Duration::from_millis(5));
    let limiter = build_outside(store).await;
    assert!(limiter.connect().await);
    server.stop();
    while limiter.store().is_asked {
        allowed(&limiter, 1).await;
    }
    server.start_again();
    let lane = limiter.clone();
    let ((), _blocked) = in_what_blocks(async move || recovered(&lane).await).await;
    let before = limiter.store();
    assert_eq!(allowed(&limiter, 1).await, 1);
    let store = limiter.store();
    assert_eq!(store.failed, before.failed);
    assert_eq!(store.by_store, before.by_store + 1);
}

/// Story: a gateway's lanes end before what they have leased is given back. The connection was gone with them, so it was not.
#[tokio::test]
async fn what_is_leased_is_given_back_when_the_runtime_that_leased_it_has_ended() {
    let server = Server::start();
    let limiter = build(&server.store("test").leases(Leases::up_to(20)));
    let lane = limiter.clone();
    assert_eq!(elsewhere(async move || allowed(&lane, 5).await).await, 5);
    assert!(limiter.store().leases > 0);
    assert!(limiter.close(gw_testkit::PATIENCE).await > 0);
    assert_eq!(limiter.store().failed, 0);
}

/// Story: what nobody spends was given back by a task in the runtime of whoever leased first. Once that was blocked, no lease came
/// back.
#[tokio::test]
async fn what_is_not_spent_is_given_back_though_the_thread_that_leased_first_is_blocked() {
    let server = Server::start();
    let limiter = build(&server.store("test").leases(Leases::up_to(20)));
    assert!(limiter.connect().await);
    let lane = limiter.clone();
    let leasing = async move || {
        while lane.store().leases == 0 {
            allowed(&lane, 1).await;
        }
    };
    let ((), _blocked) = in_what_blocks(leasing).await;
    tokio::time::pause();
    // Longer than a lease is held, and less than it takes to run off.
    let given = async || {
        tokio::time::advance(Duration::from_millis(100)).await;
        limiter.store().leases == 0
    };
    until("the lease to be given back", given).await;
    assert_eq!(limiter.store().failed, 0);
}

#[tokio::test]
async fn a_limiter_outlives_the_runtime_that_it_was_built_and_connected_in() {
    let server = Server::start();
    let store = server.store("test").probe_after(Duration::from_millis(5));
    let limiter = elsewhere(async move || {
        let limiter = build(&store);
        assert!(limiter.connect().await);
        limiter
    })
    .await;
    let asked = async || {
        allowed(&limiter, 1).await;
        limiter.store().by_store > 0
    };
    until("Redis to be asked", asked).await;
}
