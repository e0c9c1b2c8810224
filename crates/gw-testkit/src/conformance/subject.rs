use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use gw_core::context::PeerAddr;
use gw_core::{Body, Code, GrpcStatus, Rejection};
use http::{Request, Response, StatusCode, Version, header};
use tokio::task::JoinHandle;
use tower_layer::Layer;
use tower_service::Service;

use super::bodies::AnyBody;
use crate::patience::within;
use crate::service::{ControlledService, ServiceHandle};

/// How many requests of one client the layer under test lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// All of them.
    All,
    /// So many at the same time.
    InFlight(usize),
    /// So many in all.
    Total(usize),
}

impl Admits {
    /// How many of `sent` concurrent requests pass.
    pub(super) fn of(self, sent: usize) -> usize {
        match self {
            Self::All => sent,
            Self::InFlight(limit) | Self::Total(limit) => limit.min(sent),
        }
    }
}

/// What the inner service fails with.
pub(super) static FAILED: Code = Code::new(
    "BAD_GATEWAY",
    StatusCode::BAD_GATEWAY,
    "The service failed.",
    GrpcStatus::Unavailable,
);

/// The service that the layer is applied to; `Q` is the request body that the layer passes on. When it fails, it does so with a
/// [`Rejection`].
pub type Inner<B, Q = Body> = ControlledService<Q, <B as AnyBody>::Body, Rejection>;

/// The test's side of [`Inner`].
pub(super) type InnerHandle<B, Q> = ServiceHandle<Q, <B as AnyBody>::Body, Rejection>;

/// What the layer makes of [`Inner`]: a service like those that axum and hyper serve.
pub trait Layered:
    Service<
        Request<Body>,
        Response = Response<<Self as Layered>::ResBody>,
        Error: Debug + Send + 'static,
        Future: Send + 'static,
    >
{
    /// The body of its answers.
    type ResBody: http_body::Body<Data = Bytes, Error: Debug + Into<gw_core::BoxError> + Send + Sync>
        + Send
        + 'static;
}

impl<S, ResBody> Layered for S
where
    S: Service<
            Request<Body>,
            Response = Response<ResBody>,
            Error: Debug + Send + 'static,
            Future: Send + 'static,
        >,
    ResBody: http_body::Body<Data = Bytes, Error: Debug + Into<gw_core::BoxError> + Send + Sync>
        + Send
        + 'static,
{
    type ResBody = ResBody;
}

/// What a call ends with that was started before.
pub(super) async fn answer_to<B, E: Debug>(
    call: JoinHandle<Result<Response<B>, E>>,
) -> Response<B> {
    answered(within("the layer's answer", call).await.expect("no panic"))
}

/// The answer of a layer, which answers instead of failing.
#[track_caller]
pub(super) fn answered<B, E: Debug>(result: Result<Response<B>, E>) -> Response<B> {
    result.expect("the layer answers instead of failing")
}

/// An inner service under the test's control, and its handle.
pub(super) fn inner<B: AnyBody, Q>() -> (Inner<B, Q>, InnerHandle<B, Q>) {
    ControlledService::new()
}

/// `layer` applied once to `inner`, as a server does for each connection.
pub(super) fn apply<L, B, Q>(layer: &L, inner: &Inner<B, Q>) -> L::Service
where
    B: AnyBody,
    L: Layer<Inner<B, Q>>,
{
    layer.layer(inner.clone())
}

/// A request that every layer should understand; all of them come from one client.
pub(super) fn request() -> Request<Body> {
    let mut request = Request::new(Body::empty());
    *request.version_mut() = Version::HTTP_11;
    request
        .headers_mut()
        .insert(header::HOST, "test.example".parse().expect("a valid host"));
    let peer = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 49152));
    request.extensions_mut().insert(PeerAddr(peer));
    request
}

/// Whether the answer is the layer's refusal.
pub(super) fn is_refusal<B>(response: &Response<B>) -> bool {
    response.extensions().get::<Rejection>().is_some()
}

/// What a call of a layered service ends with.
pub type Outcome<S> =
    Result<Response<<S as Layered>::ResBody>, <S as Service<Request<Body>>>::Error>;
