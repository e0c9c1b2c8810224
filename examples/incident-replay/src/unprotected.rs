//! The gateway as it was: one pool of workers for all routes, no limits, and uploads that hold their worker for as long
//! as the log backend takes.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::serve::ListenerExt as _;
use http::{StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::connector;
use crate::scenario::{LOGS_PATH, UPSTREAM_TIMEOUT, WORKER_WAIT, WORKERS};

#[derive(Debug, Clone)]
struct Gateway {
    /// Shared by all routes. Requests beyond them wait in order of arrival.
    workers: Arc<Semaphore>,
    client: Client<HttpConnector, Body>,
    auth: SocketAddr,
    logs: SocketAddr,
}

/// Serves a listener for good.
pub(crate) async fn serve(
    listener: TcpListener,
    auth: SocketAddr,
    logs: SocketAddr,
) -> io::Result<()> {
    let gateway = Gateway {
        workers: Arc::new(Semaphore::new(WORKERS as usize)),
        client: connector::http1(),
        auth,
        logs,
    };
    let router = Router::new().fallback(proxy).with_state(gateway);
    let listener = listener.tap_io(|socket| _ = socket.set_nodelay(true));
    axum::serve(listener, router).await
}

async fn proxy(State(gateway): State<Gateway>, request: Request) -> Response {
    let Ok(Ok(_worker)) = timeout(WORKER_WAIT, gateway.workers.acquire()).await else {
        return StatusCode::GATEWAY_TIMEOUT.into_response();
    };
    match timeout(UPSTREAM_TIMEOUT, gateway.send(request)).await {
        Ok(Some(response)) => response,
        Ok(None) => StatusCode::BAD_GATEWAY.into_response(),
        Err(_) => StatusCode::GATEWAY_TIMEOUT.into_response(),
    }
}

impl Gateway {
    /// Sends a request on; `None` if its upstream cannot be reached.
    async fn send(&self, mut request: Request) -> Option<Response> {
        let path = request.uri().path();
        let upstream = if path.starts_with(LOGS_PATH) {
            self.logs
        } else {
            self.auth
        };
        *request.uri_mut() = format!("http://{upstream}{path}").parse::<Uri>().ok()?;
        // The client spoke HTTP/2; what goes on is HTTP/1.1.
        *request.version_mut() = http::Version::HTTP_11;
        let response = self.client.request(request).await.ok()?;
        Some(response.map(Body::new))
    }
}
