use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::error::{Error, ErrorKind};
use super::lease::{Lease, Stopwatch};
use super::limits::Limits;

/// The body of an upstream's answer, or bytes at hand.
///
/// It holds the request's slot, and gives it back when the frame that ends the stream is handed out, when the body
/// fails, and when it is dropped. A connection whose answer was read to its end serves the next request.
///
/// An answer that breaks off, pauses for too long or passes the deadline of its exchange ends with an [`Error`], so
/// that the server breaks its own answer off: a client never takes a part for the whole. Size hint and trailers are
/// those that the upstream sent.
///
/// # Cancel safety
///
/// Dropping it cancels the upstream's work at once: the connection is closed, an HTTP/2 stream reset.
pub struct UpstreamBody {
    content: Content,
}

enum Content {
    Whole(Option<Bytes>),
    // Boxed: it is large, and a body is moved through many stages.
    Streaming(Box<Streaming>),
    /// Nothing is left to read; a lease is only kept for a tunnel to take.
    Ended(Option<Lease>),
}

struct Streaming {
    incoming: Incoming,
    lease: Lease,
    limits: Limits,
    watch: Stopwatch,
    /// A piece has been handed out.
    begun: bool,
}

impl Streaming {
    /// A timer of the gateway's ends the answer.
    fn cut(&self, kind: ErrorKind) -> Error {
        self.watch.cut(kind.code());
        Error::new(kind)
    }

    /// For answers that are always there when they are asked for, such as those that a client reads slowly: no wait for
    /// them is ever looked at. The first piece is let pass, so that small answers need no look at the clock.
    fn is_late(&mut self) -> bool {
        let begun = std::mem::replace(&mut self.begun, true);
        let passed = |deadline| deadline <= Instant::now();
        begun && self.limits.deadline.is_some_and(passed)
    }
}

impl UpstreamBody {
    /// The body of an answer whose head has just arrived.
    pub(super) fn new(incoming: Incoming, lease: Lease, limits: Limits, watch: Stopwatch) -> Self {
        if incoming.is_end_stream() {
            lease.finish();
            return Content::Ended(None).into();
        }
        Content::Streaming(Box::new(Streaming {
            incoming,
            lease,
            limits,
            watch,
            begun: false,
        }))
        .into()
    }

    /// The body of an answer that switches protocols: there is none, and the exchange goes on.
    pub(super) fn of_switch(lease: Lease) -> Self {
        Content::Ended(Some(lease)).into()
    }

    /// The lease of an answer that switches protocols.
    pub(super) fn take_lease(&mut self) -> Option<Lease> {
        match &mut self.content {
            Content::Ended(lease) => lease.take(),
            Content::Whole(_) | Content::Streaming(_) => None,
        }
    }
}

impl From<Content> for UpstreamBody {
    fn from(content: Content) -> Self {
        Self { content }
    }
}

impl From<Bytes> for UpstreamBody {
    fn from(bytes: Bytes) -> Self {
        Content::Whole(Some(bytes).filter(|bytes| !bytes.is_empty())).into()
    }
}

impl fmt::Debug for UpstreamBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let content = match self.content {
            Content::Whole(_) => "whole",
            Content::Streaming(_) => "stream",
            Content::Ended(_) => "ended",
        };
        f.debug_tuple("UpstreamBody").field(&content).finish()
    }
}

impl http_body::Body for UpstreamBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let this = self.get_mut();
        let streaming = match &mut this.content {
            Content::Whole(bytes) => {
                return Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes))));
            }
            Content::Ended(_) => return Poll::Ready(None),
            Content::Streaming(streaming) => streaming,
        };
        let frame = match Pin::new(&mut streaming.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                streaming.watch.stop();
                frame.map(|frame| frame.map_err(|e| Error::because(ErrorKind::Answer, e)))
            }
            Poll::Pending => {
                let (due, kind) = streaming.limits.body_due(streaming.watch.start());
                ready!(streaming.lease.connection.timer().poll_at(due, cx));
                Some(Err(streaming.cut(kind)))
            }
        };
        let ends = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || streaming.incoming.is_end_stream(),
            Some(Err(_)) | None => true,
        };
        let frame = match ends || !streaming.is_late() {
            true => frame,
            false => Some(Err(streaming.cut(ErrorKind::DeadlinePassed))),
        };
        if ends || matches!(frame, Some(Err(_))) {
            let content = std::mem::replace(&mut this.content, Content::Ended(None));
            if let Content::Streaming(ended) = content
                && !matches!(frame, Some(Err(_)))
            {
                ended.lease.finish();
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Streaming(_) => false,
            Content::Ended(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Streaming(streaming) => streaming.incoming.size_hint(),
            Content::Ended(_) => SizeHint::with_exact(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test]
    async fn bytes_at_hand_are_a_body() {
        let body = UpstreamBody::from(Bytes::from_static(b"abc"));
        assert_eq!(body.size_hint().exact(), Some(3));
        assert!(!body.is_end_stream());
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert!(UpstreamBody::from(Bytes::new()).is_end_stream());
    }
}
