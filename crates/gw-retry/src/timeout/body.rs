use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use gw_core::BoxError;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::error::{TimedOut, Timer};
use super::limit::Limit;
use super::note::Note;
use crate::telemetry;

pin_project! {
    /// The body of an answer, cut with [`TimedOut`] when its timer expires.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the body inside and its timer, and nothing else.
    #[derive(Debug)]
    pub struct TimedBody<B> {
        #[pin]
        inner: B,
        deadline: Option<Limit>,
        idle: Option<Duration>,
        // Made at the first wait: most bodies are there at once. Boxed, so that the body can be moved if the inner one can.
        sleep: Option<Pin<Box<Sleep>>>,
        // When the gap that lasts now is too long.
        gap: Option<Limit>,
        note: Option<Note>,
        cut: bool,
        shadow: bool,
    }
}

impl<B> TimedBody<B> {
    /// A body without timers, for renderers and tests.
    pub const fn new(inner: B) -> Self {
        Self::timed(inner, None, None, None, false)
    }

    pub(super) const fn timed(
        inner: B,
        deadline: Option<Limit>,
        idle: Option<Duration>,
        note: Option<Note>,
        shadow: bool,
    ) -> Self {
        Self {
            inner,
            deadline,
            idle,
            sleep: None,
            gap: None,
            note,
            cut: false,
            shadow,
        }
    }

    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body inside, without timers.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Default> Default for TimedBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: From<Bytes>> From<Bytes> for TimedBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::new(B::from(bytes))
    }
}

impl<B> Body for TimedBody<B>
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
        // One that has always something to say is never pending, and is cut all the same.
        let over = this
            .deadline
            .filter(|limit| limit.has_passed(Instant::now()));
        let polled = this.inner.as_mut().poll_frame(cx);
        // As below: the end, an error, and the last frame beat the timer.
        let goes_on = match &polled {
            Poll::Pending => true,
            Poll::Ready(Some(Ok(frame))) => !frame.is_trailers() && !this.inner.is_end_stream(),
            Poll::Ready(_) => false,
        };
        if *this.shadow
            && goes_on
            && let Some(limit) = over
        {
            limit.timer.shadowed();
            *this.deadline = None;
        }
        let over = over.filter(|_| !*this.shadow);
        let fired = match (polled, over) {
            // The last frame beats the timer.
            (Poll::Ready(Some(Ok(frame))), Some(_))
                if frame.is_trailers() || this.inner.is_end_stream() =>
            {
                return Poll::Ready(Some(Ok(frame)));
            }
            (Poll::Ready(Some(Ok(_))) | Poll::Pending, Some(limit)) => limit.timer,
            (Poll::Ready(frame), _) => {
                *this.gap = None;
                return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
            }
            (Poll::Pending, None) => {
                if this.gap.is_none() {
                    *this.gap = Limit::after(Instant::now(), *this.idle, Timer::Idle);
                }
                let Some(limit) = Limit::earliest([*this.deadline, *this.gap]) else {
                    return Poll::Pending;
                };
                let sleep = this
                    .sleep
                    .get_or_insert_with(|| Box::pin(sleep_until(limit.due)));
                if sleep.deadline() != limit.due {
                    sleep.as_mut().reset(limit.due);
                }
                match sleep.as_mut().poll(cx) {
                    Poll::Ready(()) => limit.timer,
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        if *this.shadow {
            // Once: what comes is not timed any more.
            fired.shadowed();
            (*this.deadline, *this.idle, *this.gap, *this.sleep) = (None, None, None, None);
            return Poll::Pending;
        }
        *this.cut = true;
        if let Some(note) = this.note {
            note.ended_by(fired);
        }
        telemetry::timer_fired(fired);
        Poll::Ready(Some(Err(TimedOut(fired).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.cut || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
