use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::BoxError;
use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::error::HeldTooLong;
use crate::lease::Lease;
use crate::remaining::Remaining;

pin_project! {
    /// The body of an answer that holds its place in the lane until it has ended.
    ///
    /// The place is given back with the frame that ends the stream, not one poll later; with an error; and when the
    /// body is dropped. If the lane limits the time, the body ends with [`HeldTooLong`] when it is over, unless what is
    /// ready then ends it anyway.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives the place back.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        inner: B,
        lease: Option<Lease>,
        remaining: Remaining,
        cut: bool,
    }
}

impl<B> ResponseBody<B> {
    /// A body that holds no place, for renderers and tests.
    pub const fn new(inner: B) -> Self {
        Self {
            inner,
            lease: None,
            remaining: Remaining::UNKNOWN,
            cut: false,
        }
    }

    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body inside. The place is given back.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> ResponseBody<B> {
    /// The answer with a body that holds what the lane wants it to hold.
    // Never inlined: so it writes the answer, which is large, to where the future's poll returns it.
    #[inline(never)]
    pub(crate) fn hold(mut response: Response<B>, lease: &mut Option<Lease>) -> Response<Self> {
        let ended = response.body().is_end_stream();
        if let Some(held) = lease
            && !held.outlasts_head(&mut response, ended)
        {
            *lease = None;
        }
        let size = || response.body().size_hint();
        let remaining = Remaining::of(lease.as_ref(), size, response.headers());
        let (head, inner) = response.into_parts();
        let body = Self {
            inner,
            lease: lease.take(),
            remaining,
            cut: false,
        };
        Response::from_parts(head, body)
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: From<Bytes>> From<Bytes> for ResponseBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::new(B::from(bytes))
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
        let mut this = self.project();
        if *this.cut {
            return Poll::Ready(None);
        }
        match this.inner.as_mut().poll_frame(cx) {
            // What ends the stream beats the timer.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || this.inner.is_end_stream() => {
                Lease::end(this.lease);
                return Poll::Ready(Some(Ok(frame)));
            }
            Poll::Ready(Some(Err(error))) => {
                *this.lease = None;
                return Poll::Ready(Some(Err(error.into())));
            }
            Poll::Ready(None) => {
                Lease::end(this.lease);
                return Poll::Ready(None);
            }
            // A body that has always something to say is never pending, and is cut all the same.
            Poll::Ready(Some(Ok(frame))) => {
                if !Lease::is_cut(this.lease) {
                    this.remaining.count(&frame, this.lease);
                    return Poll::Ready(Some(Ok(frame)));
                }
            }
            Poll::Pending => match this.lease.as_mut().map(|lease| lease.poll_cut(cx)) {
                Some(Poll::Ready(_)) => {}
                Some(Poll::Pending) | None => return Poll::Pending,
            },
        }
        *this.cut = true;
        *this.lease = None;
        Poll::Ready(Some(Err(Box::new(HeldTooLong))))
    }

    fn is_end_stream(&self) -> bool {
        self.cut || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
