use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::{Error, ErrorKind};
use super::lease::{Lease, Stopwatch};
use super::limits::Limits;

pin_project! {
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
        #[pin]
        timer: Option<Sleep>,
    }
}

enum Content {
    Whole(Option<Bytes>),
    Streaming(Streaming),
    /// Nothing is left to read; a lease is only kept for a tunnel to take.
    Ended(Option<Lease>),
}

struct Streaming {
    incoming: Incoming,
    lease: Lease,
    limits: Limits,
    watch: Stopwatch,
}

impl UpstreamBody {
    /// The body of an answer whose head has just arrived.
    pub(super) fn new(incoming: Incoming, lease: Lease, limits: Limits, watch: Stopwatch) -> Self {
        if incoming.is_end_stream() {
            lease.finish();
            return Content::Ended(None).into();
        }
        Content::Streaming(Streaming {
            incoming,
            lease,
            limits,
            watch,
        })
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
        Self {
            content,
            timer: None,
        }
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
        let mut this = self.project();
        let streaming = match this.content {
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
                let since = streaming.watch.start();
                match poll_overdue(this.timer.as_mut(), cx, &streaming.limits, since) {
                    Poll::Ready(kind) => Some(Err(Error::new(kind))),
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        let ends = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || streaming.incoming.is_end_stream(),
            Some(Err(_)) | None => true,
        };
        if ends {
            this.timer.set(None);
            let content = std::mem::replace(this.content, Content::Ended(None));
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

/// Ready with what is overdue, if anything is that has been waited for since `since`.
///
/// The timer is made when the first wait begins and is not touched by progress: when it fires too early for the wait at
/// hand, it is set anew.
fn poll_overdue(
    mut timer: Pin<&mut Option<Sleep>>,
    cx: &mut Context<'_>,
    limits: &Limits,
    since: Instant,
) -> Poll<ErrorKind> {
    let (due, kind) = limits.body_due(since);
    loop {
        let Some(sleep) = timer.as_mut().as_pin_mut() else {
            timer.set(Some(sleep_until(due)));
            continue;
        };
        if sleep.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if due <= Instant::now() {
            return Poll::Ready(kind);
        }
        if let Some(sleep) = timer.as_mut().as_pin_mut() {
            sleep.reset(due);
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
