//! The server under test: a service that counts by itself how many requests run in each lane, whatever the lanes say.

use std::convert::Infallible;
use std::future::{IntoFuture as _, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use gw_bulkhead::UpgradePermit;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::yield_now;
use tower::{Layer, Service};

/// Of one lane.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    running: AtomicU64,
    /// The most that ran at once.
    peak: AtomicU64,
    /// How many began to run.
    started: AtomicU64,
    /// How many came to the layer.
    arrived: AtomicU64,
}

/// One request that runs.
struct Running(Arc<Gauge>);

impl Gauge {
    fn enter(self: &Arc<Self>) -> Running {
        self.started.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.peak.fetch_max(running, Ordering::SeqCst);
        Running(Arc::clone(self))
    }

    pub(crate) fn running(&self) -> u64 {
        self.running.load(Ordering::SeqCst)
    }

    pub(crate) fn peak(&self) -> u64 {
        self.peak.load(Ordering::SeqCst)
    }

    pub(crate) fn started(&self) -> u64 {
        self.started.load(Ordering::SeqCst)
    }

    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::SeqCst)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The gauges by the names of the lanes.
pub(crate) type Gauges = Arc<Vec<(&'static str, Arc<Gauge>)>>;

pub(crate) fn gauges(lanes: impl IntoIterator<Item = &'static str>) -> Gauges {
    Arc::new(
        lanes
            .into_iter()
            .map(|lane| (lane, Arc::default()))
            .collect(),
    )
}

pub(crate) fn gauge<'a>(gauges: &'a Gauges, lane: &str) -> &'a Arc<Gauge> {
    let found = gauges.iter().find(|(name, _)| *name == lane);
    &found.unwrap_or_else(|| panic!("no lane {lane}")).1
}

/// The first part of the path is the lane.
pub(crate) fn lane_of(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}

/// Serves HTTP/1 and, with prior knowledge, HTTP/2; with a layer of its own for each connection.
pub(crate) async fn serve<L>(gauges: Gauges, layer: L) -> SocketAddr
where
    L: Layer<axum::routing::Route> + Clone + Send + Sync + 'static,
    L::Service: Service<Request, Response: axum::response::IntoResponse, Error: Into<Infallible>>
        + Clone
        + Send
        + Sync
        + 'static,
    <L::Service as Service<Request>>::Future: Send + 'static,
{
    let arrivals = Arc::clone(&gauges);
    let app = Router::new()
        .fallback(answer)
        .layer(Extension(gauges))
        .layer(layer)
        // Outermost: counts what comes to the layer, whatever becomes of it there.
        .layer(tower::util::MapRequestLayer::new(
            move |request: Request| {
                let gauge = gauge(&arrivals, lane_of(request.uri().path()));
                gauge.arrived.fetch_add(1, Ordering::SeqCst);
                request
            },
        ));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, app).into_future());
    address
}

async fn answer(Extension(gauges): Extension<Gauges>, mut request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let running = gauge(&gauges, lane_of(&path)).enter();
    let kind = path.split('/').nth(2).unwrap_or_default();
    match kind {
        "quick" => Response::new(Body::from("done")),
        "slow" => {
            for _ in 0..40 {
                yield_now().await;
            }
            Response::new(Body::from("done"))
        }
        "never" => pending().await,
        "stream" => Response::new(frames(running, Some(20), false)),
        "endless" => Response::new(frames(running, None, false)),
        "broken" => Response::new(frames(running, Some(3), true)),
        "upload" => {
            let body = request.body_mut().collect().await;
            // A client that breaks off gets no answer anyway.
            let length = body.map_or(0, |body| body.to_bytes().len());
            Response::new(Body::from(length.to_string()))
        }
        "tunnel" => tunnel(running, request),
        other => panic!("no such kind: {other}"),
    }
}

/// The request runs until its body has ended or is dropped.
fn frames(running: Running, count: Option<usize>, broken: bool) -> Body {
    let next = move |(running, at): (Option<Running>, usize)| async move {
        yield_now().await;
        let more = count.is_none_or(|count| at < count);
        if running.is_some() && more {
            return Some((Ok(Bytes::from_static(&[b'x'; 512])), (running, at + 1)));
        }
        // Gone before the end or the error is told, as the place is free when that is.
        let fails = broken && running.is_some();
        drop(running);
        fails.then_some((Err("broken off"), (None, at)))
    };
    Body::from_stream(stream::unfold((Some(running), 0), next).boxed())
}

/// Echoes for as long as the connection is open.
fn tunnel(running: Running, request: Request) -> Response {
    let permit = request.extensions().get::<UpgradePermit>().cloned();
    tokio::spawn(async move {
        if let Ok(connection) = hyper::upgrade::on(request).await {
            let (mut read, mut write) = tokio::io::split(TokioIo::new(connection));
            // It ends when the client does.
            _ = tokio::io::copy(&mut read, &mut write).await;
        }
        drop(running);
        drop(permit);
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("echo"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    response
}
