use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use gw_core::{Body, BoxError};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer: the inner service's as it is, or the intake's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body inside.
    pub struct ResponseBody<B> {
        #[pin]
        origin: Origin<B>,
    }
}

pin_project! {
    #[project = OriginProjection]
    enum Origin<B> {
        Intake { body: Body },
        Inner { #[pin] body: B },
    }
}

impl<B> ResponseBody<B> {
    pub(super) const fn intake(body: Body) -> Self {
        Self {
            origin: Origin::Intake { body },
        }
    }

    pub(super) const fn inner(body: B) -> Self {
        Self {
            origin: Origin::Inner { body },
        }
    }
}

impl<B> From<Bytes> for ResponseBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::intake(bytes.into())
    }
}

impl<B: Default> Default for ResponseBody<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = match &self.origin {
            Origin::Intake { .. } => "intake",
            Origin::Inner { .. } => "inner service",
        };
        f.debug_tuple("ResponseBody").field(&origin).finish()
    }
}

impl<B> http_body::Body for ResponseBody<B>
where
    B: http_body::Body,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.project().origin.project() {
            OriginProjection::Intake { body } => Pin::new(body).poll_frame(cx),
            OriginProjection::Inner { body } => {
                let frame = ready!(body.poll_frame(cx));
                // For `Bytes` this hands the same bytes on; they are not copied.
                let whole = |mut data: B::Data| data.copy_to_bytes(data.remaining());
                Poll::Ready(
                    frame.map(|frame| frame.map(|frame| frame.map_data(whole)).map_err(Into::into)),
                )
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.origin {
            Origin::Intake { body } => body.is_end_stream(),
            Origin::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.origin {
            Origin::Intake { body } => body.size_hint(),
            Origin::Inner { body } => body.size_hint(),
        }
    }
}
