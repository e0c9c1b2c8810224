//! Closing so that the client gets to read its answer.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;
use gw_core::{OnReject, RejectContext, Rejection, Respond};
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::activity::FAREWELL;
use super::io::Io;
use crate::codes;

/// The most that is read from a client only so that its answer arrives.
const MAX_DISCARDED: usize = 1024 * 1024;

/// Ends the sending side, and reads on for a moment.
///
/// A socket that is closed while bytes wait to be read is reset, and the reset may overtake the answer. Takes at most
/// one second and 1 MiB.
pub(super) async fn linger(mut io: Io) {
    let discarding = async {
        if io.shutdown().await.is_err() {
            return;
        }
        let mut discarded = 0;
        let mut scratch = vec![0; 8 * 1024];
        while let Ok(count @ 1..) = io.read(&mut scratch).await {
            discarded += count;
            if discarded > MAX_DISCARDED {
                return;
            }
        }
    };
    // Out of time is as good an end as any.
    _ = timeout(FAREWELL, discarding).await;
}

/// Answers a head that took too long, and closes.
pub(super) async fn too_slow(mut io: Io) {
    let answer = too_slow_answer(SystemTime::now());
    if let Ok(Ok(())) = timeout(FAREWELL, io.write_all(answer.as_bytes())).await {
        linger(io).await;
    }
}

fn too_slow_answer(now: SystemTime) -> String {
    let rejection = Rejection::new(&codes::CLIENT_TIMEOUT);
    let answer: Result<Response<Bytes>, Infallible> =
        Respond::new().reject(rejection, &RejectContext::default());
    let Ok(answer) = answer;
    let status = answer.status();
    let mut text = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    for (name, value) in answer.headers() {
        // All of them are our own constants. Writing to a string does not fail.
        _ = write!(text, "{name}: {}\r\n", value.to_str().unwrap_or_default());
    }
    let body = String::from_utf8_lossy(answer.body());
    let date = httpdate::fmt_http_date(now);
    _ = write!(
        text,
        "date: {date}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_the_envelope_and_closes() {
        let answer = too_slow_answer(SystemTime::UNIX_EPOCH);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("HTTP/1.1 408 Request Timeout\r\n"),
            "{head}"
        );
        for field in [
            "content-type: application/json",
            "cache-control: no-store",
            "date: Thu, 01 Jan 1970 00:00:00 GMT",
            "connection: close",
            &format!("content-length: {}", body.len()),
        ] {
            assert!(
                head.split("\r\n").any(|line| line == field),
                "{field} in {head}"
            );
        }
        assert!(body.contains(r#""code":"CLIENT_TIMEOUT""#), "{body}");
    }
}
