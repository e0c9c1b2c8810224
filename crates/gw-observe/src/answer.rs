//! What an answer says of how its request went.

use gw_core::Rejection;
use gw_core::classify::{Classify as _, GrpcClassifier, Outcome, has_grpc_status, is_grpc};
use gw_core::on_reject::Caller;
use http::{HeaderMap, Response, StatusCode};

use crate::vocabulary::Class;

/// What an answer says of how its request went, as far as it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// The class of a request that went wrong, if it did.
    Class(Option<Class>),
    /// Nothing yet: it is gRPC, and its trailers tell.
    Open,
}

impl Said {
    /// An answer to `caller`. Only who makes a gRPC call gets an answer to one, whatever content is served.
    pub(crate) fn by_head<B>(caller: Caller, response: &Response<B>) -> Self {
        let headers = response.headers();
        // To a gRPC caller the HTTP status of a refusal is 200.
        if let Some(refused) = response.extensions().get::<Rejection>() {
            return Self::Class(by_status(refused.code().status()));
        }
        if caller != Caller::Grpc || !is_grpc(headers) {
            Self::Class(by_status(response.status()))
        } else if has_grpc_status(response) {
            Self::Class(by_grpc_status(headers))
        } else if response.status() == StatusCode::OK {
            Self::Open
        } else {
            Self::Class(by_status(response.status()))
        }
    }

    pub(crate) fn by_trailers(self, trailers: &HeaderMap) -> Self {
        match self {
            Self::Open => Self::Class(by_grpc_status(trailers)),
            Self::Class(_) => self,
        }
    }
}

const GRPC_STATUS: &str = "grpc-status";

fn by_status(status: StatusCode) -> Option<Class> {
    if status.is_server_error() {
        Some(Class::Error)
    } else {
        status.is_client_error().then_some(Class::ClientError)
    }
}

/// As breakers see it, where it is the server's fault. All else but OK is the client's, as a 4xx is.
fn by_grpc_status(fields: &HeaderMap) -> Option<Class> {
    match GrpcClassifier.end(Some(fields)) {
        Outcome::Failure => Some(Class::Error),
        Outcome::Success if fields.get(GRPC_STATUS).is_some_and(|it| it == "0") => None,
        Outcome::Success | Outcome::Throttled(_) | Outcome::Ignored => Some(Class::ClientError),
    }
}
