use std::num::NonZeroU32;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::charged::Seat;

pin_project! {
    /// The body of an answer whose bytes are charged as they are handed out.
    ///
    /// Data, trailers, size hint, end of stream and errors are the inner body's.
    ///
    /// # Cancel safety
    ///
    /// Dropping it charges nothing more: what was handed out has been charged.
    #[derive(Debug)]
    pub struct ChargedBody<B> {
        #[pin]
        inner: B,
        meter: Option<Meter>,
    }
}

impl<B> ChargedBody<B> {
    /// A body that nobody pays for, for renderers and tests.
    pub const fn new(inner: B) -> Self {
        Self { inner, meter: None }
    }

    pub(crate) const fn metered(inner: B, meter: Option<Meter>) -> Self {
        Self { inner, meter }
    }

    /// The body inside.
    pub const fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The body inside. What comes out of it is not charged any more.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl<B: Default> Default for ChargedBody<B> {
    fn default() -> Self {
        Self::new(B::default())
    }
}

impl<B: From<Bytes>> From<Bytes> for ChargedBody<B> {
    fn from(bytes: Bytes) -> Self {
        Self::new(B::from(bytes))
    }
}

impl<B: Body> Body for ChargedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(meter), Some(Ok(frame))) = (this.meter, &frame)
            && let Some(data) = frame.data_ref()
        {
            meter.pass(data.remaining());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Counts the bytes of one answer, and charges them.
#[derive(Debug)]
pub(crate) struct Meter {
    seat: Seat,
    count: Count,
}

#[derive(Debug)]
struct Count {
    bytes_per_cell: u64,
    bytes: u64,
    /// The cells that these bytes have come to.
    cells: u64,
}

impl Meter {
    pub(super) fn new(seat: Seat, bytes_per_cell: NonZeroU32) -> Self {
        Self {
            seat,
            count: Count::new(bytes_per_cell),
        }
    }

    fn pass(&mut self, bytes: usize) {
        let cells = self.count.pass(bytes);
        if cells > 0 {
            self.seat.charge(cells);
        }
    }
}

impl Count {
    fn new(bytes_per_cell: NonZeroU32) -> Self {
        Self {
            bytes_per_cell: bytes_per_cell.get().into(),
            bytes: 0,
            cells: 0,
        }
    }

    /// How many cells begin with so many bytes more.
    fn pass(&mut self, bytes: usize) -> u32 {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let due = self.bytes.div_ceil(self.bytes_per_cell);
        let begun = due - std::mem::replace(&mut self.cells, due);
        u32::try_from(begun).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However the bytes are cut into frames, and wherever the answer stops, the cells that have begun are paid.
        #[test]
        fn what_has_left_is_paid(per_cell in 1..5_000u32, frames in prop::collection::vec(0..10_000usize, 0..50)) {
            let mut count = Count::new(NonZeroU32::new(per_cell).unwrap());
            let (mut sent, mut paid) = (0, 0);
            for frame in frames {
                sent += frame as u64;
                paid += u64::from(count.pass(frame));
                prop_assert_eq!(paid, sent.div_ceil(per_cell.into()));
            }
        }
    }
}
