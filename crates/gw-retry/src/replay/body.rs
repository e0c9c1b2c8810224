use std::fmt;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::source::{End, Place, Slot, Source};

pin_project! {
    /// The body of an attempt.
    ///
    /// What is sent once is passed through. What may be sent again is read through here: each frame is kept as it goes by,
    /// by reference and not by copy unless it is a small one of many, until there are too many. An attempt after the first gives
    /// out what was kept and then goes on with the rest; trailers come again as well. Size hint and end of stream are those of what
    /// is still to come; a body whose length was not known at first has none for later attempts either.
    ///
    /// # Cancel safety
    ///
    /// Dropping it gives the body back to the retry layer if that may still send it again; else it is dropped.
    pub struct ReplayBody<B: Body> {
        #[pin]
        kind: Kind<B>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<B: Body> {
        Once { #[pin] body: B },
        Nothing,
        Tee { tee: Tee<B> },
    }
}

/// A body that may be sent again, on its way through an attempt.
struct Tee<B: Body> {
    /// None once it has been given back.
    held: Option<Held<B>>,
    /// How many of the kept frames this attempt has given out.
    next: usize,
    /// Whether it has given out the trailers.
    done: bool,
}

/// The body, and where it is to be given back.
struct Held<B: Body> {
    source: Pin<Box<Source<B>>>,
    place: Arc<Place<B>>,
}

impl<B: Body> ReplayBody<B> {
    /// Sent once.
    #[inline]
    pub(crate) const fn once(body: B) -> Self {
        Self {
            kind: Kind::Once { body },
        }
    }

    /// Without content.
    pub(crate) const fn nothing() -> Self {
        Self {
            kind: Kind::Nothing,
        }
    }

    pub(crate) fn tee(source: Pin<Box<Source<B>>>, slot: &Slot<B>) -> Self {
        let place = slot.place();
        Self {
            kind: Kind::Tee {
                tee: Tee {
                    held: Some(Held { source, place }),
                    next: 0,
                    done: false,
                },
            },
        }
    }
}

impl<B: Body> Default for ReplayBody<B> {
    /// Without content.
    fn default() -> Self {
        Self::nothing()
    }
}

impl<B: Body<Data = Bytes>> Body for ReplayBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    #[inline]
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().kind.project() {
            KindProj::Once { body } => body.poll_frame(cx),
            KindProj::Nothing => Poll::Ready(None),
            KindProj::Tee { tee } => tee.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Once { body } => body.is_end_stream(),
            Kind::Nothing => true,
            Kind::Tee { tee } => tee.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Once { body } => body.size_hint(),
            Kind::Nothing => SizeHint::with_exact(0),
            Kind::Tee { tee } => tee.size_hint(),
        }
    }
}

impl<B: Body<Data = Bytes>> Tee<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let Some(Held { source, place }) = &mut self.held else {
            return Poll::Ready(None);
        };
        let mut source = source.as_mut().project();
        if let Some(frame) = source.kept.frames.get(self.next) {
            let frame = frame.clone();
            self.next += 1;
            self.give_back_if_ended();
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        match source.end {
            End::Open => {}
            End::Ended(trailers) => {
                let trailers = trailers
                    .clone()
                    .filter(|_| !mem::replace(&mut self.done, true));
                self.give_back();
                return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
            }
            End::Failed => {
                self.give_back();
                return Poll::Ready(None);
            }
        }
        // The layer is done with the request: nobody will ask for what is kept.
        if Arc::strong_count(place) == 1 && !source.kept.lost {
            source.kept.lose();
        }
        // Until the poll returns: a body that panics takes a frame with it, and what it goes on with would hide the hole.
        let lost = mem::replace(&mut source.kept.lost, true);
        let polled = source.body.as_mut().poll_frame(cx);
        source.kept.lost = lost;
        let Poll::Ready(frame) = polled else {
            // Or will be while this waits: a stream may be silent for hours.
            if !source.kept.frames.is_empty() && place.is_over(cx.waker()) {
                source.kept.lose();
            }
            return Poll::Pending;
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    source.kept.push(data);
                    self.next = source.kept.frames.len();
                } else if let Some(trailers) = frame.trailers_ref() {
                    *source.end = End::Ended(Some(trailers.clone()));
                    self.done = true;
                }
                if source.body.is_end_stream() && matches!(source.end, End::Open) {
                    *source.end = End::Ended(None);
                }
            }
            Some(Err(_)) => *source.end = End::Failed,
            None => *source.end = End::Ended(None),
        }
        match &frame {
            Some(Ok(_)) => self.give_back_if_ended(),
            _ => self.give_back(),
        }
        Poll::Ready(frame)
    }

    /// Gives the body back as soon as nothing is to come, since a server need not poll again after the last frame.
    fn give_back_if_ended(&mut self) {
        if self.is_end_stream() {
            self.give_back();
        }
    }

    fn is_end_stream(&self) -> bool {
        let Some(Held { source, .. }) = &self.held else {
            return true;
        };
        if self.next < source.kept.frames.len() {
            return false;
        }
        match &source.end {
            End::Open => source.body.is_end_stream(),
            End::Ended(trailers) => trailers.is_none() || self.done,
            End::Failed => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        let Some(Held { source, .. }) = &self.held else {
            return SizeHint::with_exact(0);
        };
        let kept = source.kept.frames.iter().skip(self.next);
        let kept: u64 = kept.map(|frame| frame.len() as u64).sum();
        let mut hint = match source.end {
            End::Open => source.body.size_hint(),
            End::Ended(_) | End::Failed => SizeHint::with_exact(0),
        };
        if !source.sized && hint.exact().is_some() {
            // Known by now, but each attempt is framed as the first one was: with a length HTTP/1 has no place for trailers.
            let left = hint.lower();
            hint = SizeHint::new();
            hint.set_lower(left);
        }
        // The upper one first: the lower one must never be above it.
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(kept));
        }
        hint.set_lower(hint.lower().saturating_add(kept));
        hint
    }
}

impl<B: Body> Tee<B> {
    #[inline]
    fn give_back(&mut self) {
        if let Some(held) = self.held.take() {
            held.give_back();
        }
    }
}

impl<B: Body> Held<B> {
    /// Not inlined: what drops a body that is sent once is small then.
    #[inline(never)]
    fn give_back(self) {
        self.place.put(self.source);
    }
}

impl<B: Body> Drop for Tee<B> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

impl<B: Body> fmt::Debug for ReplayBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.kind {
            Kind::Once { .. } => "once",
            Kind::Nothing => "nothing",
            Kind::Tee { .. } => "replayable",
        };
        f.debug_tuple("ReplayBody").field(&kind).finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
