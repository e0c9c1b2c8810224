//! A server whose service the test drives.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gw_pipeline::Body;
use gw_pipeline::server::{
    CloseReason, Drained, Incoming, Server, ServerConfig, ServerConfigBuilder, Snapshot,
};
use gw_testkit::client::Client;
use gw_testkit::service::{ControlledService, ServiceHandle};
use gw_testkit::{PATIENCE, within};
use http::{Request, Response};
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) type Service = ControlledService<Incoming, Body, Infallible>;
pub(crate) type Handle = ServiceHandle<Incoming, Body, Infallible>;
pub(crate) type Http2Client = SendRequest<Full<Bytes>>;

/// A server on a listener of its own.
pub(crate) struct Running {
    pub(crate) addr: SocketAddr,
    pub(crate) server: Server,
    pub(crate) service: Handle,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Drained>,
}

impl Running {
    /// A server with these settings.
    pub(crate) async fn start(
        set: impl FnOnce(ServerConfigBuilder) -> ServerConfigBuilder,
    ) -> Self {
        let server = Server::new(set(ServerConfig::builder()).build().unwrap());
        Self::start_on(server).await
    }

    /// One listener more for `server`.
    pub(crate) async fn start_on(server: Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (service, handle) = Service::new();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn({
            let server = server.clone();
            async move {
                let stopped = async {
                    stopped.await.unwrap();
                };
                server.serve(listener, service, stopped).await
            }
        });
        Self {
            addr,
            server,
            service: handle,
            stop: Some(stop),
            task,
        }
    }

    /// Gives the signal to stop.
    pub(crate) fn stop(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    /// Waits for the server to have stopped.
    pub(crate) async fn stopped(self) -> Drained {
        let Self { task, .. } = self;
        within("the server to stop", task).await.unwrap()
    }

    /// Drops the future that serves.
    pub(crate) async fn abort(self) {
        self.task.abort();
        assert!(
            within("the server to be dropped", self.task)
                .await
                .unwrap_err()
                .is_cancelled()
        );
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.server.handle().snapshot()
    }

    /// Waits until so many connections were closed for `reason`.
    pub(crate) async fn closed(&self, reason: CloseReason, count: u64) {
        let what = format!("{count} closed as {}", reason.as_str());
        self.until(&what, |snapshot| snapshot.closed.count(reason) == count)
            .await;
    }

    /// A connection that has had an answer, and no request since.
    pub(crate) async fn idle(&self) -> Client {
        let mut client = Client::connect(self.addr).await;
        client.get("/idle").await;
        self.service.next_call().await.respond(ok("idle"));
        assert_eq!(client.read_answer().await.text(), "idle");
        client
    }

    /// Waits until a connection that has become idle meanwhile is closed for it. What was idle before is closed by then.
    pub(crate) async fn idle_time(&self) {
        let before = self.snapshot().closed.count(CloseReason::KeepAliveTimeout);
        let rest = self.idle().await.read_rest().await;
        assert!(rest.bytes.is_empty() && !rest.reset);
        self.closed(CloseReason::KeepAliveTimeout, before + 1).await;
    }

    /// Waits until so many connections are open.
    pub(crate) async fn active(&self, count: usize) {
        self.until(&format!("{count} open connections"), |snapshot| {
            snapshot.active == count
        })
        .await;
    }

    /// Waits for numbers that nothing announces.
    pub(crate) async fn until(&self, what: &str, so: impl Fn(&Snapshot) -> bool) {
        let looking = async {
            while !so(&self.snapshot()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, looking).await.is_err() {
            panic!("waited in vain for {what}: {:?}", self.snapshot());
        }
    }
}

/// Answers each request at once with its path.
pub(crate) fn echo_path(service: &Handle) {
    service.answer_with(|request| Ok(Response::new(Body::from(request.uri().path().to_owned()))));
}

pub(crate) fn ok(text: &'static str) -> Response<Body> {
    Response::new(Body::from(text))
}

/// An HTTP/2 connection, and the task that ends when it is closed.
pub(crate) async fn http2_client(addr: SocketAddr) -> (Http2Client, JoinHandle<hyper::Result<()>>) {
    http2_client_with(addr, |_| {}).await
}

pub(crate) async fn http2_client_with(
    addr: SocketAddr,
    set: impl FnOnce(&mut http2::Builder<TokioExecutor>),
) -> (Http2Client, JoinHandle<hyper::Result<()>>) {
    http2_client_over(TcpStream::connect(addr).await.unwrap(), set).await
}

pub(crate) async fn http2_client_over<T>(
    stream: T,
    set: impl FnOnce(&mut http2::Builder<TokioExecutor>),
) -> (Http2Client, JoinHandle<hyper::Result<()>>)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http2::Builder::new(TokioExecutor::new());
    set(&mut builder);
    let (client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (client, tokio::spawn(connection))
}

pub(crate) fn http2_get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://gateway.example{path}"))
        .body(Full::default())
        .unwrap()
}

/// Sends a request as a task of its own.
pub(crate) fn http2_send(
    client: &mut Http2Client,
    request: Request<Full<Bytes>>,
) -> JoinHandle<hyper::Result<Response<hyper::body::Incoming>>> {
    tokio::spawn(client.send_request(request))
}

/// The outcome of a task that must end.
#[track_caller]
pub(crate) fn outcome<T>(what: &str, task: JoinHandle<T>) -> impl Future<Output = T> {
    let ended = within(what, task);
    async move { ended.await.unwrap() }
}

/// What an HTTP/2 client sends first.
pub(crate) const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A frame of these parts (RFC 9113 section 4.1).
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The next HTTP/2 frame from the server: kind, flags, payload.
pub(crate) async fn next_frame(client: &mut Client) -> (u8, u8, Vec<u8>) {
    let head = client.read_exact(9).await;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let payload = client.read_exact(length as usize).await;
    (head[3], head[4], payload.to_vec())
}

/// Lets timers be due that long from now.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}
