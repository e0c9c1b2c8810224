use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use gw_core::Code;
use gw_core::attempt::Failure;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Instant;

use super::error::{Error, ErrorKind};
use super::hop_by_hop::Named;
use super::lease::{Lease, Stopwatch};
use super::limits::{Limits, deadline_kind};
use super::pool::Connection;
use super::report::Report;

/// The body of an upstream's answer, or bytes at hand.
///
/// It holds the request's slot, and gives it back when the frame that ends the stream is handed out, when the body
/// fails, and when it is dropped. A connection whose answer was read to its end serves the next request. If the request
/// is still being sent by then, connection and slot are kept until that is done, for five seconds at the most, not past the
/// deadline, and not once no slot is free; then the request is cut.
///
/// An answer that breaks off, pauses for too long or passes the deadline of its exchange ends with an [`Error`], and so
/// does one that is waited for when the request's own body fails, so that the server breaks its own answer off: a client
/// never takes a part for the whole. Where it was the client that was waited for, because it did not send the rest of its
/// request or read slowly, the error says so, and has a [`Rejection`](gw_core::Rejection) among its sources that blames
/// nobody else. Size hint and trailers are those that the upstream sent,
/// without the fields that are for one connection or for a head.
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
    Ended,
}

struct Streaming {
    incoming: Incoming,
    lease: Lease,
    limits: Limits,
    watch: Stopwatch,
    head: Head,
    /// What the trailers lose.
    named: Named,
    /// A piece has been handed out.
    begun: bool,
    /// What waits for the end to know the outcome.
    report: Option<Report>,
}

/// How the wait for the head of an answer was.
struct Head {
    /// When it came.
    came: Instant,
    /// How long it had been waited for.
    waited: Duration,
    /// How much of that the client took, which sent its request slowly.
    by_client: Duration,
}

/// A good answer that still comes so long after its head is reported as one, before its end. Streams stay open for hours: if their
/// successes were heard only then, and failures at once, a few failures of a healthy endpoint would be a row.
const LONG: Duration = Duration::from_secs(1);

impl Streaming {
    fn new(
        incoming: Incoming,
        lease: Lease,
        limits: Limits,
        watch: Stopwatch,
        named: Named,
    ) -> Self {
        let came = watch.heard();
        let head = Head {
            came,
            waited: watch.waited(came),
            by_client: lease.upload.waited_for_client(came),
        };
        Self {
            incoming,
            lease,
            limits,
            head,
            watch,
            named,
            begun: false,
            report: None,
        }
    }

    /// Whether an answer of which nothing more comes is a part of one. hyper takes a reset or a GOAWAY without an error for the end
    /// wherever it comes; only END_STREAM is one (RFC 9113 section 8.1). Over HTTP/1 hyper tells the two apart.
    fn breaks_off(&self) -> bool {
        matches!(self.lease.connection, Connection::Http2(_)) && !self.incoming.is_end_stream()
    }

    /// Reports a good answer that has gone on for long. What was heard tells, and not the clock: an answer that has halted has
    /// shown nothing.
    fn report_if_long(&mut self) {
        let within = self.watch.heard().saturating_duration_since(self.head.came);
        if within > LONG {
            drop(self.report.take_if(|report| report.is_good()));
        }
    }

    /// A timer of the gateway's ends the answer.
    fn cut(&self, kind: ErrorKind) -> Error {
        let error = match kind {
            ErrorKind::DeadlinePassed => Error::new(self.deadline_kind()),
            _ => Error::new(kind),
        };
        if error.kind().failure() == Failure::Local {
            return self.cut_by_the_client(error);
        }
        self.note_cut(error.kind().code(), error.kind());
        error
    }

    /// The answer ends by no fault of the upstream's.
    fn cut_by_the_client(&self, error: Error) -> Error {
        let (error, code) = error.within_the_answer(self.lease.upload.client_fault());
        self.note_cut(code, error.kind());
        error
    }

    fn note_cut(&self, code: &'static Code, kind: ErrorKind) {
        self.watch.cut(code, kind);
        self.lease.slot.pool.meters.cut(kind);
    }

    fn deadline_kind(&self) -> ErrorKind {
        let now = Instant::now();
        let head = &self.head;
        let waited = self.watch.waited(now);
        let within = now.saturating_duration_since(head.came);
        let reading = within.saturating_sub(waited.saturating_sub(head.waited));
        let upstream = waited.saturating_sub(head.by_client);
        deadline_kind(upstream, reading.saturating_add(head.by_client))
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
    /// The body of an answer whose head has just arrived, and has `named` what its connection needs.
    pub(super) fn new(
        incoming: Incoming,
        lease: Lease,
        limits: Limits,
        watch: Stopwatch,
        named: Named,
    ) -> Self {
        if incoming.is_end_stream() {
            lease.finish(limits.deadline, watch.heard());
            return Content::Ended.into();
        }
        let streaming = Streaming::new(incoming, lease, limits, watch, named);
        Content::Streaming(Box::new(streaming)).into()
    }

    /// Its end says what came of the request. If it is dropped before, no more is known than the head has told, and nothing if it
    /// has halted.
    pub(super) fn judged_at_end(&mut self, mut report: Report) {
        match &mut self.content {
            Content::Streaming(streaming) => {
                report.answered(streaming.head.came);
                streaming.report = Some(report);
            }
            Content::Whole(_) | Content::Ended => report.ended(None),
        }
    }
}

impl From<Content> for UpstreamBody {
    fn from(content: Content) -> Self {
        Self { content }
    }
}

impl Default for UpstreamBody {
    fn default() -> Self {
        Content::Ended.into()
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
            Content::Ended => "ended",
        };
        f.debug_tuple("UpstreamBody").field(&content).finish()
    }
}

impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if let Content::Streaming(streaming) = &mut self.content
            && streaming.watch.is_running()
            && streaming.incoming.size_hint().exact() > Some(0)
            && let Some(report) = streaming.report.take_if(|report| report.is_good())
        {
            report.left_waiting();
        }
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
            Content::Ended => return Poll::Ready(None),
            Content::Streaming(streaming) => streaming,
        };
        let frame = match Pin::new(&mut streaming.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                streaming.watch.stop();
                match frame {
                    Some(Ok(mut frame)) => {
                        streaming.named.strip_trailers(&mut frame);
                        Some(Ok(frame))
                    }
                    Some(Err(error)) => Some(Err(Error::of_body(&error))),
                    None if streaming.breaks_off() => {
                        let cause = "the stream was closed before its end";
                        Some(Err(Error::because(ErrorKind::Answer, cause)))
                    }
                    None => None,
                }
            }
            Poll::Pending => {
                let since = streaming.watch.start();
                streaming.report_if_long();
                match streaming.lease.upload.poll_progress(cx, since) {
                    // The upstream gets no more of the request, and may wait for it for as long as it likes.
                    Err(fault) => Some(Err(streaming.cut_by_the_client(fault))),
                    Ok(progress) => {
                        let (due, kind) = streaming.limits.body_due(since, progress);
                        ready!(streaming.lease.connection.timer().poll_at(due, cx));
                        Some(Err(streaming.cut(kind)))
                    }
                }
            }
        };
        let ends = match &frame {
            Some(Ok(frame)) => frame.is_trailers() || streaming.incoming.is_end_stream(),
            Some(Err(_)) | None => true,
        };
        if ends && let Some(report) = streaming.report.take() {
            match &frame {
                Some(Ok(last)) => report.ended(last.trailers_ref()),
                Some(Err(error)) => report.failed(error),
                None => report.ended(None),
            }
        }
        // Here it is the client that was slow, so the upstream is not judged.
        let frame = match ends || !streaming.is_late() {
            true => frame,
            false => Some(Err(streaming.cut(streaming.limits.deadline_kind))),
        };
        if ends || matches!(frame, Some(Err(_))) {
            let content = std::mem::replace(&mut this.content, Content::Ended);
            if let Content::Streaming(ended) = content
                && !matches!(frame, Some(Err(_)))
            {
                ended
                    .lease
                    .finish(ended.limits.deadline, ended.watch.heard());
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_none(),
            Content::Streaming(_) => false,
            Content::Ended => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Content::Streaming(streaming) => streaming.incoming.size_hint(),
            Content::Ended => SizeHint::with_exact(0),
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

    /// tower-http's `TimeoutLayer` and `CorsLayer` make such bodies.
    #[test]
    fn a_default_body_has_ended() {
        assert!(UpstreamBody::default().is_end_stream());
    }
}
