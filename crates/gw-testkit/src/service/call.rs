//! One call, in the hands of the test.

use std::fmt;
use std::future::Future;

use http::{Request, Response};
use tokio::sync::oneshot;

use super::shared::Answer;
use crate::patience::within;

/// A call that waits for its answer.
///
/// Dropping it without an answer makes the caller's future panic when it is polled.
#[must_use = "a call that is dropped without an answer makes the caller panic"]
pub struct Call<ReqBody, ResBody, E> {
    request: Request<ReqBody>,
    responder: Responder<ResBody, E>,
}

/// The right to answer one call.
#[must_use = "a responder that is dropped without an answer makes the caller panic"]
pub struct Responder<ResBody, E> {
    instance: usize,
    order: oneshot::Sender<Order<ResBody, E>>,
}

/// What the future of a call is to do.
pub(super) enum Order<ResBody, E> {
    Answer(Answer<ResBody, E>),
    Panic(String),
}

impl<ReqBody, ResBody, E> Call<ReqBody, ResBody, E> {
    pub(super) fn new(
        request: Request<ReqBody>,
        instance: usize,
        order: oneshot::Sender<Order<ResBody, E>>,
    ) -> Self {
        let responder = Responder { instance, order };
        Self { request, responder }
    }

    /// The request.
    pub fn request(&self) -> &Request<ReqBody> {
        &self.request
    }

    /// The instance that was called.
    pub fn instance(&self) -> usize {
        self.responder.instance
    }

    /// The request, to read its body say, and the right to answer it.
    pub fn into_parts(self) -> (Request<ReqBody>, Responder<ResBody, E>) {
        (self.request, self.responder)
    }

    pub(super) fn answer_with(self, answer: &dyn Fn(Request<ReqBody>) -> Answer<ResBody, E>) {
        let answer = answer(self.request);
        self.responder.order(Order::Answer(answer));
    }

    /// Resolves the caller's future with this response.
    ///
    /// # Panics
    ///
    /// If that future was dropped.
    #[track_caller]
    pub fn respond(self, response: Response<ResBody>) {
        self.responder.respond(response);
    }

    /// Resolves the caller's future with this error.
    ///
    /// # Panics
    ///
    /// If that future was dropped.
    #[track_caller]
    pub fn fail(self, error: E) {
        self.responder.fail(error);
    }

    /// Makes the caller's future panic with this message.
    ///
    /// # Panics
    ///
    /// If that future was dropped.
    #[track_caller]
    pub fn panic(self, message: impl Into<String>) {
        self.responder.panic(message);
    }

    /// Whether the caller's future was dropped.
    pub fn is_abandoned(&self) -> bool {
        self.responder.is_abandoned()
    }

    /// Waits until the caller's future is dropped.
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE).
    #[track_caller]
    pub fn abandoned(&mut self) -> impl Future<Output = ()> {
        self.responder.abandoned()
    }
}

impl<ResBody, E> Responder<ResBody, E> {
    /// As [`Call::respond`].
    #[track_caller]
    pub fn respond(self, response: Response<ResBody>) {
        self.order(Order::Answer(Ok(response)));
    }

    /// As [`Call::fail`].
    #[track_caller]
    pub fn fail(self, error: E) {
        self.order(Order::Answer(Err(error)));
    }

    /// As [`Call::panic`].
    #[track_caller]
    pub fn panic(self, message: impl Into<String>) {
        self.order(Order::Panic(message.into()));
    }

    /// As [`Call::is_abandoned`].
    pub fn is_abandoned(&self) -> bool {
        self.order.is_closed()
    }

    /// As [`Call::abandoned`].
    #[track_caller]
    pub fn abandoned(&mut self) -> impl Future<Output = ()> {
        within("the future of a call to be dropped", self.order.closed())
    }

    #[track_caller]
    fn order(self, order: Order<ResBody, E>) {
        let taken = self.order.send(order);
        assert!(
            taken.is_ok(),
            "the future of this call was dropped: nobody takes the answer"
        );
    }
}

impl<ReqBody, ResBody, E> fmt::Debug for Call<ReqBody, ResBody, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("method", self.request.method())
            .field("uri", self.request.uri())
            .field("responder", &self.responder)
            .finish_non_exhaustive()
    }
}

impl<ResBody, E> fmt::Debug for Responder<ResBody, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder")
            .field("instance", &self.instance)
            .field("abandoned", &self.is_abandoned())
            .finish_non_exhaustive()
    }
}
