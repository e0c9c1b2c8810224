//! The head of an answer that an upstream has given, and whether it may go on.

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use super::body::UpstreamBody;
use super::error::{Error, ErrorKind};
use super::framing::{
    announces_in_vain, has_no_body, is_plain, is_well_framed, may_go_on, states_one_length,
};
use super::hop_by_hop::Named;
use super::lease::{Lease, Stopwatch};
use super::limits::Limits;
use super::pool::Connection;
use super::upgrade::Offer;
use crate::fields::trim;

/// The last of the server errors.
const LAST_STATUS: u16 = 599;

/// The answer as it goes on, with what it holds until its body ends.
///
/// # Errors
///
/// If it is none that may go on.
pub(super) fn receive(
    response: Response<Incoming>,
    mut lease: Lease,
    limits: Limits,
    watch: Stopwatch,
    asked: Option<&HeaderValue>,
) -> Result<Response<UpstreamBody>, Error> {
    let (mut parts, incoming) = response.into_parts();
    parts.version = Version::HTTP_11;
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        parts.headers.remove(CONTENT_LENGTH);
        lease.reusable = false;
        // There is no body, and the exchange goes on.
        let mut response = Response::from_parts(parts, UpstreamBody::from(Bytes::new()));
        let offer = Offer::of(&mut response, lease, asked)?;
        // As below: what hyper noted is not for the client.
        response.extensions_mut().clear();
        response.extensions_mut().insert(offer);
        return Ok(response);
    }
    // There is no such class (RFC 9110 section 15): it would pass for a success, and tell the client what a 5xx must not.
    if parts.status.as_u16() > LAST_STATUS {
        return Err(Error::because(ErrorKind::Answer, "a status beyond 599"));
    }
    // What hyper noted about the connection and the reason phrase is not for the client.
    parts.extensions.clear();
    let ended = incoming.is_end_stream();
    let mut named = Named::NOTHING;
    if !is_plain(&parts.headers) {
        if !(ended || is_well_framed(&parts.headers)) || !states_one_length(&mut parts.headers) {
            return Err(Error::because(
                ErrorKind::Answer,
                "the answer tells its length in two ways, or has a transfer coding that nobody asked for",
            ));
        }
        // Trailers come behind chunks. Over HTTP/2 nothing is named.
        named = Named::of(&parts.headers, &[]);
        trim(&mut parts.headers);
    }
    if ended {
        doubt(&mut lease, parts.status, &parts.headers);
    }
    if has_no_body(parts.status) {
        if parts.status == StatusCode::NO_CONTENT {
            parts.headers.remove(CONTENT_LENGTH);
        }
        if !ended {
            // Only HTTP/2 has room for one. Dropping the lease ends the stream, and nothing else.
            let body = UpstreamBody::from(Bytes::new());
            return Ok(Response::from_parts(parts, body));
        }
    }
    let body = UpstreamBody::new(incoming, lease, limits, watch, named);
    Ok(Response::from_parts(parts, body))
}

/// An answer that has ended with its head may be followed by a body all the same, from an upstream that does not know that there must
/// be none, and the next request would find it as its answer: so it looks. What comes later still cannot be told from an answer, so
/// where a body is announced that must not come, there is no next request.
fn doubt(lease: &mut Lease, status: StatusCode, headers: &HeaderMap) {
    if let Connection::Http1(http1) = &mut lease.connection
        && may_go_on(headers)
    {
        http1.served = 0;
        lease.reusable &= !announces_in_vain(status, headers);
    }
}
