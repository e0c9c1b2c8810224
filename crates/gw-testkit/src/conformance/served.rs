use std::convert::Infallible;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse;
use tokio::task::JoinSet;
use tower_layer::Layer;
use tower_service::Service;

use super::limit::ended;
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
    // The peer's address is ours to give: the layer must not depend on how axum is told to provide it.
    let with_peer = axum::middleware::map_request(|mut request: Request| async move {
        let peer = std::net::SocketAddr::from(([192, 0, 2, 1], 49152));
        request
            .extensions_mut()
            .insert(gw_core::context::PeerAddr(peer));
        request
    });
    let router = Router::new()
        .route("/", axum::routing::get(handler))
        .layer(layer)
        .layer(with_peer);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("a bound socket");
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut client = Client::connect(address).await;
        client
            .send("GET / HTTP/1.1\r\nhost: test.example\r\nconnection: close\r\n\r\n")
            .await;
        clients.push(client);
    }
    let admitted = admits.of(CONNECTIONS);
    gate.reached(admitted).await;
    let mut answers = JoinSet::new();
    for mut client in clients {
        answers.spawn(async move { client.read_answer().await.status() });
    }
    // All refusals arrive while what was admitted is still held, so nobody slips in afterwards.
    let refusals = ended(&mut answers, CONNECTIONS - admitted);
    let mut statuses = within("the refusals", refusals).await;
    assert_eq!(gate.waiting(), admitted);
    gate.open();
    statuses.extend(within("the answers", answers.join_all()).await);
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(passed, admitted);
    server.abort();
}
