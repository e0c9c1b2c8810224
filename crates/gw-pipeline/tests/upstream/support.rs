//! What all tests here need: an upstream behind a `Forward`, and a server in front of it.

use std::convert::Infallible;
use std::error::Error as _;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gw_core::attempt::Failure;
use gw_core::context::{PeerAddr, UpstreamName};
use gw_core::{Body, BoxError, Rejection};
use gw_pipeline::Timeouts;
use gw_pipeline::outbound::AnswerLayer;
use gw_pipeline::upstream::{
    Error, ErrorKind, Forward, PoolConfig, Upstream, UpstreamBody, UpstreamBuilder,
};
use gw_testkit::upstream as testkit;
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tower::{Layer as _, Service, ServiceExt as _};

pub(crate) const NAME: &str = "orders";

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// Ends nothing in a test that lets hours pass.
pub(crate) const PATIENT: Timeouts = Timeouts::new()
    .attempt(Duration::from_secs(36_000))
    .first_byte(Duration::from_secs(36_000))
    .idle(Duration::from_secs(36_000));

pub(crate) const PEER: &str = "192.0.2.44:1234";

/// Trailers of which `x-sum` alone is passed on.
pub(crate) const MIXED_TRAILERS: [(&str, &str); 11] = [
    ("connection", "close, x-mine"),
    ("x-mine", "1"),
    ("keep-alive", "timeout=5"),
    ("proxy-connection", "close"),
    ("upgrade", "h2c"),
    ("te", "trailers"),
    ("transfer-encoding", "chunked"),
    ("content-length", "1"),
    ("host", "a"),
    ("trailer", "x-sum"),
    ("x-sum", "3"),
];

pub(crate) fn builder(addr: SocketAddr) -> UpstreamBuilder {
    let endpoint = Uri::try_from(format!("http://{addr}")).unwrap();
    Upstream::builder(UpstreamName::new(NAME)).endpoint(endpoint)
}

pub(crate) fn plain(testkit: &testkit::Upstream) -> Upstream {
    builder(testkit.addr()).build().unwrap()
}

pub(crate) fn pooled(testkit: &testkit::Upstream, pool: PoolConfig) -> Upstream {
    builder(testkit.addr()).pool(pool).build().unwrap()
}

pub(crate) fn forward(upstream: &Upstream) -> Forward {
    Forward::new([upstream.clone()]).unwrap()
}

/// A GET as earlier stages leave it.
pub(crate) fn get(target: &str) -> Request<Body> {
    request("GET", target, Body::empty())
}

pub(crate) fn request(method: &str, target: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(target)
        .header("host", "shop.example")
        .extension(UpstreamName::new(NAME))
        .extension(PeerAddr(PEER.parse().unwrap()))
        .body(body.into())
        .unwrap()
}

/// A POST with this body as it is.
pub(crate) fn post<B>(body: B) -> Request<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    request("POST", "/", Body::new(body))
}

/// A gRPC call whose message has no bytes.
pub(crate) fn call() -> Request<Body> {
    let mut call = request("POST", "/", Body::empty());
    let grpc = http::HeaderValue::from_static("application/grpc");
    call.headers_mut().insert("content-type", grpc);
    call
}

pub(crate) async fn send(
    forward: &Forward,
    request: Request<Body>,
) -> Result<Response<UpstreamBody>, Rejection> {
    let answer = forward.clone().oneshot(request);
    gw_testkit::within("the head of an answer", answer).await
}

pub(crate) async fn text(response: Response<UpstreamBody>) -> String {
    let body = gw_testkit::within("the body of an answer", response.into_body().collect());
    String::from_utf8(body.await.unwrap().to_bytes().to_vec()).unwrap()
}

/// Sends, and reads the answer to its end.
pub(crate) async fn fetch(forward: &Forward, request: Request<Body>) -> (u16, String) {
    let response = send(forward, request).await.unwrap();
    (response.status().as_u16(), text(response).await)
}

/// What a request was refused with: its code, and what is behind it.
pub(crate) async fn refused(
    forward: &Forward,
    request: Request<Body>,
) -> (&'static str, ErrorKind) {
    let rejection = send(forward, request).await.unwrap_err();
    (rejection.code().name(), kind(&rejection))
}

pub(crate) fn kind(rejection: &Rejection) -> ErrorKind {
    let cause = rejection.source().expect("a refusal has a cause");
    cause
        .downcast_ref::<Error>()
        .expect("the cause is an upstream's")
        .kind()
}

/// Whom an error in a body blames: the failure of the refusal among its sources, if there is one.
pub(crate) fn blamed(error: &Error) -> Option<Failure> {
    Rejection::find(error).map(Rejection::failure)
}

/// Waits until a condition over an upstream's snapshot holds. It is no part of what a test measures.
pub(crate) async fn until<S>(
    what: &str,
    upstream: &Upstream<S>,
    so: impl Fn(&Upstream<S>) -> bool,
) {
    let polling = async {
        while !so(upstream) {
            tokio::task::yield_now().await;
        }
    };
    gw_testkit::within(what, polling).await;
}

pub(crate) async fn is_quiet(upstream: &Upstream) {
    assert_eq!(upstream.snapshot().in_flight, 0);
    until("all connections to close", upstream, |it| {
        it.snapshot().open_connections == 0
    })
    .await;
}

/// Lets time pass at once. What the machine takes is little beside hours, so nothing hangs on how fast it is.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// What a future ends with that waits for nothing but time from now on. It passes as in [`pass`].
pub(crate) async fn in_time<F>(ends: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let task = tokio::spawn(ends);
    tokio::time::pause();
    let ended = tokio::time::timeout(100 * HOUR, task).await;
    tokio::time::resume();
    ended.expect("it ends in time").unwrap()
}

/// An upstream's layers, as a server needs them.
pub(crate) trait Stack:
    Service<Request<Body>, Response = Response<UpstreamBody>, Error = Rejection, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
}

impl<S> Stack for S where
    S: Service<Request<Body>, Response = Response<UpstreamBody>, Error = Rejection, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static
{
}

/// A hyper server with the answer stage in front of a `Forward`, as a gateway has it.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) addr: SocketAddr,
    accepting: JoinHandle<()>,
}

impl Front {
    pub(crate) async fn start(forward: Forward<impl Stack>) -> Self {
        Self::start_with(forward, |_| {}).await
    }

    /// With `stage` applied to each request.
    pub(crate) async fn start_with(
        forward: Forward<impl Stack>,
        stage: impl Fn(&mut Request<Incoming>) + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::serve(
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            forward,
            stage,
        )
    }

    pub(crate) fn serve(
        listener: TcpListener,
        forward: Forward<impl Stack>,
        stage: impl Fn(&mut Request<Incoming>) + Clone + Send + Sync + 'static,
    ) -> Self {
        let addr = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, peer) = listener.accept().await.unwrap();
                let service = AnswerLayer::new().layer(forward.clone());
                let stage = stage.clone();
                let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
                    stage(&mut request);
                    request.extensions_mut().insert(UpstreamName::new(NAME));
                    request.extensions_mut().insert(PeerAddr(peer));
                    let mut service = service.clone();
                    async move { Ok::<_, Infallible>(service.call(request).await.unwrap()) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                // An error is what the tests in front look at from the other side.
                tokio::spawn(async move { _ = connection.await });
            }
        });
        Self { addr, accepting }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}
