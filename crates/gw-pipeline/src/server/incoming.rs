use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use gw_core::BoxError;
use http::{Request, Version};
use http_body::{Body, Frame, SizeHint};

/// The body of a request, as [`Server::serve`](super::Server::serve) hands it on: hyper's, which must have come to its end.
///
/// Over HTTP/2, hyper takes a stream that the client resets with NO_ERROR for one that has ended. Only END_STREAM is an end
/// (RFC 9113 section 8.1). What breaks off fails here, as it does with any other reset, so that no service takes a part for the whole.
///
/// # Cancel safety
///
/// Dropping it tells hyper that nobody wants the rest.
#[derive(Debug)]
pub struct Incoming {
    body: hyper::body::Incoming,
    http2: bool,
}

impl Incoming {
    /// The request with its body looked after. For hyper's own servers; [`Server::serve`](super::Server::serve) does it by itself.
    pub fn of(request: Request<hyper::body::Incoming>) -> Request<Self> {
        let http2 = request.version() == Version::HTTP_2;
        request.map(|body| Self { body, http2 })
    }

    /// Whether a body of which nothing more comes is a part of one. Over HTTP/1 hyper tells the two apart, and does not say there
    /// that chunks have ended.
    fn breaks_off(&self) -> bool {
        self.http2 && !self.body.is_end_stream()
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(frame) => Some(frame.map_err(Into::into)),
            None if self.breaks_off() => Some(Err(BrokeOff.into())),
            None => None,
        };
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The client reset its request before the end.
#[derive(Debug)]
pub(crate) struct BrokeOff;

impl fmt::Display for BrokeOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the client broke its request off")
    }
}

impl std::error::Error for BrokeOff {}
