use std::net::SocketAddr;

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use serde::Deserialize;
use serde_json::Value;

use crate::connector;
use crate::scenario::LOGS_PATH;

/// The log backend of the write-up: it writes to the search node while its caller waits, and whatever goes wrong there
/// is a 400 to the caller.
pub(super) fn router(sink: SocketAddr) -> Router {
    let client = connector::http1();
    let backend = Backend { client, sink };
    Router::new()
        .route(LOGS_PATH, post(upload))
        .with_state(backend)
}

#[derive(Debug, Clone)]
struct Backend {
    client: Client<HttpConnector, Full<Bytes>>,
    sink: SocketAddr,
}

#[derive(Deserialize)]
struct Answer {
    errors: bool,
}

async fn upload(State(backend): State<Backend>, batch: Bytes) -> StatusCode {
    // A blocking backend does not notice that its caller has left: it goes on writing.
    let written = tokio::spawn(async move { backend.write(&batch).await });
    match written.await {
        Ok(Some(())) => StatusCode::OK,
        Ok(None) | Err(_) => StatusCode::BAD_REQUEST,
    }
}

impl Backend {
    /// Writes a batch; `None` if any of it was not taken.
    async fn write(&self, batch: &[u8]) -> Option<()> {
        let events: Vec<Value> = serde_json::from_slice(batch).ok()?;
        let mut body = Vec::with_capacity(batch.len() + 16 * events.len());
        for event in &events {
            body.extend_from_slice(b"{\"index\":{}}\n");
            serde_json::to_writer(&mut body, event).ok()?;
            body.push(b'\n');
        }
        let request = Request::post(format!("http://{}/logs/_bulk", self.sink))
            .header(CONTENT_TYPE, "application/x-ndjson")
            .body(Full::new(body.into()))
            .ok()?;
        let response = self.client.request(request).await.ok()?;
        let status = response.status();
        let answer = response.into_body().collect().await.ok()?.to_bytes();
        let answer: Answer = serde_json::from_slice(&answer).ok()?;
        (status.is_success() && !answer.errors).then_some(())
    }
}
