//! HTTP/2 upstreams that refuse, go away, or are gone without a word.

use std::error::Error as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gw_core::Body;
use gw_core::context::Deadline;
use gw_pipeline::Timeouts;
use gw_pipeline::upstream::{ErrorKind, PoolConfig, Protocol, Upstream, UpstreamBuilder};
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use http_body_util::BodyExt as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(50);

fn http2(addr: SocketAddr) -> UpstreamBuilder {
    builder(addr).protocol(Protocol::Http2)
}

/// A server of one kind; it stops when it is dropped.
struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Runs `serve` for each connection.
    async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn({
            let connections = Arc::clone(&connections);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(serve(stream));
                }
            }
        });
        Self {
            addr,
            connections,
            accepting,
        }
    }

    /// Answers the first request of each connection by these frames, and closes it.
    async fn of_frames(frames: impl Into<Vec<u8>>) -> Self {
        let frames = frames.into();
        Self::start(move |stream| {
            let frames = frames.clone();
            async move { _ = answer(stream, &frames).await }
        })
        .await
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// SETTINGS without any, and the confirmation of the peer's.
const HELLO: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];

async fn answer(mut stream: TcpStream, frames: &[u8]) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(HELLO).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length as usize]).await?;
        if head[3] == 1 {
            stream.write_all(frames).await?;
            return stream.shutdown().await;
        }
    }
}

#[tokio::test]
async fn what_was_not_processed_is_told_apart() {
    let refused_stream = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7][..];
    let cancelled = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    // Of which the last stream that was processed is none, or the one that waits.
    let left_out = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let with_an_error = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 11];
    let included = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0];
    for (frames, kind) in [
        (refused_stream, ErrorKind::Unprocessed),
        (left_out, ErrorKind::Unprocessed),
        (with_an_error, ErrorKind::Unprocessed),
        (cancelled, ErrorKind::Answer),
        (included, ErrorKind::Answer),
    ] {
        let server = Server::of_frames(frames).await;
        let gateway = http2(server.addr).build().unwrap();
        let forward = forward(&gateway);
        let refusal = refused(&forward, post("hello".to_owned())).await;
        assert_eq!(refusal, ("BAD_GATEWAY", kind), "{frames:?}");
        is_quiet(&gateway).await;
        // The next one has a connection of its own.
        assert_eq!(refused(&forward, get("/")).await.1, kind);
        assert_eq!(server.connections(), 2);
    }
}

/// A 204 that states a length of 5.
const NO_CONTENT: &[u8] = &[0, 0, 5, 1, 5, 0, 0, 0, 1, 0x89, 0x0f, 0x0d, 1, b'5'];

#[tokio::test]
async fn an_answer_that_cannot_have_a_body_states_no_length() {
    let server = Server::of_frames(NO_CONTENT).await;
    let gateway = http2(server.addr).build().unwrap();
    let response = send(&forward(&gateway), get("/")).await.unwrap();
    assert_eq!(response.status(), 204);
    assert!(!response.headers().contains_key("content-length"));
    assert!(http_body::Body::is_end_stream(response.body()));
    let front = Front::start(forward(&gateway)).await;
    let mut client = Client::connect(front.addr).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), 204);
    assert_eq!(answer.header("content-length"), None);
}

/// 200, without the end of the stream and with it; a piece; trailers; a reset without an error, or the same for all.
const HEAD: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
const HEAD_ALONE: &[u8] = &[0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88];
const PIECE: &[u8] = &[0, 0, 1, 0, 0, 0, 0, 0, 1, b'a'];
const LAST_PIECE: &[u8] = &[0, 0, 1, 0, 1, 0, 0, 0, 1, b'a'];
const NO_PIECE: &[u8] = &[0, 0, 0, 0, 1, 0, 0, 0, 1];
const TRAILERS: &[u8] = &[0, 0, 5, 1, 5, 0, 0, 0, 1, 0, 1, b'x', 1, b'1'];
const NO_ERROR: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0];
const GOES_AWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// What the gateway makes of an answer of these frames: what it reads of it.
async fn read_frames(method: &str, frames: &[&[u8]]) -> Result<String, ErrorKind> {
    let server = Server::of_frames(frames.concat()).await;
    let gateway = http2(server.addr).build().unwrap();
    let asked = request(method, "/", Body::empty());
    let response = send(&forward(&gateway), asked).await.unwrap();
    let collected = response.into_body().collect().await;
    is_quiet(&gateway).await;
    let bytes = collected.map_err(|error| error.kind())?.to_bytes();
    Ok(String::from_utf8(bytes.to_vec()).unwrap())
}

/// Story: servers may end a request's stream without an error when they have answered in full (RFC 9113 section 8.1), so hyper takes
/// that for the end wherever it comes. Of an answer without a length the client took a part for the whole.
#[tokio::test]
async fn an_answer_that_breaks_off_without_an_error_is_not_whole() {
    for frames in [
        &[HEAD, PIECE, NO_ERROR][..],
        &[HEAD, NO_ERROR],
        &[HEAD, PIECE, GOES_AWAY],
    ] {
        let read = read_frames("GET", frames).await;
        assert_eq!(read, Err(ErrorKind::Answer), "{frames:?}");
    }
    let server = Server::of_frames([HEAD, PIECE, NO_ERROR].concat()).await;
    let gateway = http2(server.addr).build().unwrap();
    let front = Front::start(forward(&gateway)).await;
    let mut client = Client::connect(front.addr).await;
    client.get("/").await;
    assert!(!client.read_answer().await.is_complete());
}

/// Story: hyper's server resets a stream for the reason that it finds among the causes. A client was told by REFUSED_STREAM that nothing
/// had been done, and by ENHANCE_YOUR_CALM that it had asked for too much.
#[tokio::test]
async fn why_an_upstream_resets_its_answer_is_not_for_the_client() {
    let refused_stream = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7][..];
    let server = Server::of_frames([HEAD, PIECE, refused_stream].concat()).await;
    let gateway = http2(server.addr).build().unwrap();
    let response = send(&forward(&gateway), get("/")).await.unwrap();
    let error = response.into_body().collect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Answer);
    let mut causes = std::iter::successors(error.source(), |&error| error.source());
    assert!(causes.all(|cause| !cause.is::<h2::Error>()));
    // It is for the logs.
    let cause = error.source().unwrap().to_string();
    assert!(cause.contains("refused stream"), "{cause}");
}

#[tokio::test]
async fn what_has_ended_is_whole_however_it_ends() {
    for (frames, text) in [
        (&[HEAD_ALONE][..], ""),
        (&[HEAD_ALONE, NO_ERROR], ""),
        (&[HEAD, NO_PIECE], ""),
        (&[HEAD, LAST_PIECE], "a"),
        (&[HEAD, PIECE, LAST_PIECE, NO_ERROR], "aa"),
        (&[HEAD, PIECE, NO_PIECE, GOES_AWAY], "a"),
        (&[HEAD, TRAILERS], ""),
        (&[HEAD, PIECE, TRAILERS, NO_ERROR], "a"),
    ] {
        let read = read_frames("GET", frames).await;
        assert_eq!(read, Ok(text.to_owned()), "{frames:?}");
    }
    for frames in [&[HEAD_ALONE, NO_ERROR], &[HEAD, NO_PIECE]] {
        assert_eq!(read_frames("HEAD", frames).await, Ok(String::new()));
    }
}

/// A server that answers at once, for `/slow` with a body that never ends, and for `/never` not at all.
async fn alive() -> Server {
    Server::start(|stream| async move {
        let service = hyper::service::service_fn(|request: http::Request<_>| async move {
            let request: http::Request<hyper::body::Incoming> = request;
            let body = match request.uri().path() {
                "/slow" => {
                    let script = ScriptedBody::script();
                    Body::new(script.data("first").hold().build().0)
                }
                "/never" => std::future::pending().await,
                _ => Body::from("ok"),
            };
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        _ = serving.await;
    })
    .await
}

/// Passes bytes on, until the connections there are fall silent. New ones are passed on.
struct Path {
    server: Server,
    silence: Arc<Notify>,
}

impl Path {
    async fn to(target: SocketAddr) -> Self {
        let silence = Arc::new(Notify::new());
        let server = Server::start({
            let silence = Arc::clone(&silence);
            move |mut stream| {
                let silent = Arc::clone(&silence).notified_owned();
                async move {
                    let mut target = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut stream, &mut target) => {}
                        // The sockets stay open.
                        () = silent => std::future::pending().await,
                    }
                }
            }
        })
        .await;
        Self { server, silence }
    }

    fn fall_silent(&self) {
        self.silence.notify_waiters();
    }
}

fn hasty() -> http::Request<Body> {
    let mut request = get("/");
    request
        .extensions_mut()
        .insert(Timeouts::new().attempt(SHORT));
    request
}

#[tokio::test]
async fn a_connection_that_is_silent_through_an_attempt_is_not_used_again() {
    // Story: all requests of a runtime went into the one connection until TCP gave it up, minutes later.
    let alive = alive().await;
    let path = Path::to(alive.addr).await;
    let gateway = http2(path.server.addr).build().unwrap();
    let forward = forward(&gateway);
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
    path.fall_silent();
    let refusal = refused(&forward, hasty()).await;
    assert_eq!(refusal, ("GATEWAY_TIMEOUT", ErrorKind::AttemptTimeout));
    assert_eq!(fetch(&forward, get("/")).await, (200, "ok".to_owned()));
    assert_eq!(path.server.connections(), 2);
    // And it is closed, though the peer does not confirm it.
    until("the silent connection to close", &gateway, |it| {
        it.snapshot().open_connections == 1
    })
    .await;
}

/// Story: one client with a deadline of a millisecond, or one that sent its body slowly, had each of its requests cost a
/// connection.
#[tokio::test]
async fn a_client_that_is_in_a_hurry_or_slow_does_not_use_up_connections() {
    let server = alive().await;
    // An hour that passes at once would be full of pings.
    let gateway = http2(server.addr).ping_interval(10 * HOUR);
    let gateway = gateway.build().unwrap();
    let forward = forward(&gateway);
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
    let refusal = async |mut request: http::Request<Body>, timeouts| {
        request.extensions_mut().insert(timeouts);
        let answer = in_time(forward.clone().oneshot(request)).await;
        let rejection = answer.unwrap_err();
        (rejection.code().name(), kind(&rejection))
    };
    let mut hurried = get("/never");
    let deadline = Deadline::at(Instant::now() + HOUR).by_client();
    hurried.extensions_mut().insert(deadline);
    let expected = ("GATEWAY_TIMEOUT", ErrorKind::ClientDeadline);
    assert_eq!(refusal(hurried, PATIENT).await, expected);
    let script = ScriptedBody::script().data("slow").hold().data("ly");
    let slow = request("POST", "/never", Body::new(script.build().0));
    let timeouts = PATIENT.attempt(HOUR);
    let expected = ("CLIENT_TIMEOUT", ErrorKind::UploadTimeout);
    assert_eq!(refusal(slow, timeouts).await, expected);
    assert_eq!(fetch(&forward, get("/")).await, (200, "ok".to_owned()));
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_silent_connection_is_used_on_while_there_is_no_room_for_another() {
    let alive = alive().await;
    let path = Path::to(alive.addr).await;
    let pool = PoolConfig::new().max_connections(2);
    // Two runtimes would need two sockets; the second is taken by a connection of the same upstream elsewhere.
    let gateway = http2(path.server.addr).pool(pool).build().unwrap();
    let forward = forward(&gateway);
    let other = std::thread::spawn({
        let forward = forward.clone();
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            assert_eq!(runtime.block_on(fetch(&forward, get("/"))).0, 200);
            runtime
        }
    });
    let runtime = tokio::task::spawn_blocking(|| other.join().unwrap())
        .await
        .unwrap();
    let slow = send(&forward, get("/slow")).await.unwrap();
    assert_eq!(gateway.snapshot().open_connections, 2);
    path.fall_silent();
    assert_eq!(
        refused(&forward, hasty()).await.1,
        ErrorKind::AttemptTimeout
    );
    assert_eq!(
        refused(&forward, hasty()).await.1,
        ErrorKind::AttemptTimeout
    );
    drop(slow);
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_connection_in_use_that_gives_no_sign_of_life_is_closed() {
    let alive = alive().await;
    let path = Path::to(alive.addr).await;
    let gateway: Upstream = http2(path.server.addr)
        .ping_interval(HOUR)
        .ping_timeout(HOUR)
        .build()
        .unwrap();
    let mut slow = get("/slow");
    slow.extensions_mut().insert(PATIENT);
    let response = send(&forward(&gateway), slow).await.unwrap();
    path.fall_silent();
    let error = in_time(response.into_body().collect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Answer);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn nothing_outlives_the_upstream() {
    let alive = alive().await;
    let path = Path::to(alive.addr).await;
    let gateway = http2(path.server.addr).build().unwrap();
    let watch = gateway.clone();
    assert_eq!(fetch(&forward(&gateway), get("/")).await.0, 200);
    path.fall_silent();
    drop((gateway, watch));
    let tasks = tokio::runtime::Handle::current();
    // What is left are the tasks of this test's own servers: two that accept, one for each connection.
    gw_testkit::within("the connection's tasks to end", async {
        while tasks.metrics().num_alive_tasks() > 4 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
