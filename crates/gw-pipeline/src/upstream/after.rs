use bytes::Bytes;
use gw_core::{Code, Rejection};
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE,
};
use http::{Response, StatusCode};

use super::discard::discard;
use super::hop_by_hop::strip;
use super::upgrade::Switched;
use crate::codes;
use crate::outbound::ReplaceBody;

/// What an answer must go through on its way to the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct After {
    pub(super) pass_error_bodies: bool,
}

impl After {
    /// The answer for the client.
    pub(super) fn finish<B>(self, mut response: Response<B>) -> Response<B>
    where
        B: http_body::Body<Data = Bytes> + From<Bytes> + Send + 'static,
    {
        let switched = response.extensions_mut().remove();
        strip(response.headers_mut(), NOTHING);
        if let Some(Switched(protocol)) = switched {
            let upgrade = HeaderValue::from_static("upgrade");
            response.headers_mut().insert(CONNECTION, upgrade);
            response.headers_mut().insert(UPGRADE, protocol);
        }
        // A layer on the way has refused the request: that is the gateway's own word.
        if response.extensions().get::<Rejection>().is_some() {
            return response;
        }
        if let Some(code) = own_failure(response.status())
            && !self.pass_error_bodies
            && !is_grpc(response.headers())
        {
            response.extensions_mut().insert(ReplaceBody(code));
            // Gone already here: where no answer stage puts the envelope in its place, nothing is safer than that.
            discard(std::mem::replace(response.body_mut(), Bytes::new().into()));
            // Its fields speak of the failure as well, but for one. What stages add on the way out stays.
            keep_only(response.headers_mut(), RETRY_AFTER);
        }
        response
    }
}

fn keep_only(headers: &mut HeaderMap, name: HeaderName) {
    let kept = headers.remove(&name);
    headers.clear();
    headers.extend(kept.map(|value| (name, value)));
}

const NOTHING: &[HeaderName] = &[];

/// The code that stands for what an upstream says about its own failure.
fn own_failure(status: StatusCode) -> Option<&'static Code> {
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => Some(&codes::INTERNAL),
        StatusCode::SERVICE_UNAVAILABLE => Some(&codes::UPSTREAM_UNAVAILABLE),
        StatusCode::GATEWAY_TIMEOUT => Some(&codes::GATEWAY_TIMEOUT),
        status if status.is_server_error() => Some(&codes::BAD_GATEWAY),
        _ => None,
    }
}

/// `application/grpc`, with or without a message format: the failure is told in the trailers, and the body has no text.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    let prefix = b"application/grpc";
    match value.as_bytes().split_at_checked(prefix.len()) {
        Some((start, rest)) => {
            start.eq_ignore_ascii_case(prefix)
                && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;
    use crate::upstream::UpstreamBody;

    fn finish(status: u16, content_type: &str, pass: bool) -> Option<&'static str> {
        let response = Response::builder()
            .status(status)
            .header("content-type", content_type)
            .body(UpstreamBody::from(Bytes::from_static(b"at db-7")));
        let after = After {
            pass_error_bodies: pass,
        };
        let finished = after.finish(response.unwrap());
        let replaced = finished.extensions().get::<ReplaceBody>();
        // It speaks to nobody, whatever stands in front.
        assert_eq!(finished.body().is_end_stream(), replaced.is_some());
        replaced.map(|ReplaceBody(code)| code.name())
    }

    #[test]
    fn an_upstream_does_not_speak_of_its_failures() {
        for (status, code) in [
            (500, "INTERNAL"),
            (501, "BAD_GATEWAY"),
            (502, "BAD_GATEWAY"),
            (503, "UPSTREAM_UNAVAILABLE"),
            (504, "GATEWAY_TIMEOUT"),
            (599, "BAD_GATEWAY"),
        ] {
            assert_eq!(finish(status, "text/html", false), Some(code), "{status}");
            assert_eq!(finish(status, "text/html", true), None);
            assert_eq!(finish(status, "application/grpc+proto", false), None);
        }
        for status in [200, 304, 404, 429] {
            assert_eq!(finish(status, "text/html", false), None, "{status}");
        }
    }
}
