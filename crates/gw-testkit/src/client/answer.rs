//! What a raw client has read.

use std::fmt;

use bytes::Bytes;

use crate::wire::{Payload, RawHeaders, ResponseHead, Stop};

/// The head of an answer.
pub struct Head(pub(super) ResponseHead);

/// An answer, and how it ended.
#[derive(Debug)]
#[non_exhaustive]
pub struct Answer {
    /// The 1xx answers before it.
    pub interims: Vec<Head>,
    /// The final head; `None` if the connection ended before it was complete.
    pub head: Option<Head>,
    /// The decoded body, as far as it came.
    pub body: Bytes,
    /// The fields after a chunked body.
    pub trailers: RawHeaders,
    /// How it ended.
    pub ended: Ended,
}

/// How an answer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// As its framing says.
    Complete,
    /// The connection was closed before the end.
    Cut,
    /// The connection was reset before the end.
    Reset,
    /// Head or framing are no correct HTTP/1.1: what is wrong.
    Malformed(String),
}

/// The bytes up to the end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rest {
    /// What came, as it was sent.
    pub bytes: Bytes,
    /// Whether the connection was reset rather than closed.
    pub reset: bool,
}

impl Head {
    /// The status.
    pub fn status(&self) -> u16 {
        self.0.status
    }

    /// The text behind the status.
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// The digit after `HTTP/1.`.
    pub fn minor_version(&self) -> u8 {
        self.0.minor
    }

    /// The fields, as sent.
    pub fn headers(&self) -> &RawHeaders {
        &self.0.headers
    }
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Head")
            .field("status", &self.status())
            .field("headers", self.headers())
            .finish_non_exhaustive()
    }
}

impl Answer {
    pub(super) fn new(interims: Vec<Head>, head: Head, payload: Payload, ended: Ended) -> Self {
        Self {
            interims,
            head: Some(head),
            body: payload.bytes.freeze(),
            trailers: payload.trailers,
            ended,
        }
    }

    pub(super) fn without_head(interims: Vec<Head>, stop: Stop) -> Self {
        Self {
            interims,
            head: None,
            body: Bytes::new(),
            trailers: RawHeaders::default(),
            ended: stop.into(),
        }
    }

    /// The status.
    ///
    /// # Panics
    ///
    /// If there is no head.
    #[track_caller]
    pub fn status(&self) -> u16 {
        self.expect_head().status()
    }

    /// The value of the first field of that name, in any case.
    ///
    /// # Panics
    ///
    /// If there is no head, or if the value is not UTF-8.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.expect_head().headers().get(name)
    }

    /// The body as text.
    ///
    /// # Panics
    ///
    /// If it is not UTF-8.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// Whether it came to its end as its framing says.
    pub fn is_complete(&self) -> bool {
        self.ended == Ended::Complete
    }

    #[track_caller]
    fn expect_head(&self) -> &Head {
        match &self.head {
            Some(head) => head,
            None => panic!("there is no answer: {:?}", self.ended),
        }
    }
}

impl From<Stop> for Ended {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Closed => Self::Cut,
            Stop::Reset => Self::Reset,
            Stop::Malformed(what) => Self::Malformed(what),
        }
    }
}
