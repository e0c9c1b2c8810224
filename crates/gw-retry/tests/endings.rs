//! However a request ends, nothing of it stays behind.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gw_core::Body;
use gw_retry::timeout::TimedBody;
use gw_retry::{Backoff, Budget, Failure, ReplayPool, ResponseBody, RetryLayer, RetryPolicy};
use gw_testkit::body::ScriptedBody;
use http::{Method, Request};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use support::{Failed, Sent, at_once, call, inner, poll, request, response};
use tokio::time::Instant;
use tower::{Layer as _, Service as _, service_fn};

const SECOND: Duration = Duration::from_secs(1);

struct Case {
    budget: Budget,
    pool: ReplayPool,
    layer: RetryLayer,
}

fn case(policy: gw_retry::RetryPolicyBuilder, pool: u64) -> Case {
    let budget = Budget::builder("orders").share_of_active(1.0, 1).ratio(0.2);
    let budget = budget.build().unwrap();
    let pool = ReplayPool::new(pool);
    let layer = RetryLayer::builder(budget.clone())
        .policy(policy.build().unwrap())
        .replay_pool(pool.clone())
        .build();
    Case {
        budget,
        pool,
        layer,
    }
}

fn slow() -> gw_retry::RetryPolicyBuilder {
    RetryPolicy::builder()
        .methods([Method::PUT, Method::GET])
        .backoff(Backoff::exponential(SECOND, SECOND))
}

fn upload(body: &'static str) -> (http::Request<Body>, gw_testkit::body::BodyHandle) {
    let (script, handle) = ScriptedBody::script().data(body).build();
    (support::with_body(Method::PUT, Body::new(script)), handle)
}

/// Every point at which a client can leave: the budget is whole, the pool is empty, the body is gone, nothing is in flight,
/// and no timer is left that could wake anybody.
#[tokio::test(start_paused = true)]
async fn a_client_leaves_at_any_point() {
    let case = case(slow().max_attempts(3), 1 << 20);
    let available = || case.budget.available(Instant::now());
    for point in 0..8 {
        let before = available();
        let (service, handle) = inner();
        let (sent, body) = upload("data");
        let mut answer = call(&mut case.layer.layer(service), sent).await;
        let mut held = Vec::new();
        let mut sent_again = 0;
        for step in 0..point {
            match step {
                0 | 4 => assert!(poll(&mut answer).is_pending()),
                // Half way through the upload, then at its end.
                1 | 5 => {
                    let (request, responder) = handle.next_call().await.into_parts();
                    let mut body = request.into_body();
                    assert!(poll(&mut Box::pin(body.frame())).is_ready());
                    held.push((body, responder));
                }
                2 | 6 => {
                    let (body, responder) = held.pop().unwrap();
                    assert_eq!(body.collect().await.unwrap().to_bytes().len(), 0);
                    responder.respond(response(503));
                }
                3 => {
                    // Waits, and is over once the timer is.
                    assert!(poll(&mut answer).is_pending());
                    assert!(case.pool.used() > 0);
                    assert_eq!(available(), before - 1);
                    tokio::time::advance(2 * SECOND).await;
                    sent_again += 1;
                }
                _ => unreachable!(),
            }
        }
        drop(answer);
        drop(held);
        drop(handle);
        assert!(body.is_dropped(), "{point}");
        assert_eq!(case.pool.used(), 0, "{point}");
        // One that was due and not sent has come back; one that was sent is spent for the ttl.
        let spent = if point > 4 { sent_again } else { 0 };
        tokio::time::advance(11 * SECOND).await;
        assert!(available() >= before.saturating_sub(spent), "{point}");
    }
    assert_eq!(available(), 1, "nothing on its way: the least there is");
    let metrics = tokio::runtime::Handle::current().metrics();
    assert_eq!(metrics.num_alive_tasks(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_leaves_while_a_retry_waits() {
    let case = case(slow(), 1 << 20);
    let (service, handle) = inner();
    let before = case.budget.available(Instant::now());
    let mut answer = call(&mut case.layer.layer(service), request(Method::GET)).await;
    assert!(poll(&mut answer).is_pending());
    handle.next_call().await.respond(response(503));
    assert!(poll(&mut answer).is_pending());
    assert_eq!(case.budget.available(Instant::now()), before - 1);
    drop(answer);
    assert_eq!(case.budget.available(Instant::now()), before);
    assert_eq!((handle.calls(), handle.in_flight()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_off_is_not_the_upstreams_fault() {
    let case = case(at_once().methods([Method::PUT]), 1 << 20);
    let (service, handle) = inner();
    let (script, _) = ScriptedBody::script().data("half").error("cut").build();
    let sent = support::with_body(Method::PUT, Body::new(script));
    let mut answer = call(&mut case.layer.layer(service), sent).await;
    assert!(poll(&mut answer).is_pending());
    let (sent, responder) = handle.next_call().await.into_parts();
    assert!(sent.into_body().collect().await.is_err());
    // As a connection sees it: the request could not be sent to its end, and nothing is known.
    responder.fail(Failed(Failure::Unknown));
    assert!(answer.await.is_err());
    assert_eq!(handle.calls(), 1);
}

/// A thousand uploads at once, each larger than its share: the pool stays within its bound, every byte arrives.
#[tokio::test(start_paused = true)]
async fn memory_stays_at_its_cap_with_a_thousand_large_uploads() {
    const POOL: u64 = 256 << 10;
    const FRAME: usize = 16 << 10;
    let policy = at_once().methods([Method::PUT]).replay_max(1 << 20);
    let case = case(policy, POOL);
    let frame = Bytes::from(vec![7u8; FRAME]);
    let (service, handle) = inner();
    let mut service = case.layer.layer(service);
    let mut uploads = Vec::new();
    for _ in 0..1000 {
        let script = (0..8).fold(ScriptedBody::script(), |script, _| {
            script.data(frame.clone())
        });
        let sent = support::with_body(Method::PUT, Body::new(script.build().0));
        let mut answer = call(&mut service, sent).await;
        assert!(poll(&mut answer).is_pending());
        let (sent, responder) = handle.next_call().await.into_parts();
        uploads.push((answer, sent.into_body(), responder, 0));
    }
    let mut most = 0;
    // All of them side by side, frame by frame.
    for _ in 0..8 {
        for (_, body, _, read) in &mut uploads {
            let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
            *read += data.len();
            most = most.max(case.pool.used());
        }
    }
    assert!(most <= POOL, "{most}");
    assert!(most > POOL - FRAME as u64, "the pool is used: {most}");
    let mut kept = 0;
    for (mut answer, body, responder, read) in uploads {
        assert_eq!(read, 8 * FRAME);
        // Else tokio makes the task pause after so many answers.
        tokio::task::yield_now().await;
        assert!(http_body::Body::is_end_stream(&body));
        responder.fail(Failed(Failure::Unknown));
        // Those that fit are sent again, the others are not; the budget is not what ends them.
        match poll(&mut answer) {
            std::task::Poll::Pending => {
                kept += 1;
                let (again, responder) = handle.next_call().await.into_parts();
                assert_eq!(support::read(again).await.len(), 8 * FRAME);
                responder.respond(response(200));
                assert_eq!(answer.await.unwrap().status(), 200);
            }
            std::task::Poll::Ready(outcome) => assert!(outcome.is_err()),
        }
    }
    assert!(kept <= 2, "{kept}");
    assert_eq!(case.pool.used(), 0);
}

/// Story: of a stream that is silent after its answer's head, what had been read was kept for as long as it lasted. 1,639 of them with 40
/// KiB each filled the pool, and no other body could be sent again.
#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_stream_goes_with_the_head_of_its_answer() {
    for streams in [1, 3] {
        let case = case(at_once().methods([Method::PUT]), 1 << 20);
        let (service, handle) = inner();
        let mut service = case.layer.layer(service);
        let mut reading = Vec::new();
        for _ in 0..streams {
            let script = ScriptedBody::script().data("message").hold().data("more");
            let (script, stream) = script.build();
            let sent = support::with_body(Method::PUT, Body::new(script));
            let answer = tokio::spawn(call(&mut service, sent).await);
            let (sent, responder) = handle.next_call().await.into_parts();
            let read = tokio::spawn(sent.into_body().collect());
            stream.held().await;
            reading.push((answer, responder, stream, read));
        }
        assert_eq!(case.pool.used(), streams * 64);
        for (answer, responder, stream, read) in reading {
            let before = case.pool.used();
            responder.respond(response(200));
            assert_eq!(answer.await.unwrap().unwrap().status(), 200);
            tokio::task::yield_now().await;
            assert_eq!(case.pool.used(), before - 64);
            // It goes on, and nothing more is kept of it.
            stream.resume();
            assert_eq!(read.await.unwrap().unwrap().to_bytes(), "messagemore");
            assert_eq!(case.pool.used(), before - 64);
        }
    }
}

/// What has been answered holds nothing any more, however long its future is kept.
#[tokio::test(start_paused = true)]
async fn an_answer_gives_back_before_its_future_is_dropped() {
    let budget = Budget::builder("orders").share_of_active(1.0, 0);
    let budget = budget.build().unwrap();
    let layer = RetryLayer::builder(budget.clone()).build();
    let available = || budget.available(Instant::now());
    for status in [200, 404] {
        let (service, handle) = inner();
        let mut answer = call(&mut layer.layer(service), request(Method::GET)).await;
        assert!(poll(&mut answer).is_pending());
        assert_eq!(available(), 1);
        let (_, responder) = handle.next_call().await.into_parts();
        responder.respond(response(status));
        assert!(poll(&mut answer).is_ready());
        assert_eq!(available(), 0, "{status}");
    }
}

/// Nor is what served a request that is sent once kept with the answer's future: tower's `ConcurrencyLimit`, for one, has its
/// permit in there.
#[tokio::test]
async fn what_answered_is_dropped_with_the_answer() {
    for method in [Method::POST, Method::GET] {
        let held = Arc::new(());
        let kept = Arc::clone(&held);
        let inner = service_fn(move |_: Request<Sent>| {
            let kept = Arc::clone(&kept);
            poll_fn(move |_| {
                let _ = &kept;
                Poll::Ready(Ok::<_, Failed>(response(200)))
            })
        });
        let mut service = support::layer(RetryPolicy::builder()).layer(inner);
        let mut answer = Box::pin(service.call(request(method)));
        assert!(poll(&mut answer).is_ready());
        // Ours, and that of the service.
        assert_eq!(Arc::strong_count(&held), 2);
    }
}

/// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
#[test]
fn a_default_body_has_ended() {
    assert!(ResponseBody::<Body>::default().is_end_stream());
    assert!(TimedBody::<Body>::default().is_end_stream());
}

/// Who refuses outside a retry layer writes its answer so, for whatever body is inside.
#[tokio::test]
async fn an_answer_of_a_renderer_outside_is_passed() {
    let body = ResponseBody::new(Body::from("busy"));
    assert_eq!(body.size_hint().exact(), Some(4));
    assert_eq!(body.collect().await.unwrap().to_bytes(), "busy");
}
