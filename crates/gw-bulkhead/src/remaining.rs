use bytes::Buf;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Frame, SizeHint};

use crate::lease::Lease;

/// How much of a body's data is still to come, if that was said and somebody wants to know.
///
/// Over HTTP/1 a server asks for no more once it has written as much as was said: it drops the body, and never sees the
/// stream end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remaining(u64);

impl Remaining {
    pub(crate) const UNKNOWN: Self = Self(u64::MAX);

    /// What a body says of itself, or else the head of its answer, as a server reads them. Unknown unless it is to be known
    /// how the request of `lease` ends.
    #[inline]
    pub(crate) fn of(
        lease: Option<&Lease>,
        size: impl FnOnce() -> SizeHint,
        headers: &HeaderMap,
    ) -> Self {
        if !lease.is_some_and(Lease::is_measured) {
            return Self::UNKNOWN;
        }
        let stated = || headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        size().exact().or_else(stated).map_or(Self::UNKNOWN, Self)
    }

    /// Counts a frame that is handed out. With the last of the data the request has been answered, as far as `lease`
    /// wants to know.
    #[inline]
    pub(crate) fn count<D: Buf>(&mut self, frame: &Frame<D>, lease: &mut Option<Lease>) {
        if *self == Self::UNKNOWN {
            return;
        }
        if let (Some(lease), Some(data)) = (lease, frame.data_ref()) {
            self.0 = self.0.saturating_sub(data.remaining() as u64);
            if self.0 == 0 {
                lease.answered();
            }
        }
    }
}
