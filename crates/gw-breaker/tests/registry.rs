//! As many breakers as there is room for.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::num::NonZeroU32;

use gw_breaker::{BreakerLayer, BreakersHandle, State, UpstreamName};
use http::Request;
use support::{Inner, SECOND, config};
use tokio::time::advance;
use tower::{Layer as _, ServiceExt as _};

struct Upstreams {
    layer: BreakerLayer<gw_breaker::Keyed<gw_breaker::ByUpstream>>,
    inner: Inner,
}

impl Upstreams {
    fn new(capacity: u32) -> Self {
        let layer = BreakerLayer::builder("other")
            .config(config())
            .per_upstream()
            .capacity(NonZeroU32::new(capacity).unwrap())
            .idle(60 * SECOND)
            .build()
            .unwrap();
        Self {
            layer,
            inner: Inner::new(),
        }
    }

    fn handle(&self) -> BreakersHandle {
        self.layer.handle()
    }

    async fn send(&self, upstream: &str, status: u16) -> u16 {
        self.inner.status(status);
        let mut request = Request::new(());
        request.extensions_mut().insert(UpstreamName::new(upstream));
        let answer = self.layer.layer(self.inner.clone()).oneshot(request).await;
        answer.unwrap().status().as_u16()
    }

    async fn opens(&self, upstream: &str) {
        for _ in 0..3 {
            self.send(upstream, 500).await;
        }
        assert_eq!(self.send(upstream, 200).await, 503);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_breaker_is_not_forgotten_for_a_newcomer() {
    let upstreams = Upstreams::new(2);
    upstreams.opens("broken").await;
    for newcomer in 0..100 {
        assert_eq!(upstreams.send(&newcomer.to_string(), 200).await, 200);
        assert_eq!(upstreams.handle().all().len(), 3);
    }
    assert_eq!(upstreams.send("broken", 200).await, 503);
    // The newest is the one that is known beside it.
    assert!(upstreams.handle().upstream("99").is_some());
}

#[tokio::test(start_paused = true)]
async fn without_room_newcomers_share_one() {
    let upstreams = Upstreams::new(2);
    upstreams.opens("broken").await;
    upstreams.opens("broken too").await;
    assert_eq!(upstreams.send("new", 500).await, 500);
    assert_eq!(upstreams.send("newer", 500).await, 500);
    let shared = upstreams.handle().all().pop().unwrap().snapshot();
    assert_eq!(
        (shared.upstream.as_str(), shared.consecutive_failures),
        ("other", 2)
    );
    // When one closes, there is room again.
    advance(10 * SECOND).await;
    for _ in 0..2 {
        assert_eq!(upstreams.send("broken", 200).await, 200);
    }
    assert_eq!(upstreams.send("newest", 200).await, 200);
    assert!(upstreams.handle().upstream("newest").is_some());
    assert!(upstreams.handle().upstream("broken").is_none());
}

/// Story: a closed breaker was forgotten for a newcomer whatever had failed already. Who sent requests with new keys, one
/// after each failure, had it forgotten each time, and the breaker of a broken upstream never opened.
#[tokio::test(start_paused = true)]
async fn new_keys_do_not_wash_a_breaker_clean() {
    let upstreams = Upstreams::new(2);
    for failure in 0..3 {
        assert_eq!(upstreams.send("failing", 500).await, 500);
        for newcomer in 0..20 {
            let newcomer = format!("{failure} {newcomer}");
            assert_eq!(upstreams.send(&newcomer, 200).await, 200);
            assert_eq!(upstreams.handle().all().len(), 3);
        }
    }
    assert_eq!(upstreams.send("failing", 200).await, 503);
    // Nor do they where all of them have something against them: they share one then.
    let upstreams = Upstreams::new(2);
    for name in ["a", "b", "c", "d"] {
        upstreams.send(name, 500).await;
    }
    let failures = |snapshot: &gw_breaker::Snapshot| snapshot.consecutive_failures;
    let counted: Vec<_> = upstreams.handle().snapshot().iter().map(failures).collect();
    assert_eq!(counted, [1, 1, 2]);
    // What nobody has asked for in long goes all the same, so that a few failures do not hold a place for ever.
    upstreams.send("e", 200).await;
    advance(61 * SECOND).await;
    upstreams.send("f", 200).await;
    assert!(upstreams.handle().upstream("f").is_some());
}

/// Story: what a keyed layer kept from before a new configuration was handed out as it was, so each request looked the new
/// one up under a second lock, for good.
#[tokio::test(start_paused = true)]
async fn what_is_kept_catches_up_with_a_new_configuration() {
    let upstreams = Upstreams::new(10);
    upstreams.send("orders", 200).await;
    let handle = upstreams.handle().upstream("orders").unwrap();
    upstreams.handle().reconfigure(&config()).unwrap();
    // The clone that the handle has knows nothing of it, and one that is found anew does.
    assert!(handle.breaker().admit_if_closed().is_none());
    let found = upstreams.handle().upstream("orders").unwrap();
    assert!(found.breaker().admit_if_closed().is_some());
    // One that is configured by itself is found so as well.
    found.reconfigure(&config()).unwrap();
    let found = upstreams.handle().upstream("orders").unwrap();
    assert!(found.breaker().admit_if_closed().is_some());
}

#[tokio::test(start_paused = true)]
async fn who_is_asked_for_stays_and_who_is_not_goes() {
    let upstreams = Upstreams::new(4);
    for name in ["a", "b", "c", "d"] {
        upstreams.send(name, 200).await;
    }
    // The first newcomer clears the marks of all and takes the place of one; from then on those in use are spared.
    upstreams.send("e", 200).await;
    for newcomer in 0..20 {
        for used in ["c", "d"] {
            upstreams.send(used, 200).await;
        }
        upstreams.send(&newcomer.to_string(), 200).await;
    }
    let names: Vec<_> = upstreams
        .handle()
        .snapshot()
        .into_iter()
        .map(|one| one.upstream.to_string())
        .collect();
    assert_eq!(names.len(), 5);
    assert!(
        names.contains(&"c".to_owned()) && names.contains(&"d".to_owned()),
        "{names:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn idle_ones_go_where_there_is_room_too() {
    let upstreams = Upstreams::new(100);
    upstreams.opens("broken").await;
    upstreams.send("idle", 200).await;
    // Newcomers have the marks of the others cleared, and later their time.
    upstreams.send("first", 200).await;
    advance(61 * SECOND).await;
    upstreams.handle().upstream("broken").unwrap().force_open();
    upstreams.send("second", 200).await;
    let handle = upstreams.handle();
    assert!(handle.upstream("idle").is_none());
    assert_eq!(
        handle.upstream("broken").unwrap().snapshot().state,
        State::ForcedOpen
    );
    assert!(handle.upstream("second").is_some());
}

#[tokio::test(start_paused = true)]
async fn all_are_configured_and_those_to_come() {
    let upstreams = Upstreams::new(10);
    upstreams.send("old", 200).await;
    upstreams
        .handle()
        .reconfigure(&config().consecutive_failures(1))
        .unwrap();
    for name in ["old", "new"] {
        upstreams.send(name, 500).await;
        assert_eq!(upstreams.send(name, 200).await, 503);
    }
    assert!(
        upstreams
            .handle()
            .reconfigure(&config().min_calls(0))
            .is_err()
    );
}
