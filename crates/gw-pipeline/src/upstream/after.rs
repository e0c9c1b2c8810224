use bytes::Bytes;
use gw_core::classify::is_grpc;
use gw_core::on_reject::Caller;
use gw_core::{Code, Rejection};
use http::header::{CONNECTION, HeaderName, HeaderValue, RETRY_AFTER, UPGRADE};
use http::{Response, StatusCode};

use super::discard::discard;
use super::error::Error;
use super::hop_by_hop::strip;
use super::upgrade::{Allowed, Wanted, switch};
use crate::codes;
use crate::fields::remove_where;
use crate::outbound::ReplaceBody;

/// What an answer must go through on its way to the client.
#[derive(Debug)]
pub(super) struct After {
    pub(super) pass_error_bodies: bool,
    pub(super) caller: Caller,
    /// The client's side of a switch that it has asked for.
    pub(super) wanted: Option<Box<Wanted>>,
    /// What it may be asked to switch to.
    pub(super) allowed: Allowed,
}

impl After {
    /// What is left has no client to switch with.
    pub(super) const fn take(&mut self) -> Self {
        Self {
            pass_error_bodies: self.pass_error_bodies,
            caller: self.caller,
            wanted: self.wanted.take(),
            allowed: std::mem::replace(&mut self.allowed, Allowed::None),
        }
    }

    /// The answer for the client. To be called once.
    ///
    /// # Errors
    ///
    /// It switches protocols, and cannot.
    pub(super) fn finish<B>(&mut self, mut response: Response<B>) -> Result<Response<B>, Error>
    where
        B: http_body::Body<Data = Bytes> + From<Bytes> + Send + 'static,
    {
        let wanted = self.wanted.take();
        let protocols = match response.status() {
            StatusCode::SWITCHING_PROTOCOLS => {
                Some(switch(wanted, response.extensions_mut().remove())?)
            }
            StatusCode::UPGRADE_REQUIRED => self.allowed.required(response.headers()),
            _ => None,
        };
        strip(response.headers_mut(), NOTHING);
        if let Some(protocols) = protocols {
            let upgrade = HeaderValue::from_static("upgrade");
            response.headers_mut().insert(CONNECTION, upgrade);
            response.headers_mut().insert(UPGRADE, protocols);
        }
        // A layer on the way has refused the request: that is the gateway's own word.
        if response.extensions().get::<Rejection>().is_some() {
            return Ok(response);
        }
        if let Some(code) = own_failure(response.status())
            && !self.pass_error_bodies
            && !(self.caller == Caller::Grpc && is_grpc(response.headers()))
        {
            response.extensions_mut().insert(ReplaceBody(code));
            // Gone already here: where no answer stage puts the envelope in its place, nothing is safer than that.
            discard(std::mem::replace(response.body_mut(), Bytes::new().into()));
            // Its fields speak of the failure as well, but for those that say when to come back. What stages add on the way out stays.
            // All lines of them: who reads them must see that there are two.
            remove_where(response.headers_mut(), |name| !SAYS_WHEN.contains(name));
        }
        Ok(response)
    }
}

/// By which a layer that has tried again asks those further out not to do the same (gw-retry).
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-gw-should-retry");

/// What stays of the fields of a failure.
static SAYS_WHEN: [HeaderName; 2] = [RETRY_AFTER, SHOULD_RETRY];

const NOTHING: &[HeaderName] = &[];

/// The code that stands for what an upstream says about its own failure.
fn own_failure(status: StatusCode) -> Option<&'static Code> {
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => Some(&codes::INTERNAL),
        StatusCode::SERVICE_UNAVAILABLE => Some(&codes::UPSTREAM_UNAVAILABLE),
        StatusCode::GATEWAY_TIMEOUT => Some(&codes::GATEWAY_TIMEOUT),
        // What a gateway further on says when the request comes around: the client must not take it for a broken upstream.
        StatusCode::LOOP_DETECTED => Some(&codes::LOOP_DETECTED),
        status if status.is_server_error() => Some(&codes::BAD_GATEWAY),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;
    use crate::upstream::{ErrorKind, UpstreamBody};

    fn finish(status: u16, content_type: &str, pass: bool) -> Option<&'static str> {
        finish_for(Caller::Http, status, content_type, pass)
    }

    fn finish_for(
        caller: Caller,
        status: u16,
        content_type: &str,
        pass: bool,
    ) -> Option<&'static str> {
        let response = Response::builder()
            .status(status)
            .header("content-type", content_type)
            .body(UpstreamBody::from(Bytes::from_static(b"at db-7")));
        let mut after = After {
            pass_error_bodies: pass,
            caller,
            wanted: None,
            allowed: Allowed::WebSocket,
        };
        let finished = after.finish(response.unwrap()).unwrap();
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
            (508, "LOOP_DETECTED"),
            (599, "BAD_GATEWAY"),
        ] {
            assert_eq!(finish(status, "text/html", false), Some(code), "{status}");
            assert_eq!(finish(status, "text/html", true), None);
            let grpc = "application/grpc+proto";
            assert_eq!(finish_for(Caller::Grpc, status, grpc, false), None);
            // What nobody has called for is none.
            assert_eq!(finish(status, grpc, false), Some(code), "{status}");
        }
        for status in [200, 304, 404, 429] {
            assert_eq!(finish(status, "text/html", false), None, "{status}");
        }
    }

    #[test]
    fn an_answer_that_a_layer_makes_up_cannot_switch() {
        let mut response = Response::new(UpstreamBody::from(Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let mut after = After {
            pass_error_bodies: false,
            caller: Caller::Http,
            wanted: None,
            allowed: Allowed::WebSocket,
        };
        let kind = after.finish(response).unwrap_err().kind();
        assert_eq!(kind, ErrorKind::UnrequestedUpgrade);
    }
}
