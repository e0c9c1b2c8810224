use bytes::Bytes;
use gw_core::BoxError;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};

use crate::body::ScriptedBody;

/// A body type that layers must work over.
pub trait AnyBody: 'static {
    /// The type.
    type Body: http_body::Body<Data = Bytes, Error: std::fmt::Debug + Into<BoxError> + Send + Sync>
        + Send
        + Unpin
        + 'static;

    /// Whether [`streaming`](AnyBody::streaming) keeps the script: a body of bytes at hand cannot wait or fail.
    const STREAMS: bool;

    /// A body that does what the script says.
    fn streaming(body: ScriptedBody) -> Self::Body;

    /// A body of these bytes.
    fn whole(bytes: Bytes) -> Self::Body;
}

/// axum's body.
#[derive(Debug)]
pub struct AxumBody;

/// The body of gw-core.
#[derive(Debug)]
pub struct GwBody;

/// `http_body_util::Full`.
#[derive(Debug)]
pub struct FullBody;

/// A boxed body, which is not `From<Bytes>`.
#[derive(Debug)]
pub struct BoxedBody;

/// tonic's body, which is not `From<Bytes>`.
#[derive(Debug)]
pub struct TonicBody;

impl AnyBody for AxumBody {
    type Body = axum::body::Body;
    const STREAMS: bool = true;

    fn streaming(body: ScriptedBody) -> Self::Body {
        axum::body::Body::new(body)
    }

    fn whole(bytes: Bytes) -> Self::Body {
        bytes.into()
    }
}

impl AnyBody for GwBody {
    type Body = gw_core::Body;
    const STREAMS: bool = true;

    fn streaming(body: ScriptedBody) -> Self::Body {
        gw_core::Body::new(body)
    }

    fn whole(bytes: Bytes) -> Self::Body {
        bytes.into()
    }
}

impl AnyBody for FullBody {
    type Body = Full<Bytes>;
    const STREAMS: bool = false;

    fn streaming(_: ScriptedBody) -> Self::Body {
        Full::new(Bytes::from_static(b"data"))
    }

    fn whole(bytes: Bytes) -> Self::Body {
        Full::new(bytes)
    }
}

impl AnyBody for BoxedBody {
    type Body = UnsyncBoxBody<Bytes, BoxError>;
    const STREAMS: bool = true;

    fn streaming(body: ScriptedBody) -> Self::Body {
        body.map_err(Into::into).boxed_unsync()
    }

    fn whole(bytes: Bytes) -> Self::Body {
        Full::new(bytes)
            .map_err(|never| match never {})
            .boxed_unsync()
    }
}

impl AnyBody for TonicBody {
    type Body = tonic::body::Body;
    const STREAMS: bool = true;

    fn streaming(body: ScriptedBody) -> Self::Body {
        tonic::body::Body::new(body)
    }

    fn whole(bytes: Bytes) -> Self::Body {
        tonic::body::Body::new(Full::new(bytes))
    }
}
