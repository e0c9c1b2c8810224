//! As many breakers as there is room for.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::future::Future as _;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use gw_breaker::key::{Header, key_fn};
use gw_breaker::{
    Admission, BreakerLayer, BreakersHandle, Ended, Jitter, Mode, OpenTime, Outcome, State,
    UpstreamName,
};
use gw_testkit::gw_core::context::Deadline;
use http::{HeaderName, HeaderValue, Request};
use support::{Act, Inner, SECOND, config};
use tokio::time::{Instant, advance};
use tower::{Layer as _, ServiceExt as _};

struct Upstreams {
    layer: BreakerLayer<gw_breaker::Keyed<gw_breaker::ByUpstream>>,
    inner: Inner,
}

impl Upstreams {
    fn new(capacity: u32) -> Self {
        Self::idle_after(capacity, 60 * SECOND)
    }

    fn idle_after(capacity: u32, idle: Duration) -> Self {
        let layer = BreakerLayer::builder("other")
            .config(config())
            .per_upstream()
            .capacity(NonZeroU32::new(capacity).unwrap())
            .idle(idle)
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
        let service = self.layer.layer(self.inner.clone());
        let answer = service.oneshot(request(upstream)).await;
        answer.unwrap().status().as_u16()
    }

    async fn opens(&self, upstream: &str) {
        for _ in 0..3 {
            self.send(upstream, 500).await;
        }
        assert_eq!(self.send(upstream, 200).await, 503);
    }

    fn knows(&self, upstream: &str) -> bool {
        let named = |one: &gw_breaker::Snapshot| one.upstream.as_str() == upstream;
        self.handle().snapshot().iter().any(named)
    }

    /// Twice, since the first one finds that the others were asked for.
    async fn newcomers(&self) {
        for name in ["newcomer", "another newcomer"] {
            assert_eq!(self.send(name, 200).await, 200);
        }
    }
}

fn fails(admission: Admission) {
    admission.record(Ended::with(Outcome::Failure), Instant::now());
}

const LONG: Duration = Duration::from_secs(600);

fn request(upstream: &str) -> Request<()> {
    let mut request = Request::new(());
    request.extensions_mut().insert(UpstreamName::new(upstream));
    request
}

const MILLISECOND: Duration = Duration::from_millis(1);

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
    let upstreams = Upstreams::idle_after(2, LONG);
    upstreams.opens("broken").await;
    upstreams.opens("broken too").await;
    assert_eq!(upstreams.send("new", 500).await, 500);
    assert_eq!(upstreams.send("newer", 500).await, 500);
    let shared = upstreams.handle().all().pop().unwrap().snapshot();
    assert_eq!(
        (shared.upstream.as_str(), shared.consecutive_failures),
        ("other", 2)
    );
    // When one closes, and would be open for the shortest time again, there is room.
    advance(10 * SECOND).await;
    for _ in 0..2 {
        assert_eq!(upstreams.send("broken", 200).await, 200);
    }
    advance(81 * SECOND).await;
    assert_eq!(upstreams.send("newest", 200).await, 200);
    assert!(upstreams.handle().upstream("newest").is_some());
    assert!(upstreams.handle().upstream("broken").is_none());
}

/// Story: where none could go, each request of a key without a place looked at the others in vain, under the lock that all requests
/// read under.
#[tokio::test(start_paused = true)]
async fn once_all_were_looked_at_in_vain_newcomers_share_without_a_look() {
    let upstreams = Upstreams::new(1);
    upstreams.send("in use", 200).await;
    let handle = upstreams.handle().upstream("in use").unwrap();
    assert_eq!(upstreams.send("new", 200).await, 200);
    assert!(!upstreams.knows("new"));
    // It may go, but nobody looks.
    drop(handle);
    upstreams.send("newer", 200).await;
    assert!(upstreams.knows("in use"));
    advance(MILLISECOND).await;
    upstreams.send("newest", 200).await;
    assert!(upstreams.knows("newest") && !upstreams.knows("in use"));
}

#[tokio::test(start_paused = true)]
async fn who_may_go_is_found_before_newcomers_stop_looking() {
    const MANY: u32 = 20;
    for idle in 0..MANY {
        let upstreams = Upstreams::new(MANY);
        for name in 0..MANY {
            upstreams.send(&name.to_string(), 200).await;
        }
        let mut in_use = upstreams.handle().all();
        in_use.swap_remove(idle as usize);
        // Each looks at eight of them.
        for newcomer in ["a", "b", "c"] {
            upstreams.send(newcomer, 200).await;
        }
        assert!(!upstreams.knows(&idle.to_string()), "{idle}");
    }
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

/// Story: keys that failed now and then held their places until they were idle for long, and newcomers shared one breaker for
/// that long, where one of them opened it for all.
#[tokio::test(start_paused = true)]
async fn who_has_failed_once_and_is_not_asked_for_makes_room() {
    let upstreams = Upstreams::idle_after(2, LONG);
    for name in ["a", "b"] {
        upstreams.send(name, 500).await;
    }
    // The first look finds that both were asked for.
    upstreams.send("c", 200).await;
    assert!(upstreams.handle().upstream("c").is_none());
    // As long as a breaker is open at the longest: one that had opened would let a probe pass now. One that is clean goes first.
    advance(80 * SECOND - MILLISECOND).await;
    upstreams.send("c", 200).await;
    assert!(upstreams.handle().upstream("c").is_none());
    advance(MILLISECOND).await;
    for name in ["c", "d", "e"] {
        upstreams.send(name, 200).await;
        assert!(upstreams.handle().upstream(name).is_some());
    }
    assert_eq!(upstreams.handle().all().len(), 3);
}

/// Story: after the shortest open time failures were forgotten already, and that may be short: the breaker of an upstream that was
/// asked for less often never opened while new keys came.
#[tokio::test(start_paused = true)]
async fn new_keys_do_not_wash_one_clean_that_is_asked_for_now_and_then() {
    let upstreams = Upstreams::idle_after(2, LONG);
    upstreams.send("other", 500).await;
    for failure in 0..2 {
        assert_eq!(upstreams.send("failing", 500).await, 500);
        for newcomer in 0..18 {
            // The other one fails on, and stays as well.
            if newcomer % 6 == 0 {
                let other = upstreams.handle().upstream("other").unwrap();
                other.reset();
                upstreams.send("other", 500).await;
            }
            let newcomer = format!("{failure} {newcomer}");
            assert_eq!(upstreams.send(&newcomer, 200).await, 200);
            advance(4 * SECOND).await;
        }
    }
    assert_eq!(upstreams.send("failing", 500).await, 500);
    assert_eq!(upstreams.send("failing", 200).await, 503);
}

/// Story: a breaker whose calls had not ended yet counted as one that had nothing against its upstream. With new keys it was
/// forgotten before its calls failed, and an upstream that hangs was called on and on.
#[tokio::test(start_paused = true)]
async fn one_whose_calls_are_under_way_is_not_forgotten() {
    let upstreams = Upstreams::new(2);
    upstreams.opens("broken").await;
    let mut hanging = Vec::new();
    for call in 0..3 {
        upstreams.inner.does(Act::Hang);
        let mut request = request("hangs");
        let deadline = Deadline::at(Instant::now() + 5 * SECOND);
        request.extensions_mut().insert(deadline);
        let service = upstreams.layer.layer(upstreams.inner.clone());
        let mut future = Box::pin(service.oneshot(request));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(future.as_mut().poll(&mut cx).is_pending());
        hanging.push(future);
        for newcomer in 0..20 {
            upstreams.send(&format!("{call} {newcomer}"), 200).await;
        }
        advance(SECOND).await;
    }
    advance(5 * SECOND).await;
    drop(hanging);
    assert_eq!(upstreams.send("hangs", 200).await, 503);
}

/// Story: one whose calls took longer than a breaker is open at first was forgotten, and what became of them counted for nobody.
#[tokio::test(start_paused = true)]
async fn one_whose_calls_take_long_goes_only_when_it_is_idle() {
    let upstreams = Upstreams::idle_after(1, LONG);
    upstreams.send("slow", 500).await;
    let slow = upstreams.handle().upstream("slow").unwrap();
    let calls = [(); 2].map(|()| slow.breaker().admit(Instant::now()).unwrap());
    drop(slow);
    upstreams.newcomers().await;
    advance(LONG - MILLISECOND).await;
    upstreams.newcomers().await;
    assert!(upstreams.knows("slow"));
    calls.into_iter().for_each(fails);
    assert_eq!(upstreams.send("slow", 200).await, 503);

    let upstreams = Upstreams::idle_after(1, LONG);
    upstreams.send("slow", 200).await;
    let slow = upstreams.handle().upstream("slow").unwrap();
    let call = slow.breaker().admit(Instant::now()).unwrap();
    drop(slow);
    upstreams.newcomers().await;
    advance(LONG).await;
    upstreams.newcomers().await;
    assert!(!upstreams.knows("slow"));
    fails(call);
}

/// Story: a call that was admitted under a configuration that the registry had not seen yet was not seen either, so its breaker
/// was forgotten before the call had failed.
#[tokio::test(start_paused = true)]
async fn one_whose_calls_are_under_way_with_a_new_configuration_is_not_forgotten() {
    let upstreams = Upstreams::new(1);
    upstreams.send("configured", 200).await;
    let configured = upstreams.handle().upstream("configured").unwrap();
    configured.reconfigure(&config()).unwrap();
    let call = configured.breaker().admit(Instant::now()).unwrap();
    drop(configured);
    upstreams.newcomers().await;
    fails(call);
    let known = upstreams.handle().snapshot();
    assert_eq!(known[0].upstream.as_str(), "configured");
    assert_eq!(known[0].consecutive_failures, 1);
    // Nor is it kept for having been configured.
    let upstreams = Upstreams::new(1);
    upstreams.send("configured", 200).await;
    let configured = upstreams.handle().upstream("configured").unwrap();
    configured.reconfigure(&config()).unwrap();
    drop(configured);
    upstreams.newcomers().await;
    assert!(!upstreams.knows("configured"));
}

/// Story: one that had just closed was forgotten as one with nothing against it. With new keys an upstream that broke again and
/// again was away for the shortest open time each time.
#[tokio::test(start_paused = true)]
async fn one_that_was_open_lately_is_not_clean() {
    for (forget_after, closed_for) in [(None, 80), (Some(5), 5), (Some(200), 200)] {
        let upstreams = Upstreams::idle_after(1, LONG);
        let open = OpenTime::exponential(10 * SECOND, 80 * SECOND).jitter(Jitter::None);
        let open = forget_after.map_or(open, |after| open.forget_after(after * SECOND));
        let handle = upstreams.handle();
        handle.reconfigure(&config().open_time(open)).unwrap();
        upstreams.opens("flaps").await;
        advance(10 * SECOND).await;
        for _ in 0..2 {
            assert_eq!(upstreams.send("flaps", 200).await, 200);
        }
        upstreams.newcomers().await;
        // Changes within one millisecond are told apart by moments of their own.
        let few = 10 * MILLISECOND;
        advance(closed_for * SECOND - few).await;
        upstreams.newcomers().await;
        assert!(upstreams.knows("flaps"), "{forget_after:?}");
        advance(2 * few).await;
        upstreams.newcomers().await;
        assert!(!upstreams.knows("flaps"), "{forget_after:?}");
    }
}

/// Story: an open breaker was kept for ever, also if nobody asked for it any more. Who caused a few failures for each of as many
/// keys as there was room for had all newcomers share one breaker for good.
#[tokio::test(start_paused = true)]
async fn an_open_one_that_nobody_asks_for_goes_once_its_time_is_over() {
    let upstreams = Upstreams::idle_after(2, 8 * SECOND);
    upstreams.opens("gone").await;
    upstreams.opens("gone too").await;
    // At first both are found to have been asked for; then idle, but kept from being called still.
    for (after, known) in [(0, false), (9, false), (1, true)] {
        advance(after * SECOND).await;
        upstreams.send("new", 200).await;
        assert_eq!(upstreams.handle().upstream("new").is_some(), known);
    }
    assert_eq!(upstreams.handle().all().len(), 2);
    // Who was told what to do stays.
    let upstreams = Upstreams::new(1);
    upstreams.send("forced", 200).await;
    upstreams.handle().upstream("forced").unwrap().force_open();
    upstreams.send("new", 200).await;
    advance(600 * SECOND).await;
    upstreams.send("new", 200).await;
    assert!(upstreams.handle().upstream("new").is_none());
}

/// Story: whoever was there when all were switched off stayed for good, and operators could find no newcomer.
#[tokio::test(start_paused = true)]
async fn off_newcomers_replace_whom_nobody_asks_for() {
    let upstreams = Upstreams::new(2);
    upstreams.send("told", 200).await;
    upstreams.send("off", 200).await;
    upstreams.handle().set_mode(Mode::Off);
    upstreams.handle().upstream("told").unwrap().force_open();
    upstreams.newcomers().await;
    assert!(!upstreams.knows("off"));
    assert!(upstreams.knows("another newcomer"));
    // Who was told what to do stays.
    assert_eq!(upstreams.send("told", 200).await, 503);
    // And so does one that alone is off: it would be made anew as one that is not.
    let upstreams = Upstreams::new(1);
    upstreams.send("off", 200).await;
    let alone = upstreams.handle().upstream("off").unwrap();
    alone.set_mode(Mode::Off);
    drop(alone);
    upstreams.newcomers().await;
    advance(600 * SECOND).await;
    upstreams.newcomers().await;
    assert!(upstreams.knows("off") && !upstreams.knows("newcomer"));
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

/// Story: with no idle time a breaker that was asked for at this moment was idle, so each new key had those forgotten that were
/// in use.
#[test]
fn an_idle_time_that_protects_nobody_is_refused() {
    let build = |idle| {
        let layer = BreakerLayer::builder("other").per_upstream().idle(idle);
        layer.build().map(drop)
    };
    for idle in [Duration::ZERO, SECOND - MILLISECOND] {
        assert_eq!(build(idle).unwrap_err().field(), "idle");
    }
    build(SECOND).unwrap();
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

#[tokio::test(start_paused = true)]
async fn breakers_are_found_by_what_their_keys_hash_as() {
    let gold = || HeaderValue::from_static("gold");
    let builder = || BreakerLayer::builder("per_key").config(config());
    let by_field = builder().per_key(Header::new(HeaderName::from_static("x-plan")));
    let by_name = builder().per_key(key_fn(|_| Ok(Arc::<str>::from("gold"))));
    let (by_field, by_name) = (by_field.build().unwrap(), by_name.build().unwrap());
    let inner = Inner::new();
    let mut request = Request::new(());
    request.headers_mut().insert("x-plan", gold());
    inner.status(500);
    let fails = by_field.layer(inner.clone()).oneshot(request.clone()).await;
    assert_eq!(fails.unwrap().status(), 500);
    inner.status(500);
    let fails = by_name.layer(inner.clone()).oneshot(request).await;
    assert_eq!(fails.unwrap().status(), 500);

    let (by_field, by_name) = (by_field.handle(), by_name.handle());
    for found in [
        by_field.find(b"gold".as_slice()),
        by_field.find(&gold()),
        by_name.find("gold"),
        by_name.find(&Arc::<str>::from("gold")),
    ] {
        assert_eq!(found.unwrap().snapshot().consecutive_failures, 1);
    }
    assert!(by_name.find("silver").is_none());
}
