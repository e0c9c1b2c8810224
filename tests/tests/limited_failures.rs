//! Limits in front of what fails: every answer of a pipeline tells of them, and is charged as they say.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use gw_core::context::UpstreamName;
use gw_core::{Body, BoxError};
use gw_pipeline::inbound::{Route, RouteResolveLayer, RouteTable};
use gw_pipeline::upstream::{Forward, Upstream};
use gw_pipeline::{PeerAddr, Pipeline};
use gw_ratelimit::key::Global;
use gw_ratelimit::{Adjust, Policy, Quota, RateLimitLayer};
use http::{Method, Request, Response, Uri};
use tokio::net::TcpSocket;
use tower::{ServiceExt as _, service_fn};

const NAME: &str = "logins";

/// Ten, of which failures cost nothing and what nobody asked for, six.
fn limits() -> RateLimitLayer<(Global, ())> {
    let policy = Policy::new("p", Quota::per_hour(1).burst(10));
    let policy = policy.charge_response(|answer| match answer.status.as_u16() {
        404 | 405 => Adjust::Charge(5),
        500.. => Adjust::Refund(u32::MAX),
        _ => Adjust::Nothing,
    });
    RateLimitLayer::builder().policy(policy).build().unwrap()
}

fn routes() -> RouteTable {
    let login = Route::path("login", "/login").methods([Method::POST]);
    let table = RouteTable::builder().route(login.upstream(UpstreamName::new(NAME)));
    table.build().unwrap()
}

fn request(method: Method, path: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path);
    let peer = SocketAddr::from(([192, 0, 2, 1], 49152));
    let request = request.header("host", "a").extension(PeerAddr(peer));
    request.body(Body::empty()).unwrap()
}

/// The status, and what the answer says is left.
fn told(answer: &Response<Body>) -> (u16, &str) {
    let field = answer.headers().get("ratelimit").unwrap();
    let left = field.to_str().unwrap().split(';').nth(1).unwrap();
    (answer.status().as_u16(), left)
}

/// Story: a 503 of the upstream's own was paid back, and a connection that was refused was not; who asked for paths that
/// nobody has never paid for it.
#[tokio::test]
async fn what_fails_is_charged_by_its_status() {
    // Bound, so that nobody else gets the port, and no connection is taken.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let uri = Uri::try_from(format!("http://{}", socket.local_addr().unwrap())).unwrap();
    let upstream = Upstream::builder(UpstreamName::new(NAME)).endpoint(uri);
    let pipeline = Pipeline::builder()
        .route_resolve(RouteResolveLayer::new(routes()))
        .pre_auth_limit(limits())
        .forward(Forward::new([upstream.build().unwrap()]).unwrap())
        .build();
    for (method, path, outcome) in [
        (Method::POST, "/login", (502, "r=10")),
        (Method::GET, "/login", (405, "r=4")),
        (Method::POST, "/login", (502, "r=4")),
        (Method::GET, "/admin", (404, "r=0")),
    ] {
        let request = request(method, path);
        let answer = pipeline.clone().oneshot(request).await.unwrap();
        assert_eq!(told(&answer), outcome, "{path}");
    }
}

/// What fails with an error of its own is answered with 500, so it is one to the limits as well.
#[tokio::test]
async fn an_error_that_is_no_refusal_is_one_to_the_limits() {
    let pipeline = Pipeline::builder()
        .pre_auth_limit(limits())
        .forward(service_fn(async |_: Request<Body>| {
            Err::<Response<Body>, BoxError>(io::Error::other("reset").into())
        }))
        .build();
    let answer = pipeline.oneshot(request(Method::POST, "/login")).await;
    assert_eq!(told(&answer.unwrap()), (500, "r=10"));
}
