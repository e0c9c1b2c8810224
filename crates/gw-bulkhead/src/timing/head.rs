//! What the head of an answer says about those who serve a lane.

use gw_core::Rejection;
use gw_core::classify::{self, Classify as _, GrpcClassifier, HttpClassifier, has_grpc_status};
use gw_core::on_reject::Caller;
use http::{HeaderValue, Response, StatusCode};

use crate::limit::Outcome;

/// What a head says, whoever gave the time.
///
/// An answer is what breakers take for a success: a client's mistake was worked on as well. A refusal made by a layer inside says
/// nothing: nobody did any work for it. Neither does a failure, however fast or slow, but for those that say that it took too long
/// or is too much. Fields of gRPC say something to its callers alone: in what others get they may be what somebody has stored.
pub(super) fn outcome<B>(caller: Caller, response: &Response<B>) -> Option<Outcome> {
    if let Some(late) = is_our_timer(response) {
        return late.then_some(Outcome::Dropped);
    }
    if is_too_much(caller, response) {
        return Some(Outcome::Dropped);
    }
    let said = match caller {
        Caller::Grpc => GrpcClassifier.head(caller, response),
        _ => HttpClassifier.head(caller, response),
    };
    match said {
        // None: only the end of a call tells how it went, and its head has come.
        Some(classify::Outcome::Success) | None => Some(Outcome::Answered),
        Some(_) => None,
    }
}

fn is_too_much<B>(caller: Caller, response: &Response<B>) -> bool {
    if caller == Caller::Grpc && has_grpc_status(response) {
        let status = response.headers().get("grpc-status");
        let status = status.map(HeaderValue::as_bytes);
        // DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE.
        return matches!(status, Some(b"4" | b"8" | b"14"));
    }
    matches!(
        response.status(),
        StatusCode::GATEWAY_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE
    )
}

/// Whether it says that the time was over, a timer of ours or somebody else's.
pub(super) fn is_out_of_time<B>(caller: Caller, response: &Response<B>) -> bool {
    is_our_timer(response).unwrap_or_else(|| match caller {
        Caller::Grpc => classify::is_out_of_time(response),
        _ => response.status() == StatusCode::GATEWAY_TIMEOUT,
    })
}

/// Of a refusal by a layer inside, whether it is for want of time.
fn is_our_timer<B>(response: &Response<B>) -> Option<bool> {
    response.extensions().get().map(is_timeout)
}

/// By its code: to a gRPC caller the HTTP status of a refusal is 200.
pub(super) fn is_timeout(refused: &Rejection) -> bool {
    refused.code().status() == StatusCode::GATEWAY_TIMEOUT
}

#[cfg(test)]
#[cfg(not(loom))]
pub(super) mod tests {
    use super::*;
    use gw_core::{Code, GrpcStatus};

    const AUTH: Code = code(401, GrpcStatus::Unauthenticated);
    const NO_ROUTE: Code = code(404, GrpcStatus::Unimplemented);
    const LIMITED: Code = code(429, GrpcStatus::ResourceExhausted);
    const OVERLOADED: Code = code(503, GrpcStatus::ResourceExhausted);
    pub(in crate::timing) const LATE: Code = code(504, GrpcStatus::DeadlineExceeded);

    const fn code(status: u16, grpc: GrpcStatus) -> Code {
        match StatusCode::from_u16(status) {
            Ok(status) => Code::new("", status, "", grpc),
            Err(_) => panic!("a status"),
        }
    }

    /// The same refusal as it is told to a caller by HTTP, and to one by gRPC.
    pub(in crate::timing) fn refused(code: &'static Code) -> [Response<()>; 2] {
        [code.status().as_u16(), 200].map(|status| {
            let mut response = answer(status);
            response.extensions_mut().insert(Rejection::new(code));
            if status == 200 {
                let grpc = HeaderValue::from(code.grpc() as u16);
                response.headers_mut().insert("grpc-status", grpc);
            }
            response
        })
    }

    pub(in crate::timing) fn answer(status: u16) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
    }

    fn outcome(response: &Response<()>) -> Option<Outcome> {
        super::outcome(Caller::Grpc, response)
    }

    #[test]
    fn what_heads_say() {
        for status in [101, 200, 204, 302, 400, 404, 501] {
            assert_eq!(
                outcome(&answer(status)),
                Some(Outcome::Answered),
                "{status}"
            );
        }
        for status in [503, 504] {
            assert_eq!(outcome(&answer(status)), Some(Outcome::Dropped), "{status}");
        }
        for status in [429, 500, 502] {
            assert_eq!(outcome(&answer(status)), None, "{status}");
        }
    }

    #[test]
    fn what_layers_inside_refuse_is_no_answer() {
        for code in [&AUTH, &NO_ROUTE, &LIMITED, &OVERLOADED] {
            for refused in refused(code) {
                assert_eq!(outcome(&refused), None, "{refused:?}");
            }
        }
        // Story: our own timers were not heard of where the caller speaks gRPC, whose refusals have the status 200.
        for refused in refused(&LATE) {
            assert_eq!(outcome(&refused), Some(Outcome::Dropped), "{refused:?}");
        }
    }

    /// Story: content that was stored with a field `grpc-status: 14` and was fetched by `GET` was a drop.
    #[test]
    fn fields_of_grpc_say_nothing_to_others() {
        for (http, status, expected) in [
            (200, "14", Some(Outcome::Answered)),
            (200, "13", Some(Outcome::Answered)),
            (200, "4", Some(Outcome::Answered)),
            (503, "0", Some(Outcome::Dropped)),
            (504, "0", Some(Outcome::Dropped)),
            (500, "0", None),
        ] {
            let mut response = answer(http);
            for (name, value) in [
                ("content-type", "application/grpc"),
                ("grpc-status", status),
            ] {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(name, value);
            }
            let said = super::outcome(Caller::Http, &response);
            assert_eq!(said, expected, "{http} {status}");
            assert_eq!(is_out_of_time(Caller::Http, &response), http == 504);
            assert_eq!(is_out_of_time(Caller::Grpc, &response), status == "4");
        }
        for refused in refused(&LATE) {
            let said = super::outcome(Caller::Http, &refused);
            assert_eq!(said, Some(Outcome::Dropped));
            assert!(is_out_of_time(Caller::Http, &refused));
        }
    }

    #[test]
    fn grpc() {
        let judge = |status| {
            let mut response = answer(200);
            response
                .headers_mut()
                .insert("grpc-status", HeaderValue::from_static(status));
            outcome(&response)
        };
        // Story: only OK was a sample, where 404 is one: a lane with mostly such answers never found its limit.
        for status in ["0", "3", "5", "6", "7", "9", "10", "11", "12", "16"] {
            assert_eq!(judge(status), Some(Outcome::Answered), "{status}");
        }
        for status in ["4", "8", "14"] {
            assert_eq!(judge(status), Some(Outcome::Dropped), "{status}");
        }
        for status in ["1", "2", "13", "15", "17", "none"] {
            assert_eq!(judge(status), None, "{status}");
        }
    }

    /// Story: the HTTP status beside a `grpc-status` said something else than that, and was believed.
    #[test]
    fn a_grpc_status_counts_beside_any_http_status() {
        let judge = |http, content: &'static str, status| {
            let mut response = answer(http);
            let fields = [("content-type", content), ("grpc-status", status)];
            for (name, value) in fields {
                response
                    .headers_mut()
                    .insert(name, HeaderValue::from_static(value));
            }
            outcome(&response)
        };
        for (http, status, expected) in [
            (503, "0", Some(Outcome::Answered)),
            (504, "13", None),
            (500, "14", Some(Outcome::Dropped)),
            (429, "4", Some(Outcome::Dropped)),
        ] {
            assert_eq!(judge(http, "application/grpc", status), expected, "{http}");
        }
        // Content that is not gRPC has none.
        assert_eq!(judge(503, "text/html", "0"), Some(Outcome::Dropped));
        assert_eq!(judge(404, "text/html", "14"), Some(Outcome::Answered));
    }
}
