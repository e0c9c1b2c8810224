//! A queue under the test's control, and requests to an intake in front of it.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test support, of which each test file uses a part"
)]

use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_core::context::PeerAddr;
use gw_logingest::intake::LogIngestBuilder;
use gw_logingest::queue::{AppendError, Durability, Leased, Queue, QueueState, QueueStatus, Want};
use gw_logingest::{Batch, Body, BoxError, Class, ClientId, LogIngest};
use gw_testkit::Gate;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tower::ServiceExt as _;

/// What the queue does with the next batches.
#[derive(Clone)]
pub enum Append {
    Store(Durability),
    Refuse(AppendError),
    /// Stores once the gate is open.
    Wait(Gate),
}

#[derive(Clone)]
pub struct FakeQueue(Arc<Mutex<State>>);

struct State {
    append: Append,
    status: QueueStatus,
    batches: Vec<Batch>,
    appending: usize,
    asked: Vec<usize>,
}

impl FakeQueue {
    pub fn new() -> Self {
        let mut status = QueueStatus::default();
        status.capacity = 1000;
        Self(Arc::new(Mutex::new(State {
            append: Append::Store(Durability::Host),
            status,
            batches: Vec::new(),
            appending: 0,
            asked: Vec::new(),
        })))
    }

    pub fn append_by(&self, append: Append) {
        self.0.lock().unwrap().append = append;
    }

    /// In percent.
    pub fn fill(&self, percent: u64) {
        self.0.lock().unwrap().status.bytes = percent * 10;
    }

    pub fn state(&self, state: QueueState) {
        self.0.lock().unwrap().status.state = state;
    }

    pub fn drain_rate(&self, rate: f64) {
        self.0.lock().unwrap().status.drain_rate = rate;
    }

    pub fn batches(&self) -> Vec<Batch> {
        self.0.lock().unwrap().batches.clone()
    }

    /// All stored events: class and JSON.
    pub fn events(&self) -> Vec<(Class, Value)> {
        let json = |json: &[u8]| serde_json::from_slice(json).expect("stored events are JSON");
        self.batches()
            .iter()
            .flat_map(|batch| batch.events().collect::<Vec<_>>())
            .map(|event| (event.class(), json(event.json())))
            .collect()
    }

    /// The classes of all stored events.
    pub fn classes(&self) -> Vec<Class> {
        self.events().into_iter().map(|(class, _)| class).collect()
    }

    /// The messages of all stored events.
    pub fn messages(&self) -> Vec<String> {
        let text = |(_, event): (Class, Value)| event["message"].as_str().unwrap().to_owned();
        self.events().into_iter().map(text).collect()
    }

    /// For how many bytes it was asked whether there is room.
    pub fn asked(&self) -> Vec<usize> {
        self.0.lock().unwrap().asked.clone()
    }

    pub fn appending(&self) -> usize {
        self.0.lock().unwrap().appending
    }
}

/// Counts appends that run.
struct Appending(FakeQueue);

impl Drop for Appending {
    fn drop(&mut self) {
        self.0.0.lock().unwrap().appending -= 1;
    }
}

impl Queue for FakeQueue {
    async fn append(&self, batch: Batch) -> Result<Durability, AppendError> {
        let append = {
            let mut state = self.0.lock().unwrap();
            state.appending += 1;
            state.append.clone()
        };
        let _appending = Appending(self.clone());
        let durability = match append {
            Append::Store(durability) => durability,
            Append::Refuse(error) => return Err(error),
            Append::Wait(gate) => {
                gate.pass().await;
                Durability::Process
            }
        };
        self.0.lock().unwrap().batches.push(batch);
        Ok(durability)
    }

    async fn lease(&self, _: Want) -> Vec<Leased> {
        pending().await
    }

    fn has_room(&self, _: &ClientId, bytes: usize) -> Result<(), AppendError> {
        let mut state = self.0.lock().unwrap();
        state.asked.push(bytes);
        match state.append {
            Append::Refuse(error) => Err(error),
            _ => Ok(()),
        }
    }

    fn status(&self) -> QueueStatus {
        self.0.lock().unwrap().status
    }

    fn hold(&self, _: &ClientId) {}

    fn release(&self, _: &ClientId) {}

    fn close(&self) {
        self.state(QueueState::Closed);
    }
}

pub const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// A valid event.
pub fn event(level: &str, message: &str) -> String {
    format!(r#"{{"trace_id":"{TRACE}","service":"shop","level":"{level}","message":"{message}"}}"#)
}

/// A valid event of this kind.
pub fn of_kind(kind: &str, message: &str) -> String {
    format!(
        r#"{{"trace_id":"{TRACE}","service":"shop","level":"info","message":"{message}","kind":"{kind}"}}"#
    )
}

/// `count` valid events in an array.
pub fn array(count: usize) -> String {
    let events: Vec<String> = (0..count).map(|n| event("info", &n.to_string())).collect();
    format!("[{}]", events.join(","))
}

pub fn builder(queue: &FakeQueue) -> LogIngestBuilder<FakeQueue> {
    LogIngest::builder(queue.clone())
}

/// A POST of JSON from one address.
pub fn post(body: impl Into<String>) -> Request<Body> {
    request("application/json", Body::from(body.into()))
}

pub fn ndjson(body: impl Into<String>) -> Request<Body> {
    request("application/x-ndjson", Body::from(body.into()))
}

pub fn request<B>(media_type: &str, body: B) -> Request<B> {
    let mut request = Request::post("/api/logs")
        .header("content-type", media_type)
        .body(body)
        .unwrap();
    let peer = SocketAddr::from(([192, 0, 2, 1], 49152));
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub json: Value,
    pub response: Response<()>,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        let value = self.response.headers().get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub fn code(&self) -> &str {
        self.json["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn detail(&self, name: &str) -> &Value {
        &self.json["error"]["details"][name]
    }
}

pub async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    Answer {
        status: parts.status.as_u16(),
        json: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        response: Response::from_parts(parts, ()),
    }
}

pub async fn send<Q, B>(ingest: &LogIngest<Q>, request: Request<B>) -> Answer
where
    Q: Queue,
    B: http_body::Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let Ok(response) = ingest.clone().oneshot(request).await;
    read(response).await
}

pub const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}
