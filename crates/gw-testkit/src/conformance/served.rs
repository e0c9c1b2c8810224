use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse;
use axum::routing::MethodRouter;
use tokio::task::{JoinHandle, JoinSet};
use tower_layer::Layer;
use tower_service::Service;

use super::subject::Admits;
use crate::client::Client;
use crate::gate::Gate;
use crate::patience::within;

const CONNECTIONS: usize = 16;

/// Sixteen connections through real sockets and `axum::serve`, which applies the layer once per connection: exactly as
/// many requests are in flight as the layer admits, and the rest are refused.
pub async fn holds_through_axum_serve<L>(layer: L, admits: Admits)
where
    L: Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service: Service<Request, Response: IntoResponse, Error: Into<Infallible>>
        + Clone
        + Send
        + Sync
        + 'static,
    <L::Service as Service<Request>>::Future: Send + 'static,
{
    let gate = Gate::new();
    let held = gate.clone();
    let handler = move || {
        let held = held.clone();
        async move {
            held.pass().await;
            Body::from("passed")
        }
    };
    let (address, server) = serve(layer, axum::routing::get(handler)).await;
    let mut answers = ask(address, CONNECTIONS).await;
    // All refusals arrive while what was admitted is still held, so nobody slips in afterwards.
    let mut statuses = settled(&gate, &mut answers, CONNECTIONS).await;
    let admitted = admits.of(CONNECTIONS);
    assert_eq!(gate.waiting(), admitted, "what is not admitted is refused");
    gate.open();
    statuses.extend(within("the answers", answers.join_all()).await);
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(passed, admitted);
    server.abort();
}

/// The layer over a handler of `/`, behind `axum::serve`.
pub(super) async fn serve<L>(
    layer: L,
    handler: MethodRouter,
) -> (SocketAddr, JoinHandle<std::io::Result<()>>)
where
    L: Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service: Service<Request, Response: IntoResponse, Error: Into<Infallible>>
        + Clone
        + Send
        + Sync
        + 'static,
    <L::Service as Service<Request>>::Future: Send + 'static,
{
    // The peer's address is ours to give: the layer must not depend on how axum is told to provide it.
    let with_peer = axum::middleware::map_request(|mut request: Request| async move {
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 49152));
        request
            .extensions_mut()
            .insert(gw_core::context::PeerAddr(peer));
        request
    });
    let router = Router::new()
        .route("/", handler)
        .layer(layer)
        .layer(with_peer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    (address, server)
}

/// So many requests, each on a connection of its own; their statuses.
pub(super) async fn ask(address: SocketAddr, count: usize) -> JoinSet<u16> {
    let mut answers = JoinSet::new();
    for _ in 0..count {
        let mut client = Client::connect(address).await;
        client
            .send("GET / HTTP/1.1\r\nhost: test.example\r\nconnection: close\r\n\r\n")
            .await;
        answers.spawn(async move { client.read_answer().await.status() });
    }
    answers
}

/// Waits until each of `sent` requests is answered or held at the gate, so that it is known at once if it should have been the
/// other way; the statuses of those that are answered.
pub(super) async fn settled(gate: &Gate, answers: &mut JoinSet<u16>, sent: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    while statuses.len() + gate.waiting() < sent {
        tokio::select! {
            Some(status) = answers.join_next() => statuses.push(status.expect("no panic")),
            () = gate.reached(sent - statuses.len()) => {}
        }
    }
    statuses
}
