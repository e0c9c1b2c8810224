//! What becomes of an answer's body that nobody wants.

use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use tokio::runtime::Handle;
use tokio::time::timeout;

/// An unwanted body is read on for so many bytes,
const DRAINED_BYTES: u64 = 64 * 1024;

/// and for so long, in which it holds its slot.
const DRAINED_FOR: Duration = Duration::from_millis(500);

/// Nobody wants what is left of an answer.
///
/// If it is little and comes soon, it is read, so that the connection serves the next request.
pub(super) fn discard<B>(body: B)
where
    B: Body<Data = Bytes> + Send + 'static,
{
    if !body.is_end_stream()
        && body.size_hint().lower() <= DRAINED_BYTES
        && let Ok(runtime) = Handle::try_current()
    {
        runtime.spawn(timeout(DRAINED_FOR, drain(body)));
    }
}

/// Reads to the end, or to the bound.
async fn drain<B: Body<Data = Bytes>>(body: B) {
    let mut body = pin!(body);
    let mut left = DRAINED_BYTES;
    while let Some(Ok(frame)) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        match left.checked_sub(length) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}
