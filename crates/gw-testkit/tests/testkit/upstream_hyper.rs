//! A real client finds the normal answers normal, and the broken ones broken.

use std::fmt::Debug;

use bytes::Bytes;
use gw_testkit::upstream::{At, Reply, Upstream, always};
use gw_testkit::within;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, Collected, Full};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;

type HyperClient = Client<HttpConnector, Full<Bytes>>;

fn client() -> HyperClient {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn send(
    client: &HyperClient,
    request: Request<Full<Bytes>>,
) -> Result<Response<impl Body<Data = Bytes, Error: Debug> + use<>>, Error> {
    within("the head", client.request(request)).await
}

async fn collect<B>(response: Response<B>) -> Result<Collected<Bytes>, B::Error>
where
    B: Body<Data = Bytes>,
{
    within("the body", response.into_body().collect()).await
}

fn get(upstream: &Upstream) -> Request<Full<Bytes>> {
    Request::get(upstream.url()).body(Full::default()).unwrap()
}

#[tokio::test]
async fn a_client_with_a_pool_reuses_the_connection() {
    let upstream = Upstream::start(always(Reply::ok().header("x-a", "1").body("hello"))).await;
    let client = client();
    for _ in 0..3 {
        let response = send(&client, get(&upstream)).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), &response.headers()["x-a"]),
            (200, &"1".parse().unwrap())
        );
        let body = collect(response).await.unwrap().to_bytes();
        assert_eq!(body, "hello");
        // The connection goes back to the pool in tasks of the client; let them run before the next request.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(upstream.requests().len(), 3);
    assert_eq!(upstream.connections().peak, 1);
}

#[tokio::test]
async fn chunks_and_trailers_arrive() {
    let reply = Reply::ok().chunks(["ab", "cd"]).trailer("x-sum", "7");
    let upstream = Upstream::start(always(reply)).await;
    let response = send(&client(), get(&upstream)).await.unwrap();
    let collected = collect(response).await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-sum"], "7");
    assert_eq!(collected.to_bytes(), "abcd");
}

#[tokio::test]
async fn a_body_is_received() {
    let upstream = Upstream::start(always(Reply::status(204))).await;
    let request = Request::post(format!("{}/upload", upstream.url()));
    let request = request.body(Full::from("payload")).unwrap();
    let response = send(&client(), request).await.unwrap();
    assert_eq!(response.status(), 204);
    let received = upstream.requests().remove(0);
    assert_eq!(
        (received.target.as_str(), &received.body[..]),
        ("/upload", &b"payload"[..])
    );
}

#[tokio::test]
async fn interim_answers_are_passed_over() {
    let upstream = Upstream::start(always(Reply::ok().interims(5, 103, []).body("x"))).await;
    let response = send(&client(), get(&upstream)).await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(collect(response).await.unwrap().to_bytes(), "x");
}

#[tokio::test]
async fn a_reset_before_the_head_is_an_error_of_the_request() {
    let upstream = Upstream::start(always(Reply::ok().reset(At::Start))).await;
    assert!(send(&client(), get(&upstream)).await.is_err());
}

#[tokio::test]
async fn a_reset_or_a_cut_in_the_body_is_an_error_of_the_body() {
    let body = || Reply::ok().body("0123456789");
    for reply in [body().reset(At::Body(3)), body().cut(At::Body(3))] {
        let gate = gw_testkit::Gate::new();
        let upstream = Upstream::start(always(reply.hold(At::Body(0), &gate))).await;
        let response = send(&client(), get(&upstream)).await.unwrap();
        gate.open();
        assert!(collect(response).await.is_err());
    }
}
