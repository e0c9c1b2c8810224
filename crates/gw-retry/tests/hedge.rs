//! The second copy of a slow read.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gw_core::context::{Attempt, Lane, UpstreamName};
use gw_core::record::Record;
use gw_core::{Body, Code, GrpcStatus, Rejection};
use gw_retry::hedge::{HedgeBuilder, HedgeLayer};
use gw_retry::{Budget, Failure, Mode, RetryLayer};
use gw_testkit::body::ScriptedBody;
use gw_testkit::service::{Call, ControlledService, ServiceHandle};
use http::{HeaderValue, Method, Request, Response};
use support::{Failed, ResBody, call, poll, request, response, with_body};
use tokio::time::{Instant, advance, sleep};
use tower::{Layer as _, Service};

type Inner = ControlledService<Body, ResBody, Failed>;
type Handle = ServiceHandle<Body, ResBody, Failed>;

const MS: Duration = Duration::from_millis(1);

const FULL: Code = Code::new(
    "OVERLOADED",
    http::StatusCode::SERVICE_UNAVAILABLE,
    "Full.",
    GrpcStatus::Unavailable,
);

fn builder() -> HedgeBuilder {
    HedgeLayer::builder("orders").min_samples(50)
}

/// A layer that knows that answers take 10 ms, and has counted 300 requests.
async fn warm(builder: HedgeBuilder) -> HedgeLayer {
    let layer = builder.build().unwrap();
    warm_up(&layer).await;
    layer
}

async fn warm_up(layer: &HedgeLayer) {
    for _ in 0..3 {
        took(layer, 100, 10 * MS).await;
        sleep(1000 * MS).await;
    }
    let delay = layer.handle().delay().unwrap();
    assert!(delay >= 10 * MS && delay <= 13 * MS, "{delay:?}");
}

/// So many requests at once, each of which takes so long.
async fn took(layer: &HedgeLayer, requests: usize, time: Duration) {
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut answers = Vec::new();
    for _ in 0..requests {
        answers.push(tokio::spawn(call(&mut service, request(Method::GET)).await));
    }
    handle.flying(requests).await;
    sleep(time).await;
    for answer in answers {
        handle.next_call().await.respond(response(200));
        answer.await.unwrap().unwrap();
    }
}

fn inner() -> (Inner, Handle) {
    ControlledService::new()
}

/// A request whose first copy hangs, and the second copy if there is one.
async fn slow(
    layer: &HedgeLayer,
    sent: Request<Body>,
) -> (
    impl Future<Output = support::Answer> + Unpin + use<>,
    Call<Body, ResBody, Failed>,
    Option<Call<Body, ResBody, Failed>>,
    Handle,
) {
    let (service, handle) = inner();
    let mut answer = call(&mut layer.layer(service), sent).await;
    assert!(poll(&mut answer).is_pending());
    let first = handle.next_call().await;
    advance(9 * MS).await;
    assert!(poll(&mut answer).is_pending());
    assert_eq!(handle.calls(), 1, "too early");
    advance(5 * MS).await;
    assert!(poll(&mut answer).is_pending());
    let second = match handle.calls() {
        1 => None,
        _ => Some(handle.next_call().await),
    };
    assert!(handle.violations().is_empty());
    (answer, first, second, handle)
}

async fn is_hedged(layer: &HedgeLayer, sent: Request<Body>) -> bool {
    slow(layer, sent).await.2.is_some()
}

#[tokio::test(start_paused = true)]
async fn the_second_copy_wins_and_the_first_is_dropped_before() {
    let layer = warm(builder()).await;
    let mut sent = request(Method::GET);
    sent.extensions_mut().insert(Lane::new("core"));
    let (mut answer, first, second, handle) = slow(&layer, sent).await;
    let second = second.unwrap();
    assert_ne!(first.instance(), second.instance());
    assert_eq!(second.request().headers()[RetryLayer::ATTEMPT], "2");
    let extensions = second.request().extensions();
    assert_eq!(extensions.get::<Attempt>().unwrap().0.get(), 2);
    assert!(extensions.get::<Lane>().is_some());
    second.respond(response(200));
    let std::task::Poll::Ready(Ok(winner)) = poll(&mut answer) else {
        panic!("the second copy has answered");
    };
    assert_eq!(winner.status(), 200);
    // Not only once somebody gets round to dropping the future.
    assert!(first.is_abandoned());
    assert_eq!(handle.in_flight(), 0);
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn the_first_copy_wins() {
    let layer = warm(builder()).await;
    let (answer, first, second, handle) = slow(&layer, request(Method::GET)).await;
    first.respond(response(404));
    assert_eq!(answer.await.unwrap().status(), 404);
    assert!(second.unwrap().is_abandoned());
    assert_eq!(handle.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_not_the_answer_while_the_other_copy_may_be() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    let (mut answer, first, second, _) = slow(&layer, request(Method::GET)).await;
    first.fail(Failed(Failure::Unknown));
    assert!(poll(&mut answer).is_pending());
    second.unwrap().respond(response(200));
    assert_eq!(answer.await.unwrap().status(), 200);
    let (mut answer, first, second, _) = slow(&layer, request(Method::GET)).await;
    second.unwrap().respond(response(500));
    assert!(poll(&mut answer).is_pending());
    first.respond(response(200));
    assert_eq!(answer.await.unwrap().status(), 200);
    let (mut answer, first, second, _) = slow(&layer, request(Method::GET)).await;
    first.fail(Failed(Failure::Unknown));
    assert!(poll(&mut answer).is_pending());
    second.unwrap().respond(response(502));
    assert_eq!(answer.await.unwrap().status(), 502);
}

#[tokio::test(start_paused = true)]
async fn only_reads_without_a_body() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    for method in [Method::GET, Method::HEAD, Method::OPTIONS, Method::QUERY] {
        assert!(is_hedged(&layer, request(method)).await);
    }
    for method in [
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
        Method::CONNECT,
    ] {
        assert!(!is_hedged(&layer, request(method)).await);
    }
    assert!(!is_hedged(&layer, with_body(Method::QUERY, "select")).await);
    let mut upgrade = request(Method::GET);
    upgrade
        .headers_mut()
        .insert("upgrade", "websocket".parse().unwrap());
    assert!(!is_hedged(&layer, upgrade).await);
    let mut retry = request(Method::GET);
    retry
        .headers_mut()
        .insert(RetryLayer::ATTEMPT, HeaderValue::from(2));
    assert!(!is_hedged(&layer, retry).await);
}

#[tokio::test(start_paused = true)]
async fn a_cap_on_extra_load_that_sixteen_share() {
    let layer = warm(builder().max_extra_load(0.01)).await;
    let mut hedged = 0;
    for _ in 0..16 {
        hedged += usize::from(is_hedged(&layer, request(Method::GET)).await);
    }
    // Of 300 requests before, and these.
    assert_eq!(hedged, 3);
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_retries_is_shared() {
    let budget = Budget::builder("orders").build().unwrap();
    let layer = warm(builder().max_extra_load(1.0).budget(budget.clone())).await;
    let now = Instant::now();
    let mut held: Vec<_> = std::iter::from_fn(|| budget.withdraw(now)).collect();
    assert_eq!(held.len(), 10);
    assert!(!is_hedged(&layer, request(Method::GET)).await);
    held.pop();
    let (answer, _first, second, _) = slow(&layer, request(Method::GET)).await;
    assert!(second.is_some());
    drop(answer);
    // It was sent, so it is spent.
    assert!(!is_hedged(&layer, request(Method::GET)).await);
}

#[tokio::test(start_paused = true)]
async fn what_no_retry_layer_counts_fills_the_budget_here() {
    // Story: hedged requests of a route without retries lived on the least that a budget always allows for.
    for (fills, allowed) in [(false, 0), (true, 3)] {
        let budget = Budget::builder("orders").ratio(0.01).min_per_second(0);
        let budget = budget.build().unwrap();
        let layer = builder().budget(budget.clone()).fills_budget(fills);
        let layer = warm(layer).await;
        assert_eq!(budget.available(Instant::now()), allowed);
        let hedged = is_hedged(&layer, request(Method::GET)).await;
        assert_eq!(hedged, fills);
    }
}

#[tokio::test(start_paused = true)]
async fn who_fills_the_budget_may_change_while_requests_run() {
    // Story: a retry layer that was switched off left hedges with the least that a budget always allows for.
    let budget = Budget::builder("orders").ratio(0.01).min_per_second(0);
    let budget = budget.build().unwrap();
    let layer = warm(builder().budget(budget.clone())).await;
    let handle = layer.handle();
    assert!(!handle.fills_budget());
    assert_eq!(budget.available(Instant::now()), 0);
    handle.set_fills_budget(true).unwrap();
    warm_up(&layer).await;
    assert!(handle.fills_budget());
    assert_eq!(budget.available(Instant::now()), 3);
    // And back, when the retry layer counts again.
    handle.set_fills_budget(false).unwrap();
    warm_up(&layer).await;
    assert_eq!(budget.available(Instant::now()), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_while_an_upstream_asks_for_less() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    let (answer, first, second, _) = slow(&layer, request(Method::POST)).await;
    assert!(second.is_none());
    drop((answer, first));
    let (service, handle) = inner();
    let mut throttled = response(429);
    throttled
        .headers_mut()
        .insert("retry-after", "5".parse().unwrap());
    let answer = call(&mut layer.layer(service), request(Method::GET)).await;
    let answer = tokio::spawn(answer);
    handle.next_call().await.respond(throttled);
    assert_eq!(answer.await.unwrap().unwrap().status(), 429);
    assert!(!is_hedged(&layer, request(Method::GET)).await);
    sleep(4900 * MS).await;
    assert!(!is_hedged(&layer, request(Method::GET)).await);
    sleep(100 * MS).await;
    assert!(is_hedged(&layer, request(Method::GET)).await);
}

/// Story: the 504 with which a client's own deadline ended its request has a `Retry-After` of ours, and so has what an open breaker
/// refuses: it was taken for the upstream's word, and nobody's reads were hedged meanwhile.
#[tokio::test(start_paused = true)]
async fn what_our_own_refusals_ask_for_is_not_the_upstreams_word() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    for failure in [Failure::Local, Failure::Refused, Failure::Unknown] {
        let (service, handle) = inner();
        let answer = call(&mut layer.layer(service), request(Method::GET)).await;
        let answer = tokio::spawn(answer);
        let mut refused = response(504);
        let seconds = HeaderValue::from_static("60");
        refused.headers_mut().insert("retry-after", seconds);
        let refusal = Rejection::new(&FULL).failed(failure);
        refused.extensions_mut().insert(refusal);
        handle.next_call().await.respond(refused);
        assert_eq!(answer.await.unwrap().unwrap().status(), 504);
        assert!(is_hedged(&layer, request(Method::GET)).await);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_while_the_gate_is_shut() {
    let closed = Arc::new(AtomicBool::new(false));
    let breaker = Arc::clone(&closed);
    let layer = builder()
        .max_extra_load(1.0)
        .gate(move || breaker.load(Ordering::SeqCst));
    let layer = warm(layer).await;
    assert!(!is_hedged(&layer, request(Method::GET)).await);
    closed.store(true, Ordering::SeqCst);
    assert!(is_hedged(&layer, request(Method::GET)).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_before_enough_is_known() {
    let layer = builder().build().unwrap();
    assert_eq!(layer.handle().delay(), None);
    assert!(!is_hedged(&layer, request(Method::GET)).await);
}

#[tokio::test(start_paused = true)]
async fn nothing_once_nobody_has_told_for_a_minute() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    sleep(59_000 * MS).await;
    assert!(is_hedged(&layer, request(Method::GET)).await);
    sleep(2_000 * MS).await;
    assert_eq!(layer.handle().delay(), None);
    assert!(!is_hedged(&layer, request(Method::GET)).await);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_ready_is_not_sent_a_copy_and_it_costs_nothing() {
    let budget = Budget::builder("orders").build().unwrap();
    let layer = warm(builder().max_extra_load(0.004).budget(budget.clone())).await;
    let (service, handle) = inner();
    let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    handle.set_not_ready();
    advance(20 * MS).await;
    assert!(poll(&mut answer).is_pending());
    assert_eq!(handle.calls(), 1);
    assert_eq!(budget.available(Instant::now()), 10);
    handle.next_call().await.respond(response(200));
    assert!(answer.await.is_ok());
    // The one that the cap allows for is still there.
    assert!(is_hedged(&layer, request(Method::GET)).await);
}

/// Story: a copy that was not sent, for want of a place, stood in line for one all the same. It was given the next, which nobody else
/// could have until the slow request ended.
#[tokio::test(start_paused = true)]
async fn a_copy_that_is_not_sent_does_not_stand_in_line() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    let (service, handle) = inner();
    let places = tower::limit::ConcurrencyLimitLayer::new(2);
    let mut service = layer.layer(places.layer(service));
    let mut slow = call(&mut service, request(Method::GET)).await;
    let other = tokio::spawn(call(&mut service, request(Method::POST)).await);
    assert!(poll(&mut slow).is_pending());
    let _first = handle.next_call().await;
    let second = handle.next_call().await;
    advance(20 * MS).await;
    assert!(poll(&mut slow).is_pending());
    assert_eq!(handle.calls(), 2);
    second.respond(response(200));
    other.await.unwrap().unwrap();
    let ready = std::future::poll_fn(|cx| Service::<Request<Body>>::poll_ready(&mut service, cx));
    assert!(poll(&mut Box::pin(ready)).is_ready());
}

/// Story: while the first copy waited for a place in the pool, the second came to wait for one behind it, and had the room in the queue
/// that others had none of then.
#[tokio::test(start_paused = true)]
async fn while_the_first_copy_waits_in_line_there_is_no_second() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    let record = Record::default();
    let sent = || {
        let mut sent = request(Method::GET);
        sent.extensions_mut().insert(record.clone());
        sent
    };
    // As a pool says it: it has the request, and has not sent it.
    record.update(|exchange| exchange.upstream = Some(UpstreamName::new("orders")));
    assert!(!is_hedged(&layer, sent()).await);
    record.update(|exchange| exchange.attempts = 1);
    assert!(is_hedged(&layer, sent()).await);
    // Of who serves without saying so nothing is known.
    record.update(|exchange| (exchange.upstream, exchange.attempts) = (None, 0));
    assert!(is_hedged(&layer, sent()).await);
}

/// Story: a pool of one connection refused each second copy, not a byte of which went out. Cap and budget paid for it, and the
/// answer of the first copy was logged as one that the pool had refused.
#[tokio::test(start_paused = true)]
async fn a_copy_that_is_refused_further_in_costs_nothing() {
    let budget = Budget::builder("orders").build().unwrap();
    // One of the 300 requests before may be doubled.
    let layer = warm(builder().max_extra_load(0.004).budget(budget.clone())).await;
    for rendered in [true, false] {
        let mut sent = request(Method::GET);
        let record = Record::default();
        sent.extensions_mut().insert(record.clone());
        let (mut answer, first, second, handle) = slow(&layer, sent).await;
        let second = second.unwrap();
        record.refused("forward", &FULL);
        if rendered {
            let mut refused = response(503);
            let refusal = Rejection::new(&FULL).failed(Failure::Refused);
            refused.extensions_mut().insert(refusal);
            second.respond(refused);
        } else {
            second.fail(Failed(Failure::Refused));
        }
        assert!(poll(&mut answer).is_pending());
        assert_eq!(budget.available(Instant::now()), 10);
        let noted = record.exchange();
        assert_eq!((noted.refused_by, noted.code), (None, None));
        first.respond(response(200));
        assert_eq!(answer.await.unwrap().status(), 200);
        assert_eq!(handle.calls(), 2);
    }
    // One that failed was sent.
    let (mut answer, _first, second, _) = slow(&layer, request(Method::GET)).await;
    second.unwrap().fail(Failed(Failure::Local));
    assert!(poll(&mut answer).is_pending());
    assert_eq!(budget.available(Instant::now()), 9);
    assert!(!is_hedged(&layer, request(Method::GET)).await);
}

/// Story: requests that an open breaker refused allowed for hedges when it closed, though none of them had been sent.
#[tokio::test(start_paused = true)]
async fn what_is_refused_before_it_is_sent_allows_for_no_hedge() {
    let capped = || builder().max_extra_load(0.004);
    let budgeted = || {
        let budget = Budget::builder("orders").ratio(0.004).min_per_second(0);
        let layer = builder().max_extra_load(1.0).fills_budget(true);
        layer.budget(budget.build().unwrap())
    };
    for (layer, failure, allows) in [
        (capped(), Failure::Refused, false),
        (capped(), Failure::Local, true),
        (budgeted(), Failure::Refused, false),
        (budgeted(), Failure::Local, true),
    ] {
        let layer = warm(layer).await;
        // What the 300 requests before allow for.
        assert!(is_hedged(&layer, request(Method::GET)).await);
        for _ in 0..300 {
            let (service, handle) = inner();
            let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
            assert!(poll(&mut answer).is_pending());
            handle.next_call().await.fail(Failed(failure));
            assert_eq!(answer.await.unwrap_err(), Failed(failure));
        }
        assert_eq!(is_hedged(&layer, request(Method::GET)).await, allows);
    }
}

/// Story: the cap was raised while requests waited. They were refused, and so much was taken back of what they had brought by the old
/// one that there was less than nothing.
#[tokio::test(start_paused = true)]
async fn what_a_request_brought_is_taken_back_as_it_was_counted() {
    let budget = Budget::builder("orders").ratio(0.004).min_per_second(0);
    let budget = budget.build().unwrap();
    let filled = builder().budget(budget.clone()).fills_budget(true);
    // One of the 300 requests before may be doubled.
    let layer = warm(filled.max_extra_load(0.004)).await;
    let (service, handle) = inner();
    let mut service = layer.layer(service);
    let mut answers = Vec::new();
    for _ in 0..100 {
        answers.push(call(&mut service, request(Method::GET)).await);
    }
    layer.handle().set_max_extra_load(1.0).unwrap();
    budget.set_ratio(1.0).unwrap();
    for answer in &mut answers {
        assert!(poll(answer).is_pending());
        handle.next_call().await.fail(Failed(Failure::Refused));
        answer.await.unwrap_err();
    }
    assert_eq!(budget.available(Instant::now()), 1);
    assert!(is_hedged(&layer, request(Method::GET)).await);
}

/// Story: the first copy was lost on its way, and then a full pool refused the second. That was what the request came to, so a
/// retry layer took it that nothing had been sent: it sent no other, and counted none.
#[tokio::test(start_paused = true)]
async fn a_refusal_is_what_it_comes_to_only_if_nothing_was_sent() {
    use Failure::{Local, NotSent, Refused, Unknown};
    let layer = warm(builder().max_extra_load(1.0)).await;
    for (failures, left) in [
        ([Unknown, Refused], 0),
        ([NotSent, Refused], 0),
        ([Local, Refused], 0),
        ([Refused, Unknown], 1),
        ([Refused, Refused], 1),
        ([Unknown, Local], 1),
    ] {
        for second_first in [false, true] {
            let mut sent = request(Method::GET);
            let record = Record::default();
            sent.extensions_mut().insert(record.clone());
            let (mut answer, first, second, _) = slow(&layer, sent).await;
            let copies = match (second_first, second.unwrap()) {
                (false, second) => [first, second],
                (true, second) => [second, first],
            };
            let slots = ["earlier", "later"];
            for ((copy, failure), slot) in copies.into_iter().zip(failures).zip(slots) {
                assert!(poll(&mut answer).is_pending());
                record.refused(slot, &FULL);
                copy.fail(Failed(failure));
            }
            assert_eq!(answer.await.unwrap_err(), Failed(failures[left]));
            let noted = record.exchange().refused_by;
            assert_eq!(noted, Some(slots[left]), "{failures:?} {second_first}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_an_upstreams_failing_answer_nothing_is_held_while_the_other_copy_may_need_its_connection()
 {
    let layer = warm(builder().max_extra_load(1.0)).await;
    let (service, handle) = ControlledService::<Body, ScriptedBody, Failed>::new();
    let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    let first = handle.next_call().await;
    advance(14 * MS).await;
    assert!(poll(&mut answer).is_pending());
    let second = handle.next_call().await;
    let (body, control) = ScriptedBody::script().hold().data("sorry").build();
    let failed = Response::builder().status(503).body(body);
    first.respond(failed.unwrap());
    assert!(poll(&mut answer).is_pending());
    assert!(control.is_dropped());
    let (body, _) = ScriptedBody::script().build();
    second.respond(Response::new(body));
    assert_eq!(answer.await.unwrap().status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_noted_of_what_the_other_copy_answers() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    let mut sent = request(Method::GET);
    let record = Record::default();
    sent.extensions_mut().insert(record.clone());
    let (mut answer, first, second, _) = slow(&layer, sent).await;
    record.refused("forward", &FULL);
    first.fail(Failed(Failure::Refused));
    assert!(poll(&mut answer).is_pending());
    second.unwrap().respond(response(200));
    assert!(answer.await.is_ok());
    assert_eq!(record.exchange().refused_by, None);
}

#[tokio::test(start_paused = true)]
async fn modes() {
    let layer = warm(builder().max_extra_load(1.0)).await;
    let handle = layer.handle();
    for mode in [Mode::Shadow, Mode::Off] {
        handle.set_mode(mode);
        assert_eq!(handle.mode(), mode);
        assert!(!is_hedged(&layer, request(Method::GET)).await);
    }
    handle.set_mode(Mode::Enforce);
    assert!(is_hedged(&layer, request(Method::GET)).await);
}

/// Story: the mode was looked at when a request began, and a copy that fell due after the layer had been switched off was sent.
#[tokio::test(start_paused = true)]
async fn what_is_on_its_way_when_the_layer_is_switched_off_is_not_hedged() {
    let budget = Budget::builder("orders").build().unwrap();
    let layer = warm(builder().max_extra_load(1.0).budget(budget.clone())).await;
    let (service, handle) = inner();
    let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    layer.handle().set_mode(Mode::Off);
    advance(20 * MS).await;
    assert!(poll(&mut answer).is_pending());
    assert_eq!(handle.calls(), 1);
    assert_eq!(budget.available(Instant::now()), 10);
    handle.next_call().await.respond(response(200));
    assert!(answer.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn limits_change_while_requests_run() {
    let layer = warm(builder().max_extra_load(0.0)).await;
    let handle = layer.handle();
    assert!(!is_hedged(&layer, request(Method::GET)).await);
    handle.set_max_extra_load(1.0).unwrap();
    assert!(is_hedged(&layer, request(Method::GET)).await);
    let before = handle.delay().unwrap();
    handle.set_min_delay(1000 * MS);
    assert_eq!(handle.delay(), Some(1000 * MS));
    assert!(!is_hedged(&layer, request(Method::GET)).await);
    handle.set_min_delay(MS);
    assert_eq!(handle.delay(), Some(before));
    // A quarter of them take longer, so nine of ten do not take less; without copies, which would be quicker.
    handle.set_mode(Mode::Shadow);
    took(&layer, 100, 100 * MS).await;
    for (percentile, expected) in [(0.9, 100 * MS), (0.5, 10 * MS)] {
        handle.set_percentile(percentile).unwrap();
        sleep(1000 * MS).await;
        took(&layer, 1, 10 * MS).await;
        let delay = handle.delay().unwrap();
        assert!(
            delay >= expected && delay <= expected * 13 / 10,
            "{delay:?}"
        );
    }
    let snapshot = handle.snapshot();
    assert_eq!((snapshot.percentile, snapshot.max_extra_load), (0.5, 1.0));
    assert_eq!((snapshot.min_delay, snapshot.mode), (MS, Mode::Shadow));
    for wrong in [f64::NAN, -0.1, 1.1] {
        let error = handle.set_percentile(wrong).unwrap_err();
        assert_eq!(error.field(), "percentile");
        let error = handle.set_max_extra_load(wrong).unwrap_err();
        assert_eq!(error.field(), "max_extra_load");
    }
    assert_eq!(handle.snapshot(), snapshot);
}

#[tokio::test(start_paused = true)]
async fn what_is_only_counted_takes_nothing_from_others() {
    // Story: hedges that were tried out in shadow mode used up the budget for the retries of all routes.
    let budget = Budget::builder("orders").build().unwrap();
    let cap = builder().max_extra_load(0.004).budget(budget.clone());
    let layer = warm(cap).await;
    layer.handle().set_mode(Mode::Shadow);
    assert!(!is_hedged(&layer, request(Method::GET)).await);
    assert_eq!(budget.available(Instant::now()), 10);
    // The cap has been counted up to.
    layer.handle().set_mode(Mode::Enforce);
    assert!(!is_hedged(&layer, request(Method::GET)).await);
}

#[tokio::test(start_paused = true)]
async fn dropping_it_drops_both() {
    let layer = warm(builder()).await;
    let (answer, first, second, handle) = slow(&layer, request(Method::GET)).await;
    drop(answer);
    assert!(first.is_abandoned() && second.unwrap().is_abandoned());
    assert_eq!(handle.in_flight(), 0);
}

#[test]
fn what_cannot_be() {
    let field = |builder: HedgeBuilder| builder.build().unwrap_err().field().to_owned();
    for percentile in [0.4, 1.0, f64::NAN] {
        assert_eq!(field(builder().percentile(percentile)), "percentile");
    }
    for load in [-0.1, 1.1, f64::NAN] {
        assert_eq!(field(builder().max_extra_load(load)), "max_extra_load");
    }
    // Story: it was built, counted nothing, and the handle said that it did.
    assert_eq!(field(builder().fills_budget(true)), "fills_budget");
    let handle = builder().build().unwrap().handle();
    let refused = handle.set_fills_budget(true).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "fills_budget: must be given a `budget` to fill"
    );
    assert!(!handle.snapshot().fills_budget);
    handle.set_fills_budget(false).unwrap();
}

#[allow(dead_code, reason = "it is enough that it compiles")]
fn takes_any_default_body(layer: &HedgeLayer) {
    let service = tower::service_fn(|_: Request<gw_retry::ReplayBody<Body>>| {
        std::future::ready(Ok::<_, Failed>(Response::new(Body::empty())))
    });
    let hedged = layer.layer(service);
    let retried = RetryLayer::builder(support::ample()).build().layer(hedged);
    drop(tower::ServiceExt::<Request<Body>>::oneshot(
        retried,
        request(Method::GET),
    ));
}
