//! Closing so that the client gets to read its answer.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gw_core::{OnReject, RejectContext, Rejection, Respond};
use http::Response;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::activity::FAREWELL;
use super::io::Io;
use super::link::Order;
use crate::codes;

/// The longest that is read from a client only so that its answer arrives. Who sends a large upload to the end before it looks
/// for an answer is told so that it need not come again at once.
const LONGEST: Duration = Duration::from_secs(10);

/// Ends the sending side, and reads on until the client has ended its own, or has been silent for a second.
///
/// A socket that is closed while bytes wait to be read is reset, and the reset may overtake the answer (RFC 9112 section 9.6).
/// Takes at most [`LONGEST`], and a second if the server stops or has no place left.
pub(super) async fn linger(mut io: Io) {
    let link = Arc::clone(io.link());
    let start = Instant::now();
    let discarding = timeout(LONGEST, async {
        if io.shutdown().await.is_err() {
            return;
        }
        let mut scratch = vec![0; 8 * 1024];
        while let Ok(Ok(1..)) = timeout(FAREWELL, io.read(&mut scratch)).await {}
    });
    let mut discarding = pin!(discarding);
    poll_fn(|cx| {
        let wanted = match link.look(cx).order {
            Order::Serve => true,
            // The next read, or the end of the silence, looks again.
            Order::Drain | Order::Evict => start.elapsed() < FAREWELL,
            Order::Expel | Order::Cut => false,
        };
        if !wanted {
            return Poll::Ready(());
        }
        // Out of time is as good an end as any.
        discarding.as_mut().poll(cx).map(drop)
    })
    .await;
}

/// What is answered to a head that took too long. No service sees such a request, so that no layer makes or dresses the answer.
#[derive(Clone)]
pub(super) struct SlowHead(Arc<dyn Fn() -> Response<Bytes> + Send + Sync>);

impl SlowHead {
    pub(super) fn new(answer: impl Fn() -> Response<Bytes> + Send + Sync + 'static) -> Self {
        Self(Arc::new(answer))
    }

    /// Answers, and closes.
    pub(super) async fn answer(&self, mut io: Io) {
        let answer = message((self.0)(), SystemTime::now());
        if let Ok(Ok(())) = timeout(FAREWELL, io.write_all(&answer)).await {
            linger(io).await;
        }
    }
}

impl Default for SlowHead {
    fn default() -> Self {
        Self::new(|| {
            let rejection = Rejection::new(&codes::CLIENT_TIMEOUT);
            let Ok(answer) = OnReject::<_, Infallible>::reject(
                &Respond::new(),
                rejection,
                &RejectContext::default(),
            );
            answer
        })
    }
}

impl fmt::Debug for SlowHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlowHead").finish_non_exhaustive()
    }
}

/// The last message of a connection over HTTP/1.1.
fn message(answer: Response<Bytes>, now: SystemTime) -> Vec<u8> {
    let (mut parts, body) = answer.into_parts();
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let mut message = format!("HTTP/1.1 {} {reason}\r\n", parts.status.as_u16()).into_bytes();
    // How the message is framed is said here and nowhere else.
    for framing in [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING] {
        parts.headers.remove(framing);
    }
    for (name, value) in &parts.headers {
        message.extend_from_slice(name.as_str().as_bytes());
        message.extend_from_slice(b": ");
        message.extend_from_slice(value.as_bytes());
        message.extend_from_slice(b"\r\n");
    }
    let date = httpdate::fmt_http_date(now);
    let length = body.len();
    let end = format!("date: {date}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    message.extend_from_slice(end.as_bytes());
    message.extend_from_slice(&body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(answer: Response<Bytes>) -> (Vec<String>, String) {
        let message = String::from_utf8(message(answer, SystemTime::UNIX_EPOCH)).unwrap();
        let (head, body) = message.split_once("\r\n\r\n").unwrap();
        let lines = head.split("\r\n").map(str::to_owned).collect();
        (lines, body.to_owned())
    }

    #[test]
    fn the_answer_is_the_envelope_and_closes() {
        let (lines, body) = sent((SlowHead::default().0)());
        assert_eq!(lines[0], "HTTP/1.1 408 Request Timeout");
        for field in [
            "content-type: application/json",
            "cache-control: no-store",
            "date: Thu, 01 Jan 1970 00:00:00 GMT",
            "connection: close",
            &format!("content-length: {}", body.len()),
        ] {
            assert!(lines.iter().any(|line| line == field), "{field}: {lines:?}");
        }
        assert!(body.contains(r#""code":"CLIENT_TIMEOUT""#), "{body}");
    }

    #[test]
    fn an_answer_of_somebody_elses_is_framed_here() {
        let answer = Response::builder()
            .header("x-request-id", "7")
            .header("connection", "keep-alive")
            .header("transfer-encoding", "chunked")
            .header("content-length", "99")
            .body(Bytes::from_static(b"late"))
            .unwrap();
        let (lines, body) = sent(answer);
        assert_eq!(body, "late");
        let expected = [
            "HTTP/1.1 200 OK",
            "x-request-id: 7",
            "date: Thu, 01 Jan 1970 00:00:00 GMT",
            "connection: close",
            "content-length: 4",
        ];
        assert_eq!(lines, expected);
    }
}
