use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};

use super::error::{Error, ErrorKind};
use super::lease::{Lease, Stopwatch};
use super::limits::Limits;
use super::pool::Connection;

/// The body of an upstream's answer, or bytes at hand.
///
/// It holds the request's slot, and gives it back when the frame that ends the stream is handed out, when the body
/// fails, and when it is dropped. A connection whose answer was read to its end serves the next request. If the request
/// is still being sent by then, connection and slot are kept until that is done, for five seconds at the most and not
/// past the deadline; then the request is cut.
///
/// An answer that breaks off, pauses for too long or passes the deadline of its exchange ends with an [`Error`], and so
/// does one that is waited for when the request's own body fails, so that the server breaks its own answer off: a client never takes a part for the whole. Size hint and trailers are
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
            lease.finish(limits.deadline);
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

    /// Nobody wants what is left of the answer.
    ///
    /// If it is little and comes soon, it is read, so that the connection serves the next request.
    pub(super) fn discard(self) {
        let Content::Streaming(streaming) = self.content else {
            return;
        };
        let Streaming {
            incoming,
            lease,
            limits,
            ..
        } = *streaming;
        let worth_it = lease.reusable && matches!(lease.connection, Connection::Http1(_));
        if worth_it
            && incoming.size_hint().lower() <= DRAINED_BYTES
            && let Ok(runtime) = Handle::try_current()
        {
            runtime.spawn(drain(incoming, lease, limits.deadline));
        }
    }

    /// The lease of an answer that switches protocols.
    pub(super) fn take_lease(&mut self) -> Option<Lease> {
        match &mut self.content {
            Content::Ended(lease) => lease.take(),
            Content::Whole(_) | Content::Streaming(_) => None,
        }
    }
}

/// An unwanted answer is read on for so many bytes,
const DRAINED_BYTES: u64 = 64 * 1024;

/// and for so long, in which it holds its slot.
const DRAINED_FOR: Duration = Duration::from_millis(500);

/// Reads an answer that nobody wants to its end, within bounds.
async fn drain(mut incoming: Incoming, lease: Lease, deadline: Option<Instant>) {
    let reading = async {
        let mut left = DRAINED_BYTES;
        loop {
            let frame = poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await;
            let length = match frame {
                None => return true,
                Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(_)) => return false,
            };
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return false,
            }
        }
    };
    if timeout(DRAINED_FOR, reading).await == Ok(true) {
        lease.finish(deadline);
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
            Poll::Pending => match streaming.lease.upload.poll_fault(cx) {
                // The upstream gets no more of the request, and may wait for it for as long as it likes.
                Some(fault) => Some(Err(fault)),
                None => {
                    let (due, kind) = streaming.limits.body_due(streaming.watch.start());
                    ready!(streaming.lease.connection.timer().poll_at(due, cx));
                    Some(Err(streaming.cut(kind)))
                }
            },
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
                ended.lease.finish(ended.limits.deadline);
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
