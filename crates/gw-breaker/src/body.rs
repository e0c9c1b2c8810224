use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::BoxError;
use gw_core::classify::{Classify, Outcome, ends_out_of_time};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::attempt::Attempt;
use crate::breaker::Ended;
use crate::classify::{of_body, pushback};

pin_project! {
    /// The body of an answer whose outcome is known at its end.
    ///
    /// The breaker hears of it with the frame that ends the stream, not one poll later; and with an error. Of a good stream it
    /// hears when it has gone on for a second, too: that ends a row of failures.
    ///
    /// # Cancel safety
    ///
    /// Dropping it before its end says what the head said: that the upstream has answered well, or nothing where only the end
    /// can tell; and that it was slow. If the upstream was waited for until the request's deadline passed, the call has
    /// failed; if for as long as makes a call slow, it was slow where the length of the body is known.
    #[derive(Debug)]
    pub struct ResponseBody<B, C> {
        // Before the body inside, which is dropped after it: see the future's attempt.
        judged: Option<Judged<C>>,
        #[pin]
        inner: B,
    }
}

/// What is still to be judged. Small, since it is moved with the answer.
#[derive(Debug)]
struct Judged<C> {
    attempt: Attempt,
    classifier: C,
}

impl<B, C> ResponseBody<B, C> {
    /// A body of which the breaker hears nothing, for renderers and tests.
    pub const fn new(inner: B) -> Self {
        Self {
            inner,
            judged: None,
        }
    }

    /// A body of whose end the breaker hears.
    pub(crate) const fn judged(inner: B, attempt: Attempt, classifier: C) -> Self {
        let judged = Some(Judged {
            attempt,
            classifier,
        });
        Self { inner, judged }
    }

    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body inside. For the breaker it is as if this were dropped.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Default, C> Default for ResponseBody<B, C> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: From<Bytes>, C> From<Bytes> for ResponseBody<B, C> {
    fn from(bytes: Bytes) -> Self {
        Self::new(B::from(bytes))
    }
}

impl<C: Classify> Judged<C> {
    #[inline]
    fn end(&mut self, trailers: Option<&http::HeaderMap>) {
        if self.attempt.is_good() {
            self.attempt.succeed(None);
        } else if !self.attempt.is_told() {
            let outcome = match self.classifier.end(trailers) {
                Outcome::Failure
                    if self.attempt.is_by_client() && trailers.is_some_and(ends_out_of_time) =>
                {
                    Outcome::Ignored
                }
                outcome => outcome,
            };
            let mut ended = Ended::with(outcome);
            if outcome == Outcome::Failure
                && let Some(wait) = trailers.and_then(pushback)
            {
                ended = ended.retry_after(wait);
            }
            self.attempt.end(ended, None);
        }
    }
}

impl<B, C> Body for ResponseBody<B, C>
where
    B: Body,
    B::Error: Into<BoxError>,
    C: Classify,
{
    type Data = B::Data;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, BoxError>>> {
        let mut this = self.project();
        let polled = this.inner.as_mut().poll_frame(cx);
        let Some(judged) = this.judged.as_mut() else {
            return polled.map_err(Into::into);
        };
        // By a look at it, and only then handed on: what was just written is not moved at once, which a processor waits for.
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_trailers() || this.inner.is_end_stream() {
                    judged.end(frame.trailers_ref());
                } else {
                    judged.attempt.goes_on();
                }
            }
            Poll::Ready(None) => judged.end(None),
            Poll::Pending => {
                let inner = this.inner.as_ref();
                judged.attempt.waits(|| inner.size_hint().exact());
            }
            Poll::Ready(Some(Err(_))) => {}
        }
        polled.map_err(|error| {
            let error = error.into();
            judged.attempt.breaks_off(of_body(&error));
            error
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
