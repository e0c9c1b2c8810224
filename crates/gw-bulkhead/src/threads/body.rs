use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use gw_core::BoxError;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::task::{LaneTask, Piece, Source};
use crate::error::{HeldTooLong, STOPPED_MIDWAY};
use crate::lease::Lease;
use crate::remaining::Remaining;

pin_project! {
    /// The body of an answer that may come from a lane's own thread.
    ///
    /// Like [`ResponseBody`](crate::ResponseBody) it holds the place until it has ended. If the lane's task ends before
    /// the body does, the body fails with [`LaneTaskLost`].
    ///
    /// # Panics
    ///
    /// If the body panics on the lane's thread, with the same panic.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body on the lane's thread, and gives the place back.
    pub struct ResponseBody<B: Body> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B: Body> {
        Inline { #[pin] body: crate::ResponseBody<B> },
        Remote { body: Remote<B::Data> },
    }
}

/// The caller's end of a body on a lane's thread.
pub(super) struct Remote<D> {
    source: Source<D>,
    /// Of what is still to come.
    size: SizeHint,
    remaining: Remaining,
    task: LaneTask,
    lease: Option<Lease>,
}

/// A task on a lane's thread ended before its answer did: the lane's threads were stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LaneTaskLost;

impl<B: Body> ResponseBody<B> {
    pub(super) const fn remote(body: Remote<B::Data>) -> Self {
        Self {
            kind: Kind::Remote { body },
        }
    }
}

impl<B: Body> From<crate::ResponseBody<B>> for ResponseBody<B> {
    fn from(body: crate::ResponseBody<B>) -> Self {
        Self {
            kind: Kind::Inline { body },
        }
    }
}

impl<B: Body + Default> Default for ResponseBody<B> {
    fn default() -> Self {
        crate::ResponseBody::default().into()
    }
}

impl<B: Body + From<Bytes>> From<Bytes> for ResponseBody<B> {
    fn from(bytes: Bytes) -> Self {
        crate::ResponseBody::from(bytes).into()
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        match self.project().kind.project() {
            KindProj::Inline { body } => body.poll_frame(cx),
            KindProj::Remote { body } => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Inline { body } => body.is_end_stream(),
            Kind::Remote { body } => matches!(body.source, Source::Ended),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Inline { body } => body.size_hint(),
            Kind::Remote { body } => body.size,
        }
    }
}

impl<D> Remote<D> {
    pub(super) const fn new(
        source: Source<D>,
        (size, remaining): (SizeHint, Remaining),
        task: LaneTask,
        lease: Option<Lease>,
    ) -> Self {
        Self {
            source,
            size,
            remaining,
            task,
            lease,
        }
    }

    /// Nothing more comes, as it should be.
    fn end(&mut self) {
        self.task.finish();
        self.source = Source::Ended;
        Lease::end(&mut self.lease);
    }

    /// Nothing more comes.
    fn abort(&mut self) {
        self.source = Source::Ended;
        self.lease = None;
    }

    fn fail(
        &mut self,
        error: impl Error + Send + Sync + 'static,
    ) -> Poll<Option<Result<Frame<D>, BoxError>>> {
        self.abort();
        Poll::Ready(Some(Err(Box::new(error))))
    }
}

impl<D: Buf> Remote<D> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<D>, BoxError>>> {
        if matches!(self.source, Source::Ended) {
            return Poll::Ready(None);
        }
        let piece = match &mut self.source {
            Source::Stream(frames) => match frames.poll_recv(cx) {
                Poll::Ready(piece) => piece,
                Poll::Pending => {
                    return match self.lease.as_mut().map(|lease| lease.poll_cut(cx)) {
                        Some(Poll::Ready(_)) => self.fail(HeldTooLong),
                        Some(Poll::Pending) | None => Poll::Pending,
                    };
                }
            },
            source => match std::mem::replace(source, Source::Ended) {
                Source::Whole(frame) => Some(Piece::Last(frame)),
                Source::Ended | Source::Stream(_) => None,
            },
        };
        let Some(piece) = piece else {
            ready!(self.task.poll_lost(cx));
            // The lane's clock may be a moment ahead of this one.
            if Lease::is_cut(&mut self.lease) {
                return self.fail(HeldTooLong);
            }
            self.task.note_stopped();
            return self.fail(LaneTaskLost);
        };
        Poll::Ready(match piece {
            // As in a body without a thread: what ends the stream beats the timer, and what is always there does not.
            Piece::Frame(_) if Lease::is_cut(&mut self.lease) => return self.fail(HeldTooLong),
            Piece::Frame(frame) => {
                self.remaining.count(&frame, &mut self.lease);
                Some(Ok(self.count(frame)))
            }
            Piece::Last(frame) => {
                self.end();
                Some(Ok(self.count(frame)))
            }
            Piece::End => {
                self.end();
                None
            }
            Piece::Failed(error) => {
                self.task.finish();
                self.abort();
                Some(Err(error))
            }
        })
    }

    fn count(&mut self, frame: Frame<D>) -> Frame<D> {
        let sent = frame.data_ref().map_or(0, |data| data.remaining() as u64);
        let (lower, upper) = (self.size.lower(), self.size.upper());
        self.size = SizeHint::new();
        self.size.set_lower(lower.saturating_sub(sent));
        if let Some(upper) = upper {
            self.size.set_upper(upper.saturating_sub(sent));
        }
        frame
    }
}

impl<B: Body + fmt::Debug> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Inline { body } => body.fmt(f),
            Kind::Remote { body } => body.fmt(f),
        }
    }
}

impl<D> fmt::Debug for Remote<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Ended => "ended",
            Source::Whole(_) => "whole",
            Source::Stream(_) => "stream",
        };
        f.debug_struct("Remote")
            .field("source", &source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for LaneTaskLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the lane's task ended before its answer did")
    }
}

/// Has a [`Rejection`](gw_core::Rejection) among its sources: who judges the upstream sees that it is not the upstream that failed.
impl Error for LaneTaskLost {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&STOPPED_MIDWAY)
    }
}
