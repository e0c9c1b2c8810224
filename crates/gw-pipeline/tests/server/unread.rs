//! Answers to requests whose bodies nobody wanted to the end: whether the connection goes on, and what the answer says of it.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;

use gw_pipeline::Body;
use gw_pipeline::server::{Incoming, Server, ServerConfig};
use gw_testkit::client::Client;
use http::{Request, Response, StatusCode};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, yield_now};

/// Refuses each request, after a wait or none, and reads nothing of its body.
async fn refusing(waits: bool) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let service = tower::service_fn(move |request: Request<Incoming>| async move {
        if waits {
            yield_now().await;
        }
        drop(request);
        let mut refused = Response::new(Body::from("no"));
        *refused.status_mut() = StatusCode::BAD_GATEWAY;
        Ok::<_, Infallible>(refused)
    });
    let server = Server::new(ServerConfig::default());
    let serving = tokio::spawn(async move {
        _ = server.serve(listener, service, pending()).await;
    });
    (addr, serving)
}

/// RFC 9112 section 9.6. Story: hyper says so only where the body is given up before the service's future is polled. After a wait
/// the connection was closed behind an answer that did not tell, and the client's next request was lost.
#[tokio::test]
async fn an_answer_says_that_the_rest_of_the_upload_ends_the_connection() {
    for waits in [false, true] {
        let (addr, serving) = refusing(waits).await;
        for upload in [
            "content-length: 400000\r\n\r\nabc",
            "content-length: 3\r\n\r\n",
            "content-length: 3\r\nexpect: 100-continue\r\n\r\n",
            "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        ] {
            let mut client = Client::connect(addr).await;
            let head = "POST / HTTP/1.1\r\nhost: a\r\n";
            client.send(&format!("{head}{upload}")).await;
            let answer = client.read_answer().await;
            assert_eq!((answer.status(), answer.text()), (502, "no"), "{upload}");
            assert_eq!(answer.header("connection"), Some("close"), "{upload}");
            let rest = client.read_rest().await;
            assert!(rest.bytes.is_empty() && !rest.reset);
        }
        serving.abort();
    }
}

/// hyper reads what has come already.
#[tokio::test]
async fn a_small_upload_that_has_come_ends_no_connection() {
    for waits in [false, true] {
        let (addr, serving) = refusing(waits).await;
        let mut client = Client::connect(addr).await;
        for upload in ["content-length: 3\r\n\r\nabc", "\r\n"] {
            let head = "POST / HTTP/1.1\r\nhost: a\r\n";
            client.send(&format!("{head}{upload}")).await;
            let answer = client.read_answer().await;
            assert_eq!(answer.status(), 502);
            assert_eq!(answer.header("connection"), None, "{upload}");
        }
        serving.abort();
    }
}
