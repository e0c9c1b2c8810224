//! What the upstream knows of a request.

use bytes::Bytes;

use crate::wire::{Payload, RawHeaders, RequestHead};

/// A request as the upstream received it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Received {
    /// Counts all requests of the upstream, from 0.
    pub index: usize,
    /// Which connection it came on, from 0 in the order of acceptance.
    pub connection: usize,
    /// Which request of its connection it is, from 0.
    pub on_connection: usize,
    /// The method.
    pub method: String,
    /// The target, as sent.
    pub target: String,
    /// The digit after `HTTP/1.`.
    pub minor_version: u8,
    /// The fields, as sent.
    pub headers: RawHeaders,
    /// The first MiB of the body, decoded; empty until the body has ended.
    pub body: Bytes,
    /// The length of the whole body in bytes, decoded; 0 until the body has ended.
    pub body_len: u64,
    /// The fields after a chunked body.
    pub trailers: RawHeaders,
    /// Whether the request was received to its end.
    pub complete: bool,
    /// How many bytes of the answer were given to the socket.
    pub sent: u64,
    /// How far the exchange has come.
    pub progress: Progress,
}

/// How far an exchange has come, or how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Not ended: the body is being read, or the answer is held back or being written.
    Open,
    /// The whole answer was written.
    Answered,
    /// The reply closed the connection before the end of its answer.
    Cut,
    /// The reply reset the connection.
    Reset,
    /// The other side closed or reset the connection first.
    ClientLeft,
    /// The body was not HTTP; see [`Upstream::malformed`](super::Upstream::malformed).
    Malformed,
    /// The upstream was stopped, or its script panicked.
    Stopped,
}

impl Received {
    pub(super) fn new(head: RequestHead, on_connection: usize) -> Self {
        Self {
            index: 0,
            connection: 0,
            on_connection,
            method: head.method,
            target: head.target,
            minor_version: head.minor,
            headers: head.headers,
            body: Bytes::new(),
            body_len: 0,
            trailers: RawHeaders::default(),
            complete: false,
            sent: 0,
            progress: Progress::Open,
        }
    }

    /// The target up to its query.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The value of the first field of that name, in any case.
    ///
    /// # Panics
    ///
    /// If the value is not UTF-8.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)
    }

    /// Whether the client allows another request on the connection.
    pub(super) fn keeps_alive(&self) -> bool {
        let closes = |value: &Bytes| {
            let text = String::from_utf8_lossy(value);
            text.split(',')
                .any(|option| option.trim().eq_ignore_ascii_case("close"))
        };
        self.minor_version == 1 && !self.headers.values("connection").any(closes)
    }

    pub(super) fn set_body(&mut self, payload: Payload, complete: bool) {
        self.body_len = payload.length;
        self.trailers = payload.trailers;
        self.body = payload.bytes.freeze();
        self.complete = complete;
    }
}
