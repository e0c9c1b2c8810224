//! Answers in the words of the cluster.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::Frame;
use serde_json::{Value, json};

use super::behaviour::Behaviour;
use super::config::Product;

const ENDLESS_CHUNK: &[u8] = br#"{"create":{"_index":"x","_id":"x","status":201}},"#;

/// Why an item failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ItemError {
    pub(super) status: u16,
    pub(super) kind: &'static str,
    pub(super) reason: String,
}

/// Why a whole request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    kind: &'static str,
    reason: String,
}

/// The body of an answer.
#[derive(Debug)]
pub(super) enum Body {
    Whole(Option<Bytes>),
    Endless,
}

/// How to label an answer, taken from the request.
#[derive(Debug)]
pub(super) struct Style {
    pub(super) product: Product,
    pub(super) content_type: HeaderValue,
}

impl ItemError {
    pub(super) fn new(status: u16, kind: &'static str, reason: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            reason: reason.into(),
        }
    }

    /// The document does not fit.
    pub(super) fn parsing(reason: impl Into<String>) -> Self {
        Self::new(400, "document_parsing_exception", reason)
    }

    pub(super) fn illegal(reason: impl Into<String>) -> Self {
        Self::new(400, "illegal_argument_exception", reason)
    }

    pub(super) fn to_json(&self) -> Value {
        json!({"type": self.kind, "reason": self.reason})
    }
}

impl Refused {
    pub(super) fn new(status: StatusCode, kind: &'static str, reason: impl Into<String>) -> Self {
        Self {
            status,
            kind,
            reason: reason.into(),
        }
    }

    pub(super) fn illegal(reason: impl Into<String>) -> Self {
        Self::new(
            StatusCode::BAD_REQUEST,
            "illegal_argument_exception",
            reason,
        )
    }

    /// What a cluster says with a status that the test asked for.
    pub(super) fn asked_for(status: StatusCode) -> Self {
        let kind = match status.as_u16() {
            401 | 403 => "security_exception",
            404 => "index_not_found_exception",
            413 => "content_too_long_exception",
            429 => "circuit_breaking_exception",
            503 => "cluster_block_exception",
            _ => "exception",
        };
        Self::new(status, kind, "as the test asked for")
    }

    fn to_json(&self) -> Value {
        let cause = json!({"type": self.kind, "reason": self.reason});
        let mut error = cause.clone();
        error["root_cause"] = json!([cause]);
        json!({"error": error, "status": self.status.as_u16()})
    }
}

impl Style {
    pub(super) fn json(&self, status: StatusCode, value: &Value) -> Response<Body> {
        self.bytes(status, value.to_string().into())
    }

    pub(super) fn bytes(&self, status: StatusCode, bytes: Bytes) -> Response<Body> {
        self.answer(status, Body::Whole(Some(bytes)))
    }

    pub(super) fn endless(&self) -> Response<Body> {
        self.answer(StatusCode::OK, Body::Endless)
    }

    pub(super) fn refused(&self, refused: &Refused, behaviour: &Behaviour) -> Response<Body> {
        let mut answer = self.json(refused.status, &refused.to_json());
        if let Some(wait) = behaviour.retry_after {
            let seconds = HeaderValue::from(wait.as_secs());
            answer.headers_mut().insert(RETRY_AFTER, seconds);
        }
        if refused.status == StatusCode::UNAUTHORIZED {
            let challenge = HeaderValue::from_static("ApiKey");
            answer.headers_mut().insert("www-authenticate", challenge);
        }
        answer
    }

    fn answer(&self, status: StatusCode, body: Body) -> Response<Body> {
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        if self.product == Product::Elasticsearch {
            // The official clients refuse to talk to anything without it.
            let product = HeaderValue::from_static("Elasticsearch");
            headers.insert("x-elastic-product", product);
        }
        answer
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let bytes = match self.get_mut() {
            Self::Whole(bytes) => bytes.take(),
            Self::Endless => Some(Bytes::from(ENDLESS_CHUNK.repeat(256))),
        };
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> http_body::SizeHint {
        match self {
            Self::Whole(bytes) => http_body::SizeHint::with_exact(
                bytes.as_ref().map_or(0, |bytes| bytes.len() as u64),
            ),
            Self::Endless => http_body::SizeHint::default(),
        }
    }
}
