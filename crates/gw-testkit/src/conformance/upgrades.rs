use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower_layer::Layer;
use tower_service::Service;

use super::served::{ask, serve, settled};
use super::subject::Admits;
use crate::client::Client;
use crate::gate::Gate;
use crate::patience::within;

/// Connections that are upgraded, through real sockets and `axum::serve`: the layer lets the answer 101 and the upgrade pass, and
/// what it has given to a request is given back when the connection is closed that the request has become, once, and not before.
///
/// After the head of such an answer no layer sees anything. So what a layer holds for the connection it puts into the extensions
/// of the request, which whoever serves the connection keeps until it is closed.
pub async fn keeps_upgraded_connections<L>(layer: L, admits: Admits)
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
    let (closed, mut closes) = unbounded_channel();
    let handler = Handler {
        gate: gate.clone(),
        closed,
    };
    let handler = axum::routing::get(move |request| handler.clone().answer(request));
    let (address, server) = serve(layer, handler).await;
    let (tunnels, limit) = match admits {
        Admits::InFlight(limit) => (limit, Some(limit)),
        Admits::All | Admits::Total(_) => (1, None),
    };
    let mut clients = Vec::new();
    for _ in 0..tunnels {
        clients.push(upgraded(address).await);
    }
    if limit.is_some() {
        settled(&gate, &mut ask(address, 1).await, 1).await;
        assert_eq!(gate.waiting(), 0, "given back before the connection closed");
    }
    drop(clients);
    for _ in 0..tunnels {
        within("an upgraded connection to be closed", closes.recv()).await;
    }
    if let Some(limit) = limit {
        let sent = limit + 1;
        let mut answers = ask(address, sent).await;
        settled(&gate, &mut answers, sent).await;
        assert_eq!(gate.waiting(), limit, "not given back once");
    }
    server.abort();
}

/// A connection that echoes.
async fn upgraded(address: SocketAddr) -> Client {
    let mut client = Client::connect(address).await;
    client
        .send(
            "GET / HTTP/1.1\r\nhost: test.example\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
        )
        .await;
    let head = client.read_head().await;
    assert_eq!(head.status(), 101, "an upgrade does not pass");
    assert_eq!(head.headers().get("upgrade"), Some("echo"));
    client.send("ping").await;
    assert_eq!(client.read_exact(4).await, "ping");
    client
}

/// Grants each upgrade that is asked for, and holds all other requests at the gate.
#[derive(Clone)]
struct Handler {
    gate: Gate,
    closed: UnboundedSender<()>,
}

impl Handler {
    async fn answer(self, request: Request) -> Response {
        if !request.headers().contains_key(header::UPGRADE) {
            self.gate.pass().await;
            return Body::empty().into_response();
        }
        tokio::spawn(echo(request, self.closed));
        let fields = [(header::UPGRADE, "echo"), (header::CONNECTION, "upgrade")];
        (StatusCode::SWITCHING_PROTOCOLS, fields).into_response()
    }
}

/// Serves the connection that the request becomes.
async fn echo(mut request: Request, closed: UnboundedSender<()>) {
    let upgrade = hyper::upgrade::on(&mut request);
    let held = request.into_parts().0.extensions;
    if let Ok(connection) = upgrade.await {
        let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
        _ = tokio::io::copy(&mut read, &mut write).await;
    }
    drop(held);
    _ = closed.send(());
}
