//! Tiers, penalties, and what is charged after the decision, through the layers: no server, the clock paused.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test"
)]

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use gw_core::{Body, Problem};
use gw_ratelimit::key::Header;
use gw_ratelimit::{
    Adjust, ChargeBodyLayer, Charged, Headers, Mode, Penalty, Policy, Quota, RateLimitHandle,
    RateLimitLayer,
};
use gw_testkit::body::ScriptedBody;
use http::{HeaderName, Request, Response, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tower::{Layer, Service, service_fn};

const WHO: HeaderName = HeaderName::from_static("who");
const KIB: NonZeroU32 = NonZeroU32::new(1024).unwrap();

fn request(who: &'static str) -> Request<()> {
    Request::builder().header(WHO, who).body(()).unwrap()
}

fn cx() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn answer<S, Q>(service: &mut S, request: Q) -> S::Response
where
    S: Service<Q, Error = Infallible>,
{
    assert!(service.poll_ready(&mut cx()).is_ready());
    let mut future = pin!(service.call(request));
    match future.as_mut().poll(&mut cx()) {
        Poll::Ready(Ok(answer)) => answer,
        Poll::Pending => panic!("nothing here waits"),
    }
}

/// Answers with the status that the request's path names, and lets `see` look at the request.
fn inner<F>(
    see: F,
) -> impl Service<
    Request<()>,
    Response = Response<Body>,
    Error = Infallible,
    Future = Ready<Result<Response<Body>, Infallible>>,
> + Clone
where
    F: Fn(&Request<()>) + Clone,
{
    service_fn(move |request: Request<()>| {
        see(&request);
        let status = request.uri().path().trim_start_matches('/');
        let status = StatusCode::from_bytes(status.as_bytes()).unwrap_or(StatusCode::OK);
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = status;
        ready(Ok(answer))
    })
}

fn per_client(quota: Quota) -> Policy<Header> {
    Policy::new("p", quota).key(Header::new(WHO))
}

fn left(handle: &RateLimitHandle, who: &'static str) -> u32 {
    let value = http::HeaderValue::from_static(who);
    handle.peek("p", &value).unwrap().remaining()
}

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

/// A body of so many bytes in frames of a thousand.
fn body(frames: usize) -> ScriptedBody {
    let script = (0..frames).fold(ScriptedBody::script(), |script, _| {
        script.data(Bytes::from(vec![b'x'; 1_000]))
    });
    script.hold().build().0
}

#[tokio::test(start_paused = true)]
async fn bytes_are_charged_as_they_leave_and_only_then() {
    let layer = RateLimitLayer::builder()
        .policy(per_client(Quota::per_minute(60).burst(10)).late_charges())
        .build()
        .unwrap();
    let handle = layer.handle();
    let streaming =
        service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(Body::new(body(5))))));
    let mut service = layer.layer(ChargeBodyLayer::new("p", KIB).layer(streaming));
    let answer = answer(&mut service, request("ann"));
    assert_eq!(left(&handle, "ann"), 9);
    let mut body = Box::pin(answer.into_body());
    let mut paid = Vec::new();
    for _ in 0..5 {
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap().len(), 1_000);
        paid.push(9 - left(&handle, "ann"));
    }
    // Each cell with its first byte: 1,000 bytes are one, 2,000 two, ... and 5,000 five.
    assert_eq!(paid, [1, 2, 3, 4, 5]);
    // The client goes away in the middle: what was sent is paid, and no more.
    drop(body);
    assert_eq!(left(&handle, "ann"), 4);
    assert_eq!(handle.snapshot()[0].charged_late, 5);
}

#[tokio::test(start_paused = true)]
async fn who_takes_more_than_the_burst_is_refused_next_time() {
    let layer = RateLimitLayer::builder()
        .policy(per_client(Quota::per_minute(60).burst(2)).late_charges())
        .build()
        .unwrap();
    let streaming = service_fn(|_: Request<()>| {
        let body = Body::from(vec![0; 100 * 1024]);
        ready(Ok::<_, Infallible>(Response::new(body)))
    });
    let mut service = layer.layer(ChargeBodyLayer::new("p", KIB).layer(streaming));
    let first = answer(&mut service, request("ann"));
    assert_eq!(first.status(), 200);
    assert_eq!(
        first.into_body().collect().await.unwrap().to_bytes().len(),
        100 * 1024
    );
    // Four cells are the most that a burst of two comes to: three seconds until there is one again.
    let refused = answer(&mut service, request("ann"));
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["ratelimit"], r#""p";r=0;t=3"#);
    // The refusal's own body is nobody's download.
    assert!(refused.into_body().size_hint().exact().unwrap() > 0);
    assert_eq!(answer(&mut service, request("bob")).status(), 200);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(answer(&mut service, request("ann")).status(), 200);
}

/// Without a policy to charge it is as if it were not there.
#[tokio::test]
async fn a_body_that_nobody_pays_for_passes() {
    let whole =
        service_fn(|_: Request<()>| ready(Ok::<_, Infallible>(Response::new(Body::from("hello")))));
    let mut service = ChargeBodyLayer::new("p", KIB).layer(whole);
    let mut body = pin!(answer(&mut service, request("ann")).into_body());
    assert_eq!(Pin::new(&mut body).size_hint().exact(), Some(5));
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "hello");
    assert!(body.is_end_stream());
}

#[derive(Clone)]
struct Plan(&'static str);

#[tokio::test(start_paused = true)]
async fn tiers_by_request() {
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(Quota::per_second(2))
                .tier("gold", Quota::per_second(4).burst(6))
                .tier_of(|head, tiers| tiers.named(head.extensions.get::<Plan>()?.0)),
        )
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(inner(|_| {}));
    let mut send = |who, plan: Option<&'static str>| {
        let mut request = request(who);
        if let Some(plan) = plan {
            request.extensions_mut().insert(Plan(plan));
        }
        let answer = answer(&mut service, request);
        let told = ["ratelimit-policy", "ratelimit"].map(|name| {
            let value = answer.headers().get(name);
            value
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap()
        });
        (answer.status().as_u16(), told.join(" "))
    };
    assert_eq!(
        send("ann", None),
        (200, r#""p";q=2;w=1 "p";r=1;t=1"#.to_owned())
    );
    assert_eq!(
        send("bob", Some("gold")),
        (200, r#""p";q=6;w=2 "p";r=5;t=2"#.to_owned())
    );
    assert_eq!(send("cat", Some("tin")).1, r#""p";q=2;w=1 "p";r=1;t=1"#);
    // Half a second of debt comes along, and is two cells of gold.
    assert_eq!(send("ann", Some("gold")).1, r#""p";q=6;w=2 "p";r=3;t=1"#);
    handle
        .set_tier_quota("p", "gold", Quota::per_second(4).burst(1))
        .unwrap();
    assert_eq!(send("dan", Some("gold")).1, r#""p";q=1;w=1 "p";r=0;t=1"#);
    assert_eq!(send("dan", Some("gold")).0, 429);
    let snapshot = &handle.snapshot()[0];
    assert_eq!(
        snapshot.tiers,
        [(Arc::from("gold"), Quota::per_second(4).burst(1))]
    );
    for (policy, tier) in [("p", "tin"), ("q", "gold")] {
        let error = handle
            .set_tier_quota(policy, tier, Quota::per_second(1))
            .unwrap_err();
        assert_eq!(error.policy(), Some(policy));
    }
}

/// The type, the policies and the status of a problem document.
async fn problem(answer: Response<Body>) -> (String, Vec<String>, u16) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["status"], status);
    let kind = document["type"].as_str().unwrap();
    let kind = kind
        .strip_prefix("https://iana.org/assignments/http-problem-types#")
        .unwrap();
    let names = document["violated-policies"].as_array().unwrap();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    (kind.to_owned(), names.collect(), status)
}

#[tokio::test(start_paused = true)]
async fn problem_types_say_why() {
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(Quota::per_minute(2).burst(2))
                .penalty(Penalty::new(2, Duration::from_secs(3_600))),
        )
        .policy(Policy::new("total", Quota::per_minute(4).burst(4)))
        .policy(Policy::new("watched", Quota::per_minute(1)).mode(Mode::Shadow))
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.on_reject(Problem::new()).layer(inner(|_| {}));
    let mut send = |who| answer(&mut service, request(who));
    assert_eq!(
        (send("ann").status(), send("ann").status()),
        (StatusCode::OK, StatusCode::OK)
    );
    let own = |kind: &str, names: &[&str]| {
        let names = names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>();
        (kind.to_owned(), names, 429)
    };
    for _ in 0..2 {
        assert_eq!(problem(send("ann")).await, own("quota-exceeded", &["p"]));
    }
    // Two refusals are two strikes.
    assert_eq!(
        problem(send("ann")).await,
        own("abnormal-usage-detected", &["p"])
    );
    let who = http::HeaderValue::from_static("ann");
    assert_eq!(handle.strikes("p", &who), Some(3));
    assert_eq!(handle.snapshot()[0].keys_with_strikes, 1);
    assert!(handle.reset("p", &who));
    assert_eq!(handle.strikes("p", &who), Some(0));
    // An operator lowers what all have together.
    handle
        .set_quota("total", Quota::per_minute(4).burst(1))
        .unwrap();
    assert!(handle.snapshot()[1].reduced);
    assert_eq!(
        problem(send("ann")).await,
        own("temporary-reduced-capacity", &["total"])
    );
    handle
        .set_quota("total", Quota::per_minute(4).burst(4))
        .unwrap();
    assert!(!handle.snapshot()[1].reduced);

    let offenders = handle.top_offenders(2);
    let id = |key| {
        handle
            .key_id("p", &http::HeaderValue::from_static(key))
            .unwrap()
    };
    assert_eq!(
        (&*offenders[0].policy, offenders[0].refusals),
        ("watched", 5.0)
    );
    assert_eq!((&*offenders[1].policy, offenders[1].key), ("p", id("ann")));
    assert_ne!(id("ann"), id("bob"));
    assert!(!format!("{offenders:?}").contains("ann"));
}

#[tokio::test(start_paused = true)]
async fn an_operator_refunds_and_penalizes() {
    let layer = RateLimitLayer::builder()
        .headers(Headers::None)
        .policy(
            per_client(Quota::per_minute(60).burst(10))
                .penalty(Penalty::new(1, Duration::from_secs(60)).max_factor(4)),
        )
        .policy(Policy::new("plain", Quota::per_second(10)))
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(inner(|_| {}));
    let ann = http::HeaderValue::from_static("ann");
    for _ in 0..4 {
        answer(&mut service, request("ann"));
    }
    assert_eq!(handle.refund("p", &ann, 3).unwrap().remaining(), 9);
    assert!(handle.penalize("p", &ann, 1));
    answer(&mut service, request("ann"));
    assert_eq!(left(&handle, "ann"), 7);
    assert!(!handle.penalize("plain", &(), 1) && !handle.penalize("unknown", &ann, 1));
    assert_eq!(
        (handle.strikes("plain", &()), handle.strikes("p", &ann)),
        (None, Some(1))
    );
    assert!(handle.refund("unknown", &ann, 1).is_none());
    let fill = handle.snapshot()[0].fill;
    assert!(
        (fill - 0.4).abs() < 1e-9,
        "the fullest it was, not less what was given back: {fill}"
    );
    tokio::time::advance(Duration::from_secs(3)).await;
    let fill = handle.snapshot()[0].fill;
    assert!((fill - 0.1).abs() < 1e-9, "{fill}");
    // What a handle has no name for.
    let limiter = handle.limiter();
    let p = limiter.policy("p").unwrap();
    let standing = limiter.charge_late(limiter.charge(p, &ann, 4), tokio::time::Instant::now());
    assert_eq!(standing.unwrap().remaining(), 6);
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
