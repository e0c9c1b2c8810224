use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::{Response, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::observation::Observation;
use crate::verdict::How;

pin_project! {
    /// The body of an answer that is observed until it has ended.
    ///
    /// The exchange is noted as complete with the frame that ends the stream, not one poll later.
    ///
    /// # Cancel safety
    ///
    /// Dropping it before its end drops the body inside; the exchange is then noted as ended by the client.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        // Dropped before the observation, so that what it still has to note is read.
        #[pin]
        inner: B,
        observation: Option<Box<Observation>>,
    }
}

impl<B> ResponseBody<B> {
    /// A body that is not observed, for renderers and tests.
    pub const fn new(inner: B) -> Self {
        Self {
            inner,
            observation: None,
        }
    }

    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body inside. If it has not ended, the exchange is noted as ended by the client.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Body> ResponseBody<B> {
    #[inline]
    pub(crate) fn observe(
        response: Response<B>,
        mut observation: Option<Box<Observation>>,
    ) -> Response<Self> {
        let ended = response.body().is_end_stream();
        if let Some(seen) = &mut observation {
            let announced = if ended { Some(0) } else { announced(&response) };
            seen.head(&response, announced);
        }
        if ended && let Some(observation) = observation.take() {
            observation.finish(How::Complete);
        }
        response.map(|inner| Self { inner, observation })
    }
}

/// How many bytes the head of an answer says there are.
fn announced<B>(response: &Response<B>) -> Option<u64> {
    let length = response.headers().get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
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

impl<B: Body> Body for ResponseBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let mut this = self.project();
        let Some(seen) = this.observation else {
            return this.inner.poll_frame(cx);
        };
        seen.resume();
        let frame = seen.run(|| this.inner.as_mut().poll_frame(cx));
        let ended = match &frame {
            Poll::Pending => None,
            Poll::Ready(None) => Some(How::Complete),
            Poll::Ready(Some(Err(_))) => Some(How::BodyError),
            Poll::Ready(Some(Ok(frame))) => {
                seen.sent(frame.data_ref().map_or(0, |data| data.remaining()));
                if let Some(trailers) = frame.trailers_ref() {
                    seen.trailers(trailers);
                }
                if !frame.is_trailers() && !this.inner.is_end_stream() {
                    seen.pause();
                    None
                } else {
                    Some(How::Complete)
                }
            }
        };
        if let Some(how) = ended
            && let Some(observation) = this.observation.take()
        {
            observation.finish(how);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
