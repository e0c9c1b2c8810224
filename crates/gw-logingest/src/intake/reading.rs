use std::future::poll_fn;
use std::pin::pin;
use std::time::Duration;

use bytes::Buf as _;
use gw_core::{BoxError, Rejection};
use http_body::Body;
use tokio::time::{Instant, timeout_at};

use super::error;
use super::session::{Collected, Session};
use super::split::SplitLimits;

/// How long a body may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// From one chunk to the next.
    pub(super) idle: Duration,
    /// From the head to the end.
    pub(super) whole: Duration,
}

/// So many bytes are worked on before others get their turn, some tenths of a millisecond.
const TURN: usize = 64 * 1024;

/// Feeds a body to a session, to its end, or until `goes_on` refuses what was found so far. That is not asked at the end, where more is
/// known.
pub(super) async fn read<B>(
    body: B,
    session: &mut Session,
    limits: &SplitLimits,
    patience: Patience,
    mut goes_on: impl FnMut(&Collected) -> Result<(), Rejection>,
) -> Result<(), Rejection>
where
    B: Body<Error: Into<BoxError>>,
{
    let mut body = pin!(body);
    let end = Instant::now() + patience.whole;
    loop {
        let idle = Instant::now() + patience.idle;
        let next = poll_fn(|cx| body.as_mut().poll_frame(cx).map_err(Into::into));
        let frame = timeout_at(idle.min(end), next).await;
        let mut data = match frame {
            Ok(None) => return Ok(()),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => data,
                // Trailers say nothing to us.
                Err(_) => continue,
            },
            Ok(Some(Err(failure))) => return Err(error::unreadable(failure)),
            Err(_) if idle < end => return Err(error::timeout(patience.idle)),
            Err(_) => return Err(error::timeout(patience.whole)),
        };
        while data.has_remaining() {
            let chunk = data.chunk();
            let part = chunk.get(..TURN).unwrap_or(chunk);
            let length = part.len();
            session
                .push(part)
                .map_err(|fault| error::fault(fault, limits))?;
            data.advance(length);
            if data.has_remaining() || !body.is_end_stream() {
                goes_on(session.so_far())?;
            }
            if data.has_remaining() {
                tokio::task::yield_now().await;
            }
        }
    }
}
