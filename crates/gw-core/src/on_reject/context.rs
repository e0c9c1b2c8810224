use http::{HeaderMap, Method, Request, StatusCode, request::Parts};

use crate::classify::is_grpc_call;
use crate::context::{RequestId, TraceContext};

/// What an answer to a refused request needs to know about that request.
///
/// Captured in `call`, since the request may be gone by the time it is refused. Capturing does not allocate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RejectContext {
    /// The request's id, if a request-id stage ran.
    pub request_id: Option<RequestId>,
    /// The trace the request belongs to, if an observer ran.
    pub trace: Option<TraceContext>,
    /// What kind of answer the caller understands.
    pub caller: Caller,
    /// The status of the answer, if it is another one than that of the code: what an upstream has answered may keep its status and
    /// get a body of ours. A gRPC caller gets the code's all the same.
    pub status: Option<StatusCode>,
}

/// What kind of answer a caller understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Caller {
    /// An HTTP caller.
    #[default]
    Http,
    /// An HTTP caller that asked for the head only: the answer has the fields of the full answer and no body.
    HttpHead,
    /// A gRPC caller, which is always a `POST`: the status is in `grpc-status`.
    Grpc,
}

impl Caller {
    /// Who sends a request with such a head.
    #[inline]
    pub fn of(method: &Method, headers: &HeaderMap) -> Self {
        if is_grpc_call(method, headers) {
            Self::Grpc
        } else if method == Method::HEAD {
            Self::HttpHead
        } else {
            Self::Http
        }
    }
}

impl RejectContext {
    /// What `request` says.
    pub fn of<B>(request: &Request<B>) -> Self {
        Self::capture(request.method(), request.headers(), request.extensions())
    }

    /// What the head of a request says.
    pub fn of_parts(parts: &Parts) -> Self {
        Self::capture(&parts.method, &parts.headers, &parts.extensions)
    }

    fn capture(method: &Method, headers: &HeaderMap, extensions: &http::Extensions) -> Self {
        Self {
            request_id: extensions.get().cloned(),
            trace: extensions.get().copied(),
            caller: Caller::of(method, headers),
            status: None,
        }
    }
}
