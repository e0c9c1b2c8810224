//! Bodies that are charged by their bytes.

use std::convert::Infallible;
use std::future::ready;
use std::num::NonZeroU32;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use gw_core::Body;
use gw_ratelimit::{ChargeBodyLayer, ChargedBody, Quota, RateLimitLayer};
use gw_testkit::body::ScriptedBody;
use http::{Request, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tower::{Layer, service_fn};

use super::{answer, left, per_client, request};

const KIB: NonZeroU32 = NonZeroU32::new(1024).unwrap();

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

/// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
#[test]
fn a_default_body_has_ended() {
    assert!(ChargedBody::<Body>::default().is_end_stream());
}
