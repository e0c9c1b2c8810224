//! A page that needs three services: `bff-checkout SERVICES [LISTEN]` asks SERVICES for `/cart`, `/prices` and `/hints`.
//!
//! This is business, and so no part of a gateway: one that asked three services for a request would be as slow as the slowest and
//! fail with each of them, for everybody. It stands behind the gateway as one more upstream, and fails by itself.
#![allow(clippy::print_stdout, reason = "the line says where it listens")]

use std::{env, error::Error, time::Duration};

use axum::extract::{Extension, State};
use axum::http::{HeaderMap, HeaderName, Request, StatusCode};
use axum::{Json, Router, routing::get};
use bytes::Bytes;
use gw_retry::{Deadline, timeout::DeadlineLayer};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

/// What is left of the time, in milliseconds, for the services. It is not heeded here: the gateway passes on what clients send, and a
/// client that gave a page one millisecond would make this look as if it had failed.
const TIME_LEFT: HeaderName = HeaderName::from_static("x-timeout-ms");

/// By these the three calls and the page are one request in all logs and traces.
const PASSED_ON: [&str; 3] = ["x-request-id", "traceparent", "tracestate"];

#[derive(Clone)]
struct Services {
    http: Client<HttpConnector, Empty<Bytes>>,
    url: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("which services?")?;
    let listen = env::args().nth(2);
    let listen = listen.unwrap_or_else(|| "127.0.0.1:3000".to_owned());
    let http = Client::builder(TokioExecutor::new()).build_http();
    let deadline = DeadlineLayer::new().limit(Duration::from_secs(2))?;
    let app = Router::new()
        .route("/checkout", get(checkout))
        .with_state(Services { http, url })
        .layer(deadline);
    let listener = TcpListener::bind(listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn checkout(
    State(services): State<Services>,
    Extension(deadline): Extension<Deadline>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let left = deadline.remaining(Instant::now());
    let ask = |path| services.ask(path, &headers, left);
    // The page is worth showing without hints, so they may not take all of the time.
    let hints = async { Ok(timeout(left / 2, ask("/hints")).await) };
    let must = |path| async move { ask(path).await.ok_or(StatusCode::BAD_GATEWAY) };
    // All at once. If a cart or prices cannot be had, nobody waits for the others.
    let (cart, prices, hints) = tokio::try_join!(must("/cart"), must("/prices"), hints)?;
    let page = json!({ "cart": cart, "prices": prices, "hints": hints.ok().flatten() });
    Ok(Json(page))
}

impl Services {
    /// None if there is no answer that is a success, whatever the reason.
    async fn ask(&self, path: &str, page: &HeaderMap, left: Duration) -> Option<Value> {
        let left = left.as_millis().to_string();
        let request = Request::get(format!("{}{path}", self.url)).header(TIME_LEFT, left);
        let names = PASSED_ON.into_iter();
        let fields = names.filter_map(|name| Some((name, page.get(name)?)));
        let request = fields.fold(request, |it, (name, value)| it.header(name, value));
        let answer = self.http.request(request.body(Empty::new()).ok()?).await;
        let answer = answer.ok().filter(|answer| answer.status().is_success())?;
        let body = Limited::new(answer.into_body(), 1 << 20).collect().await;
        serde_json::from_slice(&body.ok()?.to_bytes()).ok()
    }
}
