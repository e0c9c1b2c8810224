//! Queues and holds against the clock, which is paused.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use gw_bulkhead::{
    BulkheadLayer, Codel, Deadline, GATEWAY_TIMEOUT, HeldTooLong, LaneConfig, Mode, UpgradePermit,
};
use gw_core::attempt::Failure;
use gw_core::stage::{NoFacts, Stage};
use gw_core::{Body, Rejection};
use gw_testkit::body::ScriptedBody;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use support::{
    call, first_lane, in_flight, inner, one_lane, places, poll, recorded, refused, request,
    request_in,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, sleep_until, timeout};
use tower::{Layer as _, service_fn};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_refused() {
    let layer = one_lane(1, LaneConfig::new("core").queue(1).queue_timeout(SECOND));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut first = call(&mut service, request()).await;
    assert!(poll(&mut first).is_pending());
    let start = Instant::now();
    let (waits, record) = recorded(request());
    let response = call(&mut service, waits).await.await.unwrap();
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(response.status(), 503);
    assert_eq!(refused(&record), (Some("admit"), Some("OVERLOADED")));
    assert_eq!(first_lane(&handle).rejected.queue_timeout, 1);
    assert_eq!((first_lane(&handle).queued, inner.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_refused_when_its_time_is_over() {
    let layer = one_lane(
        1,
        LaneConfig::new("core").queue(1).queue_timeout(10 * SECOND),
    );
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut first = call(&mut service, request()).await;
    assert!(poll(&mut first).is_pending());
    let start = Instant::now();
    let mut waits = request();
    let deadline = Deadline::after(start, 2 * SECOND).unwrap();
    waits.extensions_mut().insert(deadline);
    let response = call(&mut service, waits).await.await.unwrap();
    assert_eq!(
        (response.status().as_u16(), start.elapsed()),
        (503, 2 * SECOND)
    );
    assert_eq!(first_lane(&handle).rejected.deadline, 1);
    assert_eq!((first_lane(&handle).queued, inner.calls()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_a_queue_that_stands_goes_though_nothing_else_happens() {
    // Story: whether the queue stands was looked at when somebody joined or left it. Behind a request that hung all waited
    // for the timeout, and those who came just before the queue stood did so also if others came later.
    let lane = LaneConfig::new("core").queue(10).queue_timeout(10 * SECOND);
    let layer = one_lane(1, lane.codel(Codel::new()));
    let handle = layer.handle();
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let mut hangs = call(&mut service, request()).await;
    assert!(poll(&mut hangs).is_pending());
    let start = Instant::now();
    let mut waiting = JoinSet::new();
    // The last one comes when it stands no longer.
    for came in [0, 0, 0, 20, 98, 101, 300] {
        let came = Duration::from_millis(came);
        sleep_until(start + came).await;
        let waits = call(&mut service, request()).await;
        waiting.spawn(async move {
            assert_eq!(waits.await.unwrap().status(), 503);
            (came.as_millis(), start.elapsed().as_millis())
        });
    }
    let mut left = waiting.join_all().await;
    left.sort_unstable();
    let together = [(0, 105), (0, 105), (0, 105), (20, 105)];
    let after = [(98, 108), (101, 111), (300, 405)];
    assert_eq!(left, [&together[..], &after].concat());
    assert_eq!(first_lane(&handle).rejected.queue_delay, 7);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_refused_by_what_is_foretold_when_its_time_is_over() {
    let lane = LaneConfig::new("core").queue(1).queue_timeout(60 * SECOND);
    let layer = one_lane(10, lane.deadline_aware(true));
    let (service, _inner) = inner();
    let mut service = layer.layer(service);
    let mut running = Vec::new();
    for _ in 0..10 {
        running.push(call(&mut service, request()).await);
    }
    advance(10 * SECOND).await;
    running.clear();
    for _ in 0..10 {
        running.push(call(&mut service, request()).await);
    }
    let start = Instant::now();
    let mut due = request();
    due.extensions_mut()
        .insert(Deadline::at(start + 40 * SECOND));
    // By what is foretold now it would have to be started within 29 s; nothing ends that could say so still.
    let refused = call(&mut service, due).await.await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(start.elapsed(), 40 * SECOND);
    assert_eq!(first_lane(&layer.handle()).rejected.deadline, 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_keeps_no_reservation_and_is_readied_with_its_place() {
    // Story: a request that waited kept the instance that had been polled ready. A layer further in that reserves capacity
    // when it is polled had it taken by requests that could not run.
    let layer = one_lane(1, LaneConfig::new("core").queue(1));
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let first = call(&mut service, request()).await;
    let mut second = call(&mut service, request()).await;
    assert!(poll(&mut second).is_pending());
    let reserved = |inner: &support::InnerHandle| {
        let instances = inner.instances().into_iter();
        instances
            .filter(|instance| instance.ready && !instance.dropped)
            .count()
    };
    assert_eq!(reserved(&inner), 0);
    drop(first);
    assert!(poll(&mut second).is_pending());
    let _running = inner.next_call().await;
    let _late = inner.next_call().await;
    assert_eq!(inner.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_not_ready_in_time_is_cut_like_one_that_does_not_answer() {
    let lane = LaneConfig::new("core").queue(1).max_hold(SECOND);
    let layer = one_lane(1, lane);
    let handle = layer.handle();
    // Ready once, for the first one, and then never again.
    let (service, _inner) = inner();
    let reserved = tower::limit::ConcurrencyLimit::new(service, 1);
    let mut service = layer.layer(reserved);
    let first = call(&mut service, request()).await;
    let mut other = service.get_ref().clone();
    let mut second = Box::pin(tower::Service::call(&mut service, request()));
    assert!(poll(&mut second).is_pending());
    drop(first);
    std::future::poll_fn(|cx| tower::Service::<Request<()>>::poll_ready(&mut other, cx))
        .await
        .unwrap();
    let start = Instant::now();
    assert_eq!(second.await.unwrap().status(), 504);
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(first_lane(&handle).rejected.max_hold, 1);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_is_cut() {
    let layer = one_lane(1, LaneConfig::new("core").max_hold(SECOND));
    let handle = layer.handle();
    let (service, inner) = inner();
    let (request, record) = recorded(request());
    let mut future = call(&mut layer.layer(service), request).await;
    let start = Instant::now();
    let response = future.as_mut().await.unwrap();
    assert_eq!(start.elapsed(), SECOND);
    assert_eq!(response.status(), 504);
    assert_eq!(refused(&record), (Some("admit"), Some("GATEWAY_TIMEOUT")));
    assert!(inner.next_call().await.is_abandoned());
    assert_eq!(
        (in_flight(&handle), first_lane(&handle).rejected.max_hold),
        (0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_cut() {
    let layer = one_lane(1, LaneConfig::new("core").max_hold(SECOND));
    let handle = layer.handle();
    let (service, inner) = inner();
    let (script, _) = ScriptedBody::script().data("a").hold().build();
    let (request, record) = recorded(request());
    let future = tokio::spawn(call(&mut layer.layer(service), request).await);
    let start = Instant::now();
    inner
        .next_call()
        .await
        .respond(Response::new(Body::new(script)));
    let mut body = pin!(future.await.unwrap().unwrap().into_body());
    assert!(body.frame().await.unwrap().is_ok());
    assert_eq!(refused(&record), (None, None));
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(start.elapsed(), SECOND);
    assert!(error.downcast_ref::<HeldTooLong>().is_some(), "{error}");
    assert_eq!(refused(&record), (Some("admit"), Some("GATEWAY_TIMEOUT")));
    assert_eq!(
        (in_flight(&handle), first_lane(&handle).rejected.max_hold),
        (0, 1)
    );
    assert!(http_body::Body::is_end_stream(&*body));
    assert!(body.frame().await.is_none());
    // Story: to a breaker around the lane, clients that read slowly were an upstream that failed.
    let rejection = Rejection::find(&*error).unwrap();
    assert_eq!(rejection.code(), &GATEWAY_TIMEOUT);
    assert_eq!(rejection.failure(), Failure::Local);
}

/// Story: the clock was asked before the body was. An answer that came with the end of its time went out as a broken 200: its head
/// beat the timer, and its body, all at hand, did not.
#[tokio::test(start_paused = true)]
async fn what_ends_a_body_beats_the_timer_that_fires_with_it() {
    let layer = one_lane(1, LaneConfig::new("core").max_hold(SECOND));
    let handle = layer.handle();
    let end = async |body: fn() -> Body| {
        let mut service = layer.layer(service_fn(move |_: Request<()>| async move {
            sleep(SECOND).await;
            Ok::<_, Infallible>(Response::new(body()))
        }));
        let response = call(&mut service, request()).await.await.unwrap();
        assert_eq!(response.status(), 200);
        response.into_body().collect().await
    };
    let whole = || Body::from("done");
    assert_eq!(end(whole).await.unwrap().to_bytes(), "done");
    let with_trailers = || {
        let script = ScriptedBody::script().trailers([("a", "b")]);
        Body::new(script.build().0)
    };
    assert!(end(with_trailers).await.unwrap().trailers().is_some());
    let failed = || {
        let script = ScriptedBody::script().error("the body's own");
        Body::new(script.build().0)
    };
    let error = end(failed).await.unwrap_err();
    assert_eq!(error.to_string(), "the body's own");
    assert_eq!(first_lane(&handle).rejected.max_hold, 0);

    // What is not the end of the answer is cut, though it is there.
    let goes_on = || Body::new(ScriptedBody::script().data("a").data("b").build().0);
    let error = end(goes_on).await.unwrap_err();
    assert!(error.downcast_ref::<HeldTooLong>().is_some(), "{error}");
    let counts = (in_flight(&handle), first_lane(&handle).rejected.max_hold);
    assert_eq!(counts, (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_cut_though_the_body_is_never_pending() {
    let layer = one_lane(1, LaneConfig::new("core").max_hold(SECOND));
    let (service, inner) = inner();
    let script = ["a"; 20]
        .into_iter()
        .fold(ScriptedBody::script(), |script, data| script.data(data));
    let future = tokio::spawn(call(&mut layer.layer(service), request()).await);
    inner
        .next_call()
        .await
        .respond(Response::new(Body::new(script.build().0)));
    let mut body = pin!(future.await.unwrap().unwrap().into_body());
    let mut frames = 0;
    while body.frame().await.unwrap().is_ok() {
        frames += 1;
        advance(SECOND / 10).await;
    }
    assert_eq!(frames, 10);
}

/// Story: lanes behind authentication told the observer that it was `admit` that refused.
#[tokio::test(start_paused = true)]
async fn the_observer_is_told_the_slot_that_the_pipeline_named() {
    const SLOT: &str = "post_auth_limit";
    let lane = LaneConfig::new("core").queue(1).queue_timeout(SECOND / 2);
    let layer = one_lane(1, lane.max_hold(SECOND));
    let handle = layer.handle();
    let layer = Stage::<NoFacts>::into_layer_in(layer, SLOT);
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut run = async || {
        let (request, record) = recorded(request());
        (tokio::spawn(call(&mut service, request).await), record)
    };
    let (answer, streams) = run().await;
    let (script, _) = ScriptedBody::script().data("a").hold().build();
    let responder = inner.next_call().await;
    responder.respond(Response::new(Body::new(script)));
    let body = answer.await.unwrap().unwrap().into_body();
    let (waiting, waits) = run().await;
    let (refusing, over) = run().await;
    assert_eq!(refusing.await.unwrap().unwrap().status(), 503);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 503);
    assert!(body.collect().await.is_err());
    let (running, hangs) = run().await;
    assert_eq!(running.await.unwrap().unwrap().status(), 504);
    for (record, code) in [
        (over, "OVERLOADED"),
        (waits, "OVERLOADED"),
        (streams, "GATEWAY_TIMEOUT"),
        (hangs, "GATEWAY_TIMEOUT"),
    ] {
        assert_eq!(refused(&record), (Some(SLOT), Some(code)));
    }
    // What the layer's handle changes is the same in every slot.
    assert_eq!(first_lane(&handle).rejected.total(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_polls_gives_its_place_to_who_needs_it() {
    let layer = one_lane(1, LaneConfig::new("core").max_hold(SECOND));
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let (script, _) = ScriptedBody::script().data("a").data("b").build();
    let future = tokio::spawn(call(&mut service, request()).await);
    inner
        .next_call()
        .await
        .respond(Response::new(Body::new(script)));
    let mut abandoned = pin!(future.await.unwrap().unwrap().into_body());
    advance(SECOND - Duration::from_millis(1)).await;
    assert_eq!(
        call(&mut service, request()).await.await.unwrap().status(),
        503
    );

    advance(Duration::from_millis(1)).await;
    let mut second = call(&mut service, request()).await;
    assert!(poll(&mut second).is_pending());
    inner.flying(1).await;
    assert_eq!(in_flight(&handle), 1);
    // Its holder finds out when it comes back, and gives nothing back a second time.
    assert!(abandoned.frame().await.unwrap().is_err());
    assert_eq!(in_flight(&handle), 1);
    drop(second);
    assert_eq!(in_flight(&handle), 0);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_a_hold_runs_out() {
    let lane = LaneConfig::new("core")
        .max_hold(SECOND)
        .queue(1)
        .queue_timeout(5 * SECOND);
    let layer = one_lane(1, lane);
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    // Never polled again.
    let mut abandoned = call(&mut service, request()).await;
    assert!(poll(&mut abandoned).is_pending());
    let start = Instant::now();
    let waiting = tokio::spawn(call(&mut service, request()).await);
    let _running = inner.next_call().await;
    let served = inner.next_call().await;
    assert_eq!(start.elapsed(), SECOND);
    served.respond(Response::new(Body::empty()));
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn who_waits_is_served_when_a_later_hold_runs_out_earlier() {
    // Story: who waited had looked up the first hold to end, ten seconds on, and slept; the hold of another lane came
    // later and ended after one, and its place lay idle for nine.
    let layer = BulkheadLayer::builder(places(3))
        .lane(
            LaneConfig::new("slow")
                .max_hold(10 * SECOND)
                .queue(1)
                .queue_timeout(60 * SECOND),
        )
        .lane(LaneConfig::new("quick").guaranteed(0.34).max_hold(SECOND))
        .build()
        .unwrap();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    // One place is the slow lane's own, two are lent to it.
    let mut running = Vec::new();
    for _ in 0..3 {
        running.push(tokio::spawn(call(&mut service, request_in("slow")).await));
    }
    let first = inner.next_call().await;
    inner.flying(3).await;
    let waiting = tokio::spawn(call(&mut service, request_in("slow")).await);
    advance(SECOND / 10).await;
    let start = Instant::now();
    let mut abandoned = call(&mut service, request_in("quick")).await;
    assert!(poll(&mut abandoned).is_pending());
    // With this place the quick lane is still above what is left to lend.
    first.respond(Response::new(Body::empty()));
    drop(running.remove(0).await.unwrap());
    let _unanswered = [
        inner.next_call().await,
        inner.next_call().await,
        inner.next_call().await,
    ];
    let served = inner.next_call().await;
    assert_eq!(start.elapsed(), SECOND);
    served.respond(Response::new(Body::empty()));
    assert_eq!(waiting.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_drain_does_not_wait_for_abandoned_bodies_beyond_their_time() {
    // Story: a hold that had run out was taken back by the next one who needed a place, and in a drain there is no next
    // one: a body that nobody polled or dropped kept the drain from ending.
    for begun_before in [false, true] {
        let layer = one_lane(2, LaneConfig::new("core").queue(1).max_hold(SECOND));
        let handle = layer.handle();
        let (service, inner) = inner();
        let mut service = layer.layer(service);
        inner.answer_with(|_| {
            let script = ScriptedBody::script().data("never").data("read");
            Ok(Response::new(Body::new(script.build().0)))
        });
        let mut bodies = Vec::new();
        for _ in 0..2 {
            bodies.push(call(&mut service, request()).await.await.unwrap());
        }
        let mut queued = call(&mut service, request()).await;
        assert!(poll(&mut queued).is_pending());
        let mut drain = Box::pin(handle.drain());
        if begun_before {
            assert!(poll(&mut drain).is_pending());
        }
        // The drain is under way when the last hold begins.
        advance(SECOND / 10).await;
        drop(bodies.remove(0));
        let mut last = queued.await.unwrap();
        let start = Instant::now();
        timeout(60 * SECOND, drain).await.unwrap();
        assert_eq!(start.elapsed(), SECOND);
        assert_eq!(first_lane(&handle).rejected.max_hold, 2);
        let cut = last.body_mut().frame().await.unwrap();
        assert!(cut.is_err());
        // Once each, whoever found out first.
        assert_eq!(first_lane(&handle).rejected.max_hold, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_in_shadow_waits_until_places_are_taken_back_again() {
    let layer = one_lane(1, LaneConfig::new("core").max_hold(SECOND));
    let handle = layer.handle();
    let (service, inner) = inner();
    inner.answer_with(|_| Ok(Response::new(Body::from("never read"))));
    let _body = call(&mut layer.layer(service), request())
        .await
        .await
        .unwrap();
    handle.set_mode(Mode::Shadow);
    let mut drain = Box::pin(handle.drain());
    assert!(timeout(60 * SECOND, &mut drain).await.is_err());
    assert_eq!(in_flight(&handle), 1);
    handle.set_mode(Mode::Enforce);
    timeout(SECOND / 100, drain).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_came_in_shadow_is_cut_once_the_lanes_enforce() {
    // Story: bulkheads were switched from shadow to enforce, and what had come before kept its places for as long as it liked:
    // bodies that nobody read filled the lane for good.
    let layer = one_lane(1, LaneConfig::new("core").max_hold(SECOND));
    let handle = layer.handle();
    handle.set_mode(Mode::Shadow);
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let script = ScriptedBody::script().data("a").data("b").data("c");
    let (script, _) = script.build();
    let future = tokio::spawn(call(&mut service, request()).await);
    inner
        .next_call()
        .await
        .respond(Response::new(Body::new(script)));
    let mut abandoned = pin!(future.await.unwrap().unwrap().into_body());
    let mut running = tokio::spawn(call(&mut service, request()).await);
    let _unanswered = inner.next_call().await;
    // In shadow nobody is, however long it takes.
    assert!(timeout(10 * SECOND, &mut running).await.is_err());
    assert!(abandoned.frame().await.unwrap().is_ok());
    let counts = || (in_flight(&handle), first_lane(&handle).rejected.max_hold);
    // The first would have been cut; the other one was counted when it came, since there was no place.
    assert_eq!(counts(), (2, 1));
    handle.set_mode(Mode::Enforce);
    // Both are cut.
    assert_eq!(counts(), (0, 3));
    assert!(abandoned.frame().await.unwrap().is_err());
    // Its timer has run out long ago.
    assert_eq!(running.await.unwrap().unwrap().status(), 504);
    assert_eq!(counts(), (0, 3));
}

/// A lane that is tried out by itself, and one whose bulkhead is.
fn tried_out(lane: LaneConfig) -> [BulkheadLayer; 2] {
    let of_all = BulkheadLayer::builder(1).mode(Mode::Shadow);
    [
        one_lane(1, lane.clone().mode(Mode::Shadow)),
        of_all.lane(lane).build().unwrap(),
    ]
}

/// Story: what was held for too long was not counted in shadow mode, so no `max_hold` could be tried out.
#[tokio::test(start_paused = true)]
async fn who_would_be_cut_in_shadow_is_counted_once_and_goes_on() {
    for layer in tried_out(LaneConfig::new("core").max_hold(SECOND)) {
        let handle = layer.handle();
        let counts = || (in_flight(&handle), first_lane(&handle).rejected.max_hold);
        let (service, inner) = inner();
        let mut service = layer.layer(service);
        let mut running = tokio::spawn(call(&mut service, request()).await);
        let responder = inner.next_call().await;
        assert!(timeout(SECOND / 2, &mut running).await.is_err());
        assert_eq!(counts(), (1, 0));
        assert!(timeout(10 * SECOND, &mut running).await.is_err());
        assert_eq!(counts(), (1, 1));
        let script = ScriptedBody::script().data("a").data("b");
        responder.respond(Response::new(Body::new(script.build().0)));
        let response = running.await.unwrap().unwrap();
        assert_eq!(response.status(), 200);
        let body = response.into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), "ab");
        assert_eq!(counts(), (0, 1));

        // So are a body that a slow reader takes, and one that nobody takes.
        inner.answer_with(|_| {
            let script = ["a"; 20].into_iter().map(Bytes::from);
            let script = script.fold(ScriptedBody::script(), |script, data| script.data(data));
            Ok(Response::new(Body::new(script.build().0)))
        });
        let mut slow = call(&mut service, request()).await.await.unwrap();
        let mut frames = 0;
        while let Some(frame) = slow.body_mut().frame().await {
            assert!(frame.is_ok());
            frames += 1;
            advance(SECOND / 10).await;
        }
        assert_eq!((frames, counts()), (20, (0, 2)));
        let unread = call(&mut service, request()).await.await.unwrap();
        advance(2 * SECOND).await;
        drop(unread);
        assert_eq!(counts(), (0, 3));

        // What ends in time, or just then, is not.
        let mut service = layer.layer(service_fn(async |_: Request<()>| {
            sleep(SECOND).await;
            Ok::<_, Infallible>(Response::new(Body::from("done")))
        }));
        let response = call(&mut service, request()).await.await.unwrap();
        let body = response.into_body().collect().await.unwrap();
        assert_eq!((body.to_bytes().as_ref(), counts()), (&b"done"[..], (0, 3)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_would_not_have_been_let_in_is_not_counted_again_as_held_for_too_long() {
    for layer in tried_out(LaneConfig::new("core").max_hold(SECOND)) {
        let handle = layer.handle();
        let (service, _inner) = inner();
        let mut service = layer.layer(service);
        let mut held = [(); 3].map(|()| None);
        for held in &mut held {
            let mut future = call(&mut service, request()).await;
            assert!(poll(&mut future).is_pending());
            *held = Some(future);
        }
        advance(2 * SECOND).await;
        drop(held);
        let rejected = first_lane(&handle).rejected;
        assert_eq!((rejected.lane_full, rejected.max_hold), (2, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn upgraded_connections_are_not_held_for_too_long_in_shadow_either() {
    for layer in tried_out(LaneConfig::new("core").max_hold(SECOND)) {
        let handle = layer.handle();
        let (service, inner) = inner();
        let mut upgrade = request();
        let websocket = HeaderValue::from_static("websocket");
        upgrade.headers_mut().insert(header::UPGRADE, websocket);
        let future = tokio::spawn(call(&mut layer.layer(service), upgrade).await);
        let responder = inner.next_call().await;
        let permit = responder.request().extensions().get::<UpgradePermit>();
        let permit = permit.unwrap().clone();
        let mut switching = Response::new(Body::empty());
        *switching.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        responder.respond(switching);
        drop(future.await.unwrap().unwrap());
        advance(2 * SECOND).await;
        assert_eq!(in_flight(&handle), 1);
        drop(permit);
        let rejected = first_lane(&handle).rejected;
        assert_eq!((in_flight(&handle), rejected.total()), (0, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn the_kill_switch_stops_refusing_waiting_and_cutting() {
    let lane = LaneConfig::new("core").max_hold(SECOND).queue(1);
    let layer = one_lane(1, lane);
    let handle = layer.handle();
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let running = tokio::spawn(call(&mut service, request()).await);
    let waiting = tokio::spawn(call(&mut service, request()).await);
    let first = inner.next_call().await;
    handle.set_mode(Mode::Off);
    let second = inner.next_call().await;
    advance(10 * SECOND).await;
    let untouched = tokio::spawn(call(&mut service, request()).await);
    let third = inner.next_call().await;
    assert_eq!(
        in_flight(&handle),
        2,
        "what passes untouched is not counted"
    );
    for call in [first, second, third] {
        call.respond(Response::new(Body::empty()));
    }
    for answer in [running, waiting, untouched] {
        assert_eq!(answer.await.unwrap().unwrap().status(), 200);
    }
    assert_eq!(
        (in_flight(&handle), first_lane(&handle).rejected.total()),
        (0, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_is_told_by_the_rate_at_which_the_lane_drains() {
    let layer = one_lane(1, LaneConfig::new("core"));
    let (service, inner) = inner();
    let mut service = layer.layer(service);
    let mut wait = 0;
    // One request in ten seconds, and refusals all the time.
    for _ in 0..3 {
        let held = call(&mut service, request()).await;
        for _ in 0..10 {
            advance(SECOND).await;
            let refused = call(&mut service, request()).await.await.unwrap();
            wait = refused.headers()["retry-after"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap();
        }
        drop(held);
    }
    assert!((6..=30).contains(&wait), "{wait}");
    drop(inner);
}
