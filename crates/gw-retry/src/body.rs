use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::budget::{Deposit, Ticket};

pin_project! {
    /// The body of an answer: the inner service's, passed through, or what was kept of one that a retry was to replace and
    /// did not.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body inside or the frames that were kept, and gives back the place of the request in a budget that
    /// counts what is on its way.
    pub struct ResponseBody<B: Body> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B: Body> {
        Passed { #[pin] body: B, held: Option<Box<Held>> },
        // Boxed, so that what passes is as small as it was: each answer is moved several times.
        Kept { frames: Box<vec::IntoIter<Frame<B::Data>>> },
    }
}

/// What a request is to a budget that counts those on their way, until its answer has ended.
pub(crate) struct Held {
    pub(crate) _deposit: Deposit,
    /// Of the retry that was answered, if it was one.
    pub(crate) _ticket: Option<Ticket>,
}

impl<B: Body> ResponseBody<B> {
    /// A body that holds no place in a budget, for renderers and tests.
    pub const fn new(inner: B) -> Self {
        Self {
            kind: Kind::Passed {
                body: inner,
                held: None,
            },
        }
    }

    #[inline]
    pub(crate) fn passed(body: B, held: Option<Box<Held>>) -> Self {
        let held = held.filter(|_| !body.is_end_stream());
        Self {
            kind: Kind::Passed { body, held },
        }
    }

    pub(crate) fn kept(frames: Vec<Frame<B::Data>>) -> Self {
        let frames = Box::new(frames.into_iter());
        Self {
            kind: Kind::Kept { frames },
        }
    }
}

impl<B: Body + Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: Body + From<Bytes>> From<Bytes> for ResponseBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::new(B::from(bytes))
    }
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Passed { mut body, held } => {
                let polled = body.as_mut().poll_frame(cx);
                if held.is_some() {
                    let ends = match &polled {
                        Poll::Pending => false,
                        Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || body.is_end_stream(),
                        Poll::Ready(_) => true,
                    };
                    if ends {
                        *held = None;
                    }
                }
                polled
            }
            KindProj::Kept { frames } => Poll::Ready(frames.next().map(Ok)),
        }
    }

    #[inline]
    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Passed { body, .. } => body.is_end_stream(),
            Kind::Kept { frames } => frames.len() == 0,
        }
    }

    #[inline]
    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Passed { body, .. } => body.size_hint(),
            Kind::Kept { frames } => {
                let frames = frames.as_slice();
                let data = frames.iter().filter_map(Frame::data_ref);
                let left = data.map(|data| data.remaining() as u64).sum();
                if frames.iter().any(Frame::is_trailers) {
                    // Not exactly: with a length HTTP/1 has no place for trailers.
                    let mut hint = SizeHint::new();
                    hint.set_lower(left);
                    return hint;
                }
                SizeHint::with_exact(left)
            }
        }
    }
}

impl<B: Body> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Passed { .. } => "passed",
            Kind::Kept { .. } => "kept",
        };
        f.debug_tuple("ResponseBody").field(&kind).finish()
    }
}
