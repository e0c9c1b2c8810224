//! One pipeline behind three servers: axum's, plain hyper's, and the one of this crate.
#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "assertions")]

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use bytes::Bytes;
use gw_pipeline::inbound::{RequestIdLayer, Route, RouteResolveLayer, RouteTable};
use gw_pipeline::server::{Server, ServerConfig};
use gw_pipeline::{Body, BoxError, Pipeline};
use gw_testkit::client::Client;
use gw_testkit::within;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
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

/// Story: who called the content of a CONNECT gRPC was answered 200, and hyper made a tunnel of the connection.
async fn refuses_connect(address: SocketAddr) {
    for fields in ["", "content-type: application/grpc\r\n"] {
        let mut client = Client::connect(address).await;
        let connect = format!("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n{fields}\r\n");
        client.send(&connect).await;
        let answer = client.read_answer().await;
        assert_eq!(answer.status(), 405, "{fields}");
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client.read_rest().await.bytes.is_empty());
    }
}

async fn refuses_connect_on_http2(address: SocketAddr) {
    let stream = TcpStream::connect(address).await.unwrap();
    let builder = http2::Builder::new(TokioExecutor::new());
    let (mut client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    for content_type in ["text/plain", "application/grpc"] {
        let connect = Request::connect("b:443").header("content-type", content_type);
        let request = connect.body(Empty::<Bytes>::new()).unwrap();
        let answer = within("an answer", client.send_request(request)).await;
        assert_eq!(answer.unwrap().status(), 405, "{content_type}");
    }
    connection.abort();
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
    refuses_connect(address).await;
    refuses_connect_on_http2(address).await;
    serving.abort();
}
