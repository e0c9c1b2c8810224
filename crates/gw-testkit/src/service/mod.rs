//! An inner service that the test drives, and that holds its callers to tower's contract.
//!
//! A [`ControlledService`] is ready when its [`ServiceHandle`] says so, and answers when the test answers the
//! [`Call`]. Every clone has a number of its own, and `call` on an instance that has not been polled ready
//! since its last call panics, after it has been recorded as a [`Violation`].

mod call;
mod future;
mod handle;
mod shared;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

pub use self::call::{Call, Responder};
pub use self::future::ControlledFuture;
pub use self::handle::ServiceHandle;
pub use self::shared::{Instance, Violation};

use self::shared::Shared;

/// A service driven by a [`ServiceHandle`].
///
/// `ReqBody` and `ResBody` are the bodies of requests and responses, `E` is the error of the service.
///
/// # Examples
///
/// ```
/// use gw_testkit::service::ControlledService;
/// use http::{Request, Response};
/// use tower_service::Service;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let (mut service, handle) = ControlledService::<&str, &str>::new();
/// std::future::poll_fn(|cx| service.poll_ready(cx)).await.unwrap();
/// let answer = tokio::spawn(service.call(Request::new("ping")));
///
/// let call = handle.next_call().await;
/// assert_eq!(call.request().body(), &"ping");
/// call.respond(Response::new("pong"));
/// assert_eq!(answer.await.unwrap().unwrap().into_body(), "pong");
/// # }
/// ```
pub struct ControlledService<ReqBody, ResBody, E = ServiceError> {
    shared: Arc<Shared<ReqBody, ResBody, E>>,
    instance: usize,
}

/// An error for tests that need one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceError {
    message: String,
}

impl<ReqBody, ResBody, E> ControlledService<ReqBody, ResBody, E> {
    /// A service that is ready and leaves each call to the test.
    pub fn new() -> (Self, ServiceHandle<ReqBody, ResBody, E>) {
        let shared = Arc::new(Shared::new());
        let service = Self {
            instance: shared.add_instance(None),
            shared: shared.clone(),
        };
        (service, ServiceHandle::new(shared))
    }

    /// The number of this instance: 0 for the first, then in the order of cloning.
    pub fn instance(&self) -> usize {
        self.instance
    }
}

/// Yields a new instance, which is not ready: readiness belongs to the instance that was polled.
impl<ReqBody, ResBody, E> Clone for ControlledService<ReqBody, ResBody, E> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            instance: self.shared.add_instance(Some(self.instance)),
        }
    }
}

impl<ReqBody, ResBody, E> Drop for ControlledService<ReqBody, ResBody, E> {
    fn drop(&mut self) {
        self.shared.drop_instance(self.instance);
    }
}

impl<ReqBody, ResBody, E> Service<Request<ReqBody>> for ControlledService<ReqBody, ResBody, E> {
    type Response = Response<ResBody>;
    type Error = E;
    type Future = ControlledFuture<ReqBody, ResBody, E>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), E>> {
        self.shared.poll_ready(self.instance, cx)
    }

    /// # Panics
    ///
    /// If this instance has not been polled ready since its last call.
    #[track_caller]
    fn call(&mut self, request: Request<ReqBody>) -> Self::Future {
        if let Err(violation) = self.shared.start_call(self.instance) {
            panic!("{violation}");
        }
        ControlledFuture::start(self.shared.clone(), self.instance, request)
    }
}

impl<ReqBody, ResBody, E> fmt::Debug for ControlledService<ReqBody, ResBody, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instance = self.instance;
        f.debug_struct("ControlledService")
            .field("instance", &instance)
            .finish_non_exhaustive()
    }
}

impl ServiceError {
    /// An error with this text.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for ServiceError {}
