//! One pipeline behind three servers: axum's, plain hyper's, and the one of this crate.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "assertions")]

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use gw_pipeline::inbound::{RequestIdLayer, Route, RouteResolveLayer, RouteTable};
use gw_pipeline::server::{Server, ServerConfig};
use gw_pipeline::{Body, BoxError, Pipeline};
use gw_testkit::client::Client;
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Service, service_fn};

/// A pipeline that answers with the request's path.
fn pipeline<B>()
-> impl Service<Request<B>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
+ Clone
+ Send
+ Sync
+ 'static
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError>,
{
    let routes = RouteTable::builder()
        .route(Route::prefix("all", "/all"))
        .build()
        .unwrap();
    Pipeline::builder()
        .request_id(RequestIdLayer::new())
        .route_resolve(RouteResolveLayer::new(routes))
        .forward(service_fn(async |request: Request<_>| {
            Ok::<_, Infallible>(Response::new(Body::from(request.uri().path().to_owned())))
        }))
        .build()
}

async fn answers(address: SocketAddr) {
    let mut client = Client::connect(address).await;
    for (target, status) in [("/all/a/../b", 200), ("/none", 404), ("/all/%2f", 400)] {
        client
            .send(&format!(
                "GET {target} HTTP/1.1\r\nhost: test.example\r\n\r\n"
            ))
            .await;
        let answer = client.read_answer().await;
        assert_eq!(answer.status(), status, "{target}");
        assert_eq!(answer.header("x-request-id").unwrap().len(), 36);
    }
}

async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test]
async fn axum_serves_it() {
    let (listener, address) = listener().await;
    let router = Router::new().fallback_service(pipeline());
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    answers(address).await;
    server.abort();
}

#[tokio::test]
async fn plain_hyper_serves_it() {
    let (listener, address) = listener().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(pipeline());
        let connection = hyper::server::conn::http1::Builder::new();
        connection
            .serve_connection(TokioIo::new(stream), service)
            .await
    });
    answers(address).await;
    server.abort();
}

#[tokio::test]
async fn our_server_serves_it() {
    let (listener, address) = listener().await;
    let server = Server::new(ServerConfig::default());
    let serving = tokio::spawn(async move {
        server
            .serve(listener, pipeline(), std::future::pending())
            .await
    });
    answers(address).await;
    serving.abort();
}
