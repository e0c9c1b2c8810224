//! What an operator is told of requests without a key.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::error::Error as _;

use bytes::Bytes;
use gw_ratelimit::key::{ClientIp, Header};
use gw_ratelimit::{OnMissingKey, Policy, Quota, RateLimitLayer, Rejection};
use gw_testkit::log_capture::LogCapture;
use http::{HeaderName, Request, Response};
use http_body_util::{BodyExt as _, Full};
use tower::{Layer as _, ServiceExt as _, service_fn};

const REMEDY: &str = "request has no header field `x-device`: the client must send it";

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_logged_once_and_stays_in_the_gateway() {
    let device = (
        ClientIp::new(),
        Header::new(HeaderName::from_static("x-device")),
    );
    let policy = Policy::new("per_device", Quota::per_minute(1))
        .key(device)
        .on_missing_key(OnMissingKey::Deny);
    let layer = RateLimitLayer::builder().policy(policy).build().unwrap();
    let service = layer.layer(service_fn(async |_| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::default()))
    }));
    let capture = LogCapture::new();
    let asking = async {
        for _ in 0..2 {
            let mut request = Request::new(());
            let peer = gw_core::context::PeerAddr(([192, 0, 2, 1], 80).into());
            request.extensions_mut().insert(peer);
            let refused = service.clone().oneshot(request).await.unwrap();
            assert_eq!(refused.status(), 400);
            let rejection = refused.extensions().get::<Rejection>().unwrap();
            assert_eq!(rejection.source().unwrap().to_string(), REMEDY);
            let mut told = format!("{:?}", refused.headers());
            let body = refused.into_body().collect().await.unwrap().to_bytes();
            told += str::from_utf8(&body).unwrap();
            assert!(!told.contains("x-device"), "{told}");
        }
    };
    capture.scope(asking).await;
    let event = capture.only("rate limit: a request has no key for this policy; logged once");
    assert_eq!(event.field("policy").as_deref(), Some("per_device"));
    assert_eq!(event.field("missing").as_deref(), Some(REMEDY));
    assert_eq!(event.field("on_missing_key").as_deref(), Some("Deny"));
}
