//! Each timer, and what it is called.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use gw_core::attempt::Failure;
use gw_core::context::Deadline;
use gw_core::record::Record;
use gw_pipeline::Timeouts;
use gw_pipeline::upstream::{
    ErrorKind, PoolConfig, Protocol, Upstream as Gateway, UpstreamBuilder,
};
use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use gw_testkit::upstream::{At, ReadBody, Reply, Upstream, always};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};
use tower::ServiceExt as _;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(30);

/// What an exchange ends with that waits for nothing but time once the upstream has the request.
async fn times_out(
    reply: Reply,
    timeouts: Timeouts,
    set: impl FnOnce(UpstreamBuilder) -> UpstreamBuilder,
    request: http::Request<gw_core::Body>,
) -> ErrorKind {
    let upstream = Upstream::start(always(reply)).await;
    let gateway = set(builder(upstream.addr())).build().unwrap();
    let mut request = request;
    request.extensions_mut().insert(timeouts);
    let sending = tokio::spawn(forward(&gateway).oneshot(request));
    upstream.arrived(1).await;
    let rejection = in_time(sending).await.unwrap().unwrap_err();
    assert_eq!(rejection.code().name(), "GATEWAY_TIMEOUT");
    assert!(rejection.retry_after_hint().is_some());
    is_quiet(&gateway).await;
    kind(&rejection)
}

#[tokio::test]
async fn the_attempt() {
    let timeouts = PATIENT.attempt(HOUR);
    let stalled = Reply::ok().stall(At::Start);
    let kind = times_out(stalled, timeouts, |it| it, get("/")).await;
    assert_eq!(kind, ErrorKind::AttemptTimeout);
}

/// Story: the attempts of clients that sent their bodies slowly ended as failures of the upstream. Five of them opened its
/// breaker, and left its endpoints out.
#[tokio::test]
async fn the_attempt_of_a_client_that_sends_slowly() {
    let upstream = Upstream::start(always(Reply::ok().read_body(ReadBody::First))).await;
    let gateway = builder(upstream.addr()).build().unwrap();
    for of_the_exchange in [false, true] {
        let body = ScriptedBody::script().data("slow").hold().data("ly");
        let (body, sender) = body.build();
        let mut request = post(body);
        let mut timeouts = PATIENT;
        if of_the_exchange {
            let deadline = Deadline::at(Instant::now() + HOUR);
            request.extensions_mut().insert(deadline);
        } else {
            timeouts.attempt = HOUR;
        }
        request.extensions_mut().insert(timeouts);
        let sending = tokio::spawn(forward(&gateway).oneshot(request));
        sender.held().await;
        let rejection = in_time(sending).await.unwrap().unwrap_err();
        assert_eq!(rejection.code().name(), "CLIENT_TIMEOUT");
        assert_eq!(kind(&rejection), ErrorKind::UploadTimeout);
        assert_eq!(rejection.failure(), Failure::Local);
        is_quiet(&gateway).await;
    }
}

/// Story: a call ended as CANCELLED, "The request did not arrive in time", although the client had said what it had to, and waited.
/// Clients of gRPC do not take that for the end of the time that they gave.
#[tokio::test]
async fn the_time_of_a_call_whose_request_is_open() {
    let upstream = Upstream::start(always(Reply::ok().read_body(ReadBody::First))).await;
    let gateway = builder(upstream.addr()).build().unwrap();
    let refusal = async |timeouts: Timeouts, deadline: Option<Deadline>| {
        let (body, sender) = ScriptedBody::script()
            .data("message")
            .hold()
            .data("another")
            .build();
        let mut call = post(body);
        let content_type = HeaderValue::from_static("application/grpc");
        call.headers_mut().insert(CONTENT_TYPE, content_type);
        call.extensions_mut().insert(timeouts);
        if let Some(deadline) = deadline {
            call.extensions_mut().insert(deadline);
        }
        let sending = tokio::spawn(forward(&gateway).oneshot(call));
        sender.held().await;
        let rejection = in_time(sending).await.unwrap().unwrap_err();
        is_quiet(&gateway).await;
        // Whose turn it was cannot be told.
        assert_eq!(rejection.failure(), Failure::Local);
        (rejection.code().name(), kind(&rejection))
    };
    let deadline = || Deadline::at(Instant::now() + HOUR);
    let by_route = ("GATEWAY_TIMEOUT", ErrorKind::CallTimeout);
    assert_eq!(refusal(PATIENT.attempt(HOUR), None).await, by_route);
    assert_eq!(refusal(PATIENT, Some(deadline())).await, by_route);
    let by_client = ("GATEWAY_TIMEOUT", ErrorKind::ClientDeadline);
    let ended = refusal(PATIENT, Some(deadline().by_client())).await;
    assert_eq!(ended, by_client);
}

#[tokio::test]
async fn the_first_byte() {
    let timeouts = PATIENT.first_byte(HOUR);
    let stalled = Reply::ok().stall(At::Head(5));
    let kind = times_out(stalled, timeouts, |it| it, post("body".to_owned())).await;
    assert_eq!(kind, ErrorKind::FirstByteTimeout);
}

#[tokio::test]
async fn the_deadline_before_the_head() {
    let mut request = get("/");
    let deadline = Deadline::after(Instant::now(), HOUR).unwrap();
    request.extensions_mut().insert(deadline);
    let stalled = Reply::ok().stall(At::Start);
    let kind = times_out(stalled, PATIENT, |it| it, request).await;
    assert_eq!(kind, ErrorKind::DeadlinePassed);
}

#[tokio::test]
async fn an_upstream_that_stops_reading() {
    let mut script = ScriptedBody::script();
    let piece = Bytes::from(vec![0; 64 * 1024]);
    // More than the sockets' buffers and hyper's take.
    for _ in 0..512 {
        script = script.data(piece.clone());
    }
    let stalled = Reply::ok().read_body(ReadBody::After).stall(At::Start);
    let set = |it: UpstreamBuilder| it.send_timeout(HOUR);
    let kind = times_out(stalled, PATIENT, set, post(script.build().0)).await;
    assert_eq!(kind, ErrorKind::SendTimeout);
}

#[tokio::test]
async fn a_connection_that_is_not_made() {
    // A listener that accepts nobody, and whose queue is full.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let addr = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = timeout(Duration::from_millis(100), TcpStream::connect(addr)).await {
        filling.push(stream.unwrap());
        assert!(
            filling.len() < 1000,
            "the queue of the listener never fills"
        );
    }
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let gateway = builder(addr).connect_timeout(SHORT).protocol(protocol);
        let gateway = gateway.build().unwrap();
        let record = Record::default();
        let mut recorded = get("/");
        recorded.extensions_mut().insert(record.clone());
        let refusal = refused(&forward(&gateway), recorded).await;
        assert_eq!(refusal, ("GATEWAY_TIMEOUT", ErrorKind::ConnectTimeout));
        is_quiet(&gateway).await;
        // Story: it was the gateway that seemed to take so long, and the upstream not to have been waited for.
        let waited = record.exchange().upstream_time;
        assert!(waited >= Some(SHORT), "{protocol:?}: {waited:?}");
    }
    // Story: when it was the attempt that ended first, the request counted as one that might have been sent.
    let gateway = builder(addr).build().unwrap();
    let mut hasty = get("/");
    hasty
        .extensions_mut()
        .insert(Timeouts::new().attempt(SHORT));
    let rejection = send(&forward(&gateway), hasty).await.unwrap_err();
    assert_eq!(kind(&rejection), ErrorKind::ConnectTimeout);
    assert_eq!(rejection.failure(), Failure::NotSent);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn an_answer_that_is_there_beats_a_timer_that_fires_with_it() {
    let upstream = Upstream::start(always(Reply::ok().body("ok"))).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    // The next request finds a connection, so that one poll sends it.
    fetch(&forward, get("/")).await;
    let mut request = get("/");
    let timeouts = Timeouts::new().attempt(SHORT).first_byte(SHORT);
    request.extensions_mut().insert(timeouts);
    let mut sending = pin!(send(&forward, request));
    assert!(
        poll_fn(|cx| Poll::Ready(sending.as_mut().poll(cx)))
            .await
            .is_pending()
    );
    let due = Instant::now() + SHORT;
    upstream.ended(2).await;
    // There is one thread, which has read that answer before it reads one that comes after it.
    fetch(&forward, get("/")).await;
    sleep_until(due).await;
    assert_eq!(text(sending.await.unwrap()).await, "ok");
}

/// The error that the body ends with, the code that an observer learns, and whom the error blames but the upstream.
async fn body_error(
    gateway: &Gateway,
    idle: Duration,
    mut request: http::Request<gw_core::Body>,
) -> (ErrorKind, &'static str, Option<Failure>) {
    let timeouts = PATIENT.idle(idle);
    request.extensions_mut().insert(timeouts);
    let record = Record::default();
    request.extensions_mut().insert(record.clone());
    let response = send(&forward(gateway), request).await.unwrap();
    let error = in_time(response.into_body().collect()).await.unwrap_err();
    is_quiet(gateway).await;
    // An observer sees that it was not the upstream that broke the answer off.
    let code = record.exchange().code.unwrap();
    (error.kind(), code.name(), blamed(&error))
}

const IDLE: (ErrorKind, &str, Option<Failure>) = (ErrorKind::IdleTimeout, "GATEWAY_TIMEOUT", None);
const DEADLINE: (ErrorKind, &str, Option<Failure>) =
    (ErrorKind::DeadlinePassed, "GATEWAY_TIMEOUT", None);
const UPLOAD: (ErrorKind, &str, Option<Failure>) = (
    ErrorKind::UploadTimeout,
    "CLIENT_TIMEOUT",
    Some(Failure::Local),
);

#[tokio::test]
async fn a_gap_in_the_body() {
    let stalled = Reply::ok().body("0123456789").stall(At::Body(3));
    let upstream = Upstream::start(always(stalled)).await;
    let ended = body_error(&plain(&upstream), HOUR, get("/")).await;
    assert_eq!(ended, IDLE);
    // A request that has come whole is not waited for.
    let whole = post("whole".to_owned());
    let ended = body_error(&plain(&upstream), HOUR, whole).await;
    assert_eq!(ended, IDLE);
}

/// Story: an upstream had sent the head of its answer and waited for the rest of the request. The timers of the answer
/// blamed the upstream, and clients that sent slowly opened its breaker.
#[tokio::test]
async fn an_answer_that_waits_for_a_client_that_sends_slowly() {
    let waiting = Reply::ok()
        .body("hello")
        .read_body(ReadBody::After)
        .stall(At::Body(2));
    let upstream = Upstream::start(always(waiting)).await;
    let slow = || {
        let body = ScriptedBody::script().data("slow").hold().data("ly");
        post(body.build().0)
    };
    let gateway = plain(&upstream);
    assert_eq!(body_error(&gateway, HOUR, slow()).await, UPLOAD);
    let mut request = slow();
    let deadline = Deadline::after(Instant::now(), HOUR).unwrap();
    request.extensions_mut().insert(deadline);
    assert_eq!(body_error(&gateway, PATIENT.idle, request).await, UPLOAD);
}

#[tokio::test]
async fn the_deadline_within_the_body() {
    // It never pauses for long, and never ends.
    let dripping = Reply::ok().body(vec![b'a'; 3000]).drip(1, HOUR / 60);
    let upstream = Upstream::start(always(dripping)).await;
    let mut request = get("/");
    let deadline = Deadline::after(Instant::now(), HOUR).unwrap();
    request.extensions_mut().insert(deadline);
    let ended = body_error(&plain(&upstream), PATIENT.idle, request).await;
    assert_eq!(ended, DEADLINE);
}

/// Story: the deadline was looked at only while there was nothing to read. A client that read a fast upstream's answer
/// slowly held its slot for as long as it liked. Then it was looked at, and such clients counted as failures of the upstream's.
#[tokio::test]
async fn the_deadline_of_a_client_that_reads_slowly() {
    let upstream = Upstream::start(always(Reply::ok().chunks(["a"; 8]))).await;
    let gateway = plain(&upstream);
    let mut request = get("/");
    request
        .extensions_mut()
        .insert(Deadline::at(Instant::now() + HOUR));
    let record = Record::default();
    request.extensions_mut().insert(record.clone());
    let response = send(&forward(&gateway), request).await.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    pass(HOUR).await;
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DownloadTimeout);
    assert_eq!(blamed(&error), Some(Failure::Local));
    assert_eq!(record.exchange().code.unwrap().name(), "CLIENT_TIMEOUT");
    is_quiet(&gateway).await;
}

/// Story: the time that a client took to send its request counted as the upstream's. Who then read slowly as well had the upstream
/// blamed for it.
#[tokio::test]
async fn the_deadline_of_a_client_that_sends_and_reads_slowly() {
    let reply = Reply::ok().read_body(ReadBody::First).chunks(["a"; 8]);
    let upstream = Upstream::start(always(reply)).await;
    let gateway = plain(&upstream);
    let (body, sender) = ScriptedBody::script()
        .data("slow")
        .hold()
        .data("ly")
        .build();
    let mut request = post(body);
    request.extensions_mut().insert(PATIENT);
    request
        .extensions_mut()
        .insert(Deadline::at(Instant::now() + HOUR));
    let answer = tokio::spawn(forward(&gateway).oneshot(request));
    sender.held().await;
    pass(HOUR * 6 / 10).await;
    sender.resume();
    let response = gw_testkit::within("the head of an answer", answer).await;
    let mut body = response.unwrap().unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    pass(HOUR * 4 / 10).await;
    let error = body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DownloadTimeout);
    assert_eq!(blamed(&error), Some(Failure::Local));
    is_quiet(&gateway).await;
}

/// Story: a request that had waited for a slot for longer than an upstream may stop reading was given up before a byte of it
/// was written, and the upstream was blamed.
#[tokio::test]
async fn an_upstream_has_its_time_to_read_from_when_it_has_the_request() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate).body("ok"))).await;
    let pool = PoolConfig::new()
        .max_connections(1)
        .queue_timeout(10 * HOUR);
    let gateway = builder(upstream.addr()).pool(pool).send_timeout(HOUR);
    let gateway = gateway.build().unwrap();
    let post = || {
        let mut request = post("body".to_owned());
        request.extensions_mut().insert(PATIENT);
        forward(&gateway).oneshot(request)
    };
    let first = tokio::spawn(post());
    gate.reached(1).await;
    let second = tokio::spawn(post());
    until("the second to wait", &gateway, |it| {
        it.snapshot().queued == 1
    })
    .await;
    pass(2 * HOUR).await;
    gate.open();
    for answer in [first, second] {
        let answer = gw_testkit::within("the head of an answer", answer).await;
        assert_eq!(text(answer.unwrap().unwrap()).await, "ok");
    }
}

#[tokio::test]
async fn steady_progress_is_never_idle() {
    let dripping = Reply::ok().body(vec![b'a'; 40]).drip(1, HOUR / 10);
    let upstream = Upstream::start(always(dripping)).await;
    let mut request = get("/");
    let timeouts = PATIENT.idle(HOUR);
    request.extensions_mut().insert(timeouts);
    let response = send(&forward(&plain(&upstream)), request).await.unwrap();
    let body = in_time(response.into_body().collect()).await.unwrap();
    assert_eq!(body.to_bytes().len(), 40);
}

#[tokio::test]
async fn a_client_that_reads_late_is_not_the_upstreams_gap() {
    let upstream = Upstream::start(always(Reply::ok().chunks(["a", "b"]))).await;
    let mut request = get("/");
    let timeouts = PATIENT.idle(HOUR);
    request.extensions_mut().insert(timeouts);
    let response = send(&forward(&plain(&upstream)), request).await.unwrap();
    upstream.ended(1).await;
    // The client is late: by twice the time that the upstream may pause for.
    pass(2 * HOUR).await;
    assert_eq!(text(response).await, "ab");
}
