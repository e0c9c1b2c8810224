//! HTTP/2 connections that are full, while no further one comes.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use gw_core::Body;
use gw_core::awaited::Awaited;
use gw_core::record::Record;
use gw_pipeline::Timeouts;
use gw_pipeline::upstream::{ErrorKind, PoolConfig, Protocol, Upstream};
use gw_testkit::Gate;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tower::ServiceExt as _;

use crate::support::*;

/// Serves one connection, which takes so many requests at the same time.
async fn serve(stream: TcpStream, streams: u32, gate: Gate) {
    let service = hyper::service::service_fn(move |_: Request<_>| {
        let gate = gate.clone();
        async move {
            gate.pass().await;
            Ok::<_, Infallible>(Response::new(Body::from("passed")))
        }
    });
    let serve = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .max_concurrent_streams(streams)
        .serve_connection(TokioIo::new(stream), service);
    _ = serve.await;
}

/// Serves its first connection, and takes no further one: the queue of its listener is full.
struct Busy {
    gate: Gate,
    serving: JoinHandle<()>,
    _filling: Vec<TcpStream>,
    _listener: TcpListener,
}

fn listener() -> TcpListener {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    socket.listen(1).unwrap()
}

impl Busy {
    /// Takes the connection that is being made.
    async fn start(listener: TcpListener, streams: u32) -> Self {
        let (stream, _) = listener.accept().await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mut filling = Vec::new();
        while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(addr)).await {
            filling.push(stream.unwrap());
            assert!(filling.len() < 1000, "the queue never fills");
        }
        let gate = Gate::new();
        Self {
            serving: tokio::spawn(serve(stream, streams, gate.clone())),
            gate,
            _filling: filling,
            _listener: listener,
        }
    }

    /// One whose only stream is taken by the request that is returned.
    async fn full() -> (Self, Upstream, JoinHandle<u16>) {
        let listener = listener();
        let gateway = waiting_for_hours(listener.local_addr().unwrap());
        let first = sent(&gateway, PATIENT);
        let busy = Self::start(listener, 1).await;
        // It says how many it allows with its first answer at the latest.
        busy.gate.release(1);
        assert_eq!(first.await.unwrap(), 200);
        let held = sent(&gateway, PATIENT);
        busy.gate.reached(1).await;
        (busy, gateway, held)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn with(timeouts: Timeouts) -> Request<Body> {
    let mut request = get("/");
    request.extensions_mut().insert(timeouts);
    request
}

fn sent(gateway: &Upstream, timeouts: Timeouts) -> JoinHandle<u16> {
    let sending = forward(gateway).oneshot(with(timeouts));
    tokio::spawn(async move {
        let response = sending.await.unwrap();
        let status = response.status();
        response.into_body().collect().await.unwrap();
        status.as_u16()
    })
}

/// How a request is refused, and after which time.
async fn refusal(gateway: Upstream, timeouts: Timeouts) -> (&'static str, ErrorKind, Duration) {
    let begun = Instant::now();
    let answer = forward(&gateway).oneshot(with(timeouts)).await;
    let rejection = answer.unwrap_err();
    (rejection.code().name(), kind(&rejection), begun.elapsed())
}

const QUEUE: PoolConfig = PoolConfig::new()
    .max_connections(1000)
    .max_idle(10)
    .idle_timeout(Duration::from_secs(360_000))
    .queue(10)
    .queue_timeout(HOUR);

/// A gateway for which connecting takes hours.
fn waiting_for_hours(addr: SocketAddr) -> Upstream {
    builder(addr)
        .protocol(Protocol::Http2)
        .pool(QUEUE)
        .connect_timeout(10 * HOUR)
        .ping_interval(100 * HOUR)
        .build()
        .unwrap()
}

/// Story: who made the further connection waited for nothing else, and for longer than the queue.
#[tokio::test]
async fn while_a_further_connection_is_not_made_requests_wait_for_a_stream() {
    let (busy, gateway, first) = Busy::full().await;
    let waiting = [sent(&gateway, PATIENT), sent(&gateway, PATIENT)];
    until("a further try", &gateway, |it| {
        it.snapshot().open_connections == 2
    })
    .await;
    busy.gate.open();
    for sent in waiting.into_iter().chain([first]) {
        assert_eq!(gw_testkit::within("an answer", sent).await.unwrap(), 200);
    }
    // The try goes on, for those who come next.
    assert_eq!(gateway.snapshot().open_connections, 2);
}

/// Story: a connection that was swallowed was the upstream's failure, although it had another one that worked.
#[tokio::test]
async fn a_further_connection_that_is_not_made_is_not_the_upstreams_failure() {
    let (_busy, gateway, _first) = Busy::full().await;
    let hasty = PATIENT.attempt(2 * HOUR);
    let record = Record::default();
    let mut recorded = with(hasty);
    recorded.extensions_mut().insert(record.clone());
    let recorded = tokio::spawn(forward(&gateway).oneshot(recorded));
    let (one, other) = in_time(async move {
        let waited = async |after| {
            tokio::time::sleep(after).await;
            refusal(gateway.clone(), hasty).await
        };
        tokio::join!(waited(Duration::ZERO), waited(HOUR / 2))
    })
    .await;
    for (code, kind, after) in [one, other] {
        assert_eq!((code, kind), ("OVERLOADED", ErrorKind::QueueTimeout));
        assert!(after >= HOUR && after < HOUR + HOUR / 60, "{after:?}");
    }
    // Nor is it the upstream that was waited for.
    recorded.await.unwrap().unwrap_err();
    assert_eq!(record.exchange().upstream_time, None);
}

/// Story: breakers and ejection were told that a request which stood in the gateway's own queue for a stream waited for the upstream, so
/// an endpoint with full connections was slow.
#[tokio::test]
async fn who_waits_for_a_stream_does_not_wait_for_the_upstream() {
    let (busy, gateway, first) = Busy::full().await;
    let mut request = with(PATIENT);
    let awaited = Awaited::new(Instant::now());
    request.extensions_mut().insert(awaited.clone());
    let answer = tokio::spawn(forward(&gateway).oneshot(request));
    until("a further try", &gateway, |it| {
        it.snapshot().open_connections == 2
    })
    .await;
    assert_eq!(awaited.since(), None);
    busy.gate.release(1);
    assert_eq!(first.await.unwrap(), 200);
    busy.gate.reached(1).await;
    assert!(awaited.since().is_some());
    answer.abort();
}

/// Story: of many who came together, those who were still waiting for the first connection when it was full waited for the whole
/// attempt, and blamed the upstream.
#[tokio::test]
async fn a_connection_that_is_full_at_once_is_waited_for_as_any_other() {
    let listener = listener();
    let gateway = waiting_for_hours(listener.local_addr().unwrap());
    let hasty = PATIENT.attempt(2 * HOUR);
    let waiting: Vec<_> = (0..103)
        .map(|_| tokio::spawn(refusal(gateway.clone(), hasty)))
        .collect();
    let busy = Busy::start(listener, 100).await;
    busy.gate.reached(100).await;
    pass(HOUR + HOUR / 60).await;
    until("those without a place to be refused", &gateway, |it| {
        it.snapshot().in_flight == 100
    })
    .await;
    let refused = waiting.into_iter().filter(JoinHandle::is_finished);
    let refused: Vec<_> = refused.collect();
    assert_eq!(refused.len(), 3);
    for refused in refused {
        assert_eq!(refused.await.unwrap().1, ErrorKind::QueueTimeout);
    }
}

/// Story: others were refused for want of a stream while there was no connection any more, but one was being made.
#[tokio::test]
async fn once_no_connection_is_there_it_is_the_further_one_that_is_waited_for() {
    let (busy, gateway, _first) = Busy::full().await;
    let hasty = PATIENT.attempt(2 * HOUR);
    let waiting: Vec<_> = (0..6)
        .map(|_| tokio::spawn(refusal(gateway.clone(), hasty)))
        .collect();
    until("a further try", &gateway, |it| {
        it.snapshot().open_connections == 2
    })
    .await;
    busy.serving.abort();
    until("the first to end", &gateway, |it| {
        it.snapshot().open_connections == 1
    })
    .await;
    for refused in waiting {
        let (_, kind, after) = in_time(async move { refused.await.unwrap() }).await;
        assert_eq!(kind, ErrorKind::ConnectTimeout);
        assert!(after >= 2 * HOUR);
    }
}

/// Story: a request that went into a further connection failed with it, and with it each that came while the first was full.
#[tokio::test]
async fn a_further_connection_that_is_closed_at_once_gets_no_request() {
    let listener = listener();
    let gateway = waiting_for_hours(listener.local_addr().unwrap());
    let gate = Gate::new();
    gate.release(1);
    let serving = tokio::spawn({
        let gate = gate.clone();
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            let closing = async {
                loop {
                    drop(listener.accept().await.unwrap());
                }
            };
            tokio::select! {
                () = serve(stream, 1, gate) => {}
                () = closing => {}
            }
        }
    });
    assert_eq!(sent(&gateway, PATIENT).await.unwrap(), 200);
    let held = sent(&gateway, PATIENT);
    gate.reached(1).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(sent(&gateway, PATIENT));
        until("a further try", &gateway, |it| {
            it.snapshot().open_connections == 2
        })
        .await;
        until("it to fail", &gateway, |it| {
            it.snapshot().open_connections == 1
        })
        .await;
    }
    gate.open();
    for sent in waiting.into_iter().chain([held]) {
        assert_eq!(gw_testkit::within("an answer", sent).await.unwrap(), 200);
    }
    serving.abort();
}
