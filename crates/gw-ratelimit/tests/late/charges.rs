//! What is charged and given back once the answer is known.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_core::Body;
use gw_ratelimit::{Adjust, Charged, Mode, Policy, Quota, RateLimitLayer};
use http::{Request, Response};
use tower::{Layer, Service, ServiceExt as _, service_fn};

use super::{answer, cx, inner, left, per_client, request};

#[tokio::test(start_paused = true)]
async fn a_failed_login_costs_more_and_an_unmodified_answer_nothing() {
    let quota = Quota::per_minute(1).burst(10);
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(quota).charge_response(|answer| match answer.status.as_u16() {
                401 => Adjust::Charge(4),
                304 => Adjust::Refund(u32::MAX),
                _ => Adjust::Nothing,
            }),
        )
        .build()
        .unwrap();
    let handle = layer.handle();
    let found = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&found);
    let mut service = layer.layer(inner(move |request| {
        *seen.lock().unwrap() += u32::from(Charged::of(request.extensions()).is_some());
    }));
    let mut send = |who, path: &str| {
        let mut request = request(who);
        *request.uri_mut() = path.parse().unwrap();
        let answer = answer(&mut service, request);
        let told = answer.headers()["ratelimit"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), told)
    };
    assert_eq!(send("ann", "/200"), (200, r#""p";r=9;t=540"#.to_owned()));
    // The answer tells of what is left after the charge, and after the refund.
    assert_eq!(send("ann", "/401"), (401, r#""p";r=4;t=240"#.to_owned()));
    assert_eq!(send("ann", "/304"), (304, r#""p";r=4;t=240"#.to_owned()));
    assert_eq!(send("bob", "/304"), (304, r#""p";r=10;t=600"#.to_owned()));
    for (path, status) in [("/401", 401), ("/401", 401), ("/200", 429)] {
        assert_eq!(send("eve", path).0, status);
    }
    // Two failures come to ten: one more request waits for a minute, and its own is not charged.
    assert_eq!(left(&handle, "eve"), 0);
    let snapshot = &handle.snapshot()[0];
    assert_eq!((snapshot.charged_late, snapshot.refunded), (12, 2));
    // Nobody asked for it, so nothing was put into the requests.
    assert_eq!(*found.lock().unwrap(), 0);
}

/// Story: answers that cost nothing were paid for if they came in another order than their requests.
#[tokio::test(start_paused = true)]
async fn answers_that_cost_nothing_do_so_in_any_order() {
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(Quota::per_minute(1).burst(10))
                .cost(|_| 4)
                .charge_response(|_| Adjust::Refund(u32::MAX)),
        )
        .build()
        .unwrap();
    let handle = layer.handle();
    tokio::time::advance(Duration::from_secs(3_600)).await;
    let service = layer.layer(service_fn(|request: Request<()>| async move {
        // No time goes by meanwhile.
        for _ in 0..request.uri().path().len() {
            tokio::task::yield_now().await;
        }
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    let send = |path: &str| {
        let mut request = request("ann");
        *request.uri_mut() = path.parse().unwrap();
        service.clone().oneshot(request)
    };
    for (first, second) in [("/quick", "/not-so-quick"), ("/not-so-quick", "/quick")] {
        let (first, second) = tokio::join!(send(first), send(second));
        assert!(first.is_ok() && second.is_ok());
        assert_eq!(left(&handle, "ann"), 10);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_charges_and_refunds_what_it_finds_in_the_request() {
    let quota = Quota::per_minute(60).burst(10);
    let layer = RateLimitLayer::builder()
        .policy(per_client(quota).cost(|_| 5).late_charges())
        .policy(Policy::new("other", Quota::per_second(1_000)))
        .build()
        .unwrap();
    let handle = layer.handle();
    let kept = Arc::new(Mutex::new(None));
    let keep = Arc::clone(&kept);
    let mut service = layer.layer(inner(move |request| {
        let charged = Charged::of(request.extensions()).unwrap();
        assert_eq!(charged.charge("other", 1), None);
        assert_eq!(charged.charge("unknown", 1), None);
        assert_eq!(charged.refund("p", 3), Some(3));
        *keep.lock().unwrap() = Some(charged.clone());
    }));
    let first = answer(&mut service, request("ann"));
    assert_eq!(
        first.headers()["ratelimit"],
        r#""p";r=8;t=8, "other";r=999;t=1"#
    );
    // It may outlive the request, and still gives back no more than was paid.
    let charged = kept.lock().unwrap().take().unwrap();
    assert_eq!(charged.charge("p", 4), Some(4));
    assert_eq!(charged.refund("p", 100), Some(6));
    assert_eq!(charged.refund("p", 100), Some(0));
    assert_eq!(left(&handle, "ann"), 10);
    let snapshot = handle.snapshot();
    assert_eq!((snapshot[0].charged_late, snapshot[0].refunded), (4, 9));
    // What is off is not charged.
    handle.set_mode("p", Mode::Off).unwrap();
    assert_eq!(charged.charge("p", 4), None);
    answer(
        &mut layer.layer(inner(|request| {
            let charged = Charged::of(request.extensions()).unwrap();
            assert_eq!(charged.charge("p", 4), None);
        })),
        request("ann"),
    );
}

#[tokio::test(start_paused = true)]
async fn the_policies_of_a_layer_further_out_are_found_too() {
    let layer = |name| {
        RateLimitLayer::builder()
            .policy(Policy::new(name, Quota::per_second(10)).late_charges())
            .build()
            .unwrap()
    };
    let (outer, between) = (layer("outer"), layer("inner"));
    let plain = RateLimitLayer::builder()
        .policy(Policy::new("plain", Quota::per_second(10)))
        .build()
        .unwrap();
    let handles = [outer.handle(), between.handle()];
    let service = inner(|request| {
        let charged = Charged::of(request.extensions()).unwrap();
        assert_eq!(charged.charge("outer", 2), Some(2));
        assert_eq!(charged.charge("inner", 3), Some(3));
        assert_eq!(charged.charge("plain", 3), None);
    });
    let mut service = outer.layer(between.layer(plain.layer(service)));
    let answer = answer(&mut service, request("ann"));
    let told: Vec<_> = answer.headers().get_all("ratelimit").iter().collect();
    assert_eq!(
        told,
        [
            r#""plain";r=9;t=1"#,
            r#""inner";r=6;t=1"#,
            r#""outer";r=7;t=1"#
        ]
    );
    let charged = handles.map(|handle| handle.snapshot()[0].charged_late);
    assert_eq!(charged, [2, 3]);
}

/// A refusal costs nothing, neither before nor after: nobody is handed a bill.
#[tokio::test(start_paused = true)]
async fn a_refused_request_is_not_charged_late() {
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(Quota::per_minute(60).burst(1))
                .late_charges()
                .charge_response(|_| Adjust::Charge(1)),
        )
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(inner(|_| {}));
    for status in [200, 429, 429] {
        assert_eq!(answer(&mut service, request("ann")).status(), status);
    }
    assert_eq!(handle.snapshot()[0].charged_late, 1);
}

/// Dropped while it waits for the answer: what was charged stays, and what the answer would have changed does not come.
#[tokio::test(start_paused = true)]
async fn a_dropped_future_settles_nothing() {
    let layer = RateLimitLayer::builder()
        .policy(per_client(Quota::per_minute(60).burst(9)).charge_response(|_| Adjust::Refund(1)))
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(service_fn(|_: Request<()>| {
        std::future::pending::<Result<Response<Body>, Infallible>>()
    }));
    let mut future = Box::pin(service.call(request("ann")));
    assert!(future.as_mut().poll(&mut cx()).is_pending());
    drop(future);
    assert_eq!(left(&handle, "ann"), 8);
}
