//! Why the answers are not simply of [`Body`]s: an upstream's body would be boxed for it here, and once more by the answer
//! stage, since the lane has put its own body around it by then. That would be an allocation for every forwarded request.
//! A pair from a library does not do either: a lane's refusal makes its body from bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::{Body, BoxError};
use http_body::{Frame, SizeHint};

use crate::assembly::upstreams::UpstreamAnswer;

/// The body of an upstream's answer, as it is, or of a local one.
pub(crate) enum AnswerBody {
    Upstream(UpstreamAnswer),
    Local(Body),
}

impl From<Bytes> for AnswerBody {
    fn from(bytes: Bytes) -> Self {
        Self::Local(bytes.into())
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Upstream(body) => Pin::new(body).poll_frame(cx),
            Self::Local(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Upstream(body) => body.is_end_stream(),
            Self::Local(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Upstream(body) => body.size_hint(),
            Self::Local(body) => body.size_hint(),
        }
    }
}
