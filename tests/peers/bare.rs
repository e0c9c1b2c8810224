//! The service under the layers.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use axum::body::Body;
use http::{HeaderValue, Request, Response, header};
use tower::Service;

/// Answers each request at once, with what the function makes.
///
/// It is no function that is a service: a request of another type is moved once more on its way through a pointer to one, which
/// would be counted as the layer's. And it is not inlined, or a layer would be spared to give it a request that it drops.
#[derive(Debug, Clone, Copy)]
pub struct Bare<F>(pub F);

impl<Sent, B, F: Fn() -> Response<B>> Service<Request<Sent>> for Bare<F> {
    type Response = Response<B>;
    type Error = Infallible;
    type Future = Ready<Result<Response<B>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline(never)]
    fn call(&mut self, _: Request<Sent>) -> Self::Future {
        ready(Ok((self.0)()))
    }
}

/// An answer without a body.
pub fn empty() -> Response<Body> {
    answer(Body::empty())
}

/// An answer with a body of one frame.
pub fn full() -> Response<Body> {
    answer(Body::from("data"))
}

/// With a field, as services do: the map of fields is there.
fn answer(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}
