//! What the outcome of a request says about the upstream: food for breakers, retries and adaptive limits.

use std::time::{Duration, SystemTime};

use http::{HeaderMap, Method, Response, StatusCode, header};

use crate::on_reject::Caller;
use crate::rejection::Rejection;
use crate::retry_after::RetryAfter;

/// What an outcome says about the upstream's health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The upstream did its work. A client's mistake (4xx) is one as well.
    Success,
    /// The upstream failed.
    Failure,
    /// The upstream is healthy and asks for less, for this long if it said so.
    Throttled(Option<Duration>),
    /// Says nothing about the upstream: our own refusal, or the client left.
    Ignored,
}

/// Judges responses, at their head or, where the head does not tell, at the end of the stream.
pub trait Classify {
    /// The verdict at the head of the answer to `caller`; `None` if only the end of the stream can tell.
    fn head<B>(&self, caller: Caller, response: &Response<B>) -> Option<Outcome>;

    /// The verdict at the end of a stream that ended cleanly, with its trailers if there were any.
    fn end(&self, trailers: Option<&HeaderMap>) -> Outcome;
}

/// Judges by the HTTP status: 5xx is a failure, 429 is throttling, all else is success.
///
/// 501 and 505 are the client's choice of method and version, and count as success. A refusal of our own, told by
/// the [`Rejection`] in the extensions, is ignored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HttpClassifier;

impl Classify for HttpClassifier {
    fn head<B>(&self, _: Caller, response: &Response<B>) -> Option<Outcome> {
        if response.extensions().get::<Rejection>().is_some() {
            return Some(Outcome::Ignored);
        }
        Some(match response.status() {
            StatusCode::TOO_MANY_REQUESTS => Outcome::Throttled(pushback(response.headers())),
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
                Outcome::Success
            }
            status if status.is_server_error() => Outcome::Failure,
            _ => Outcome::Success,
        })
    }

    fn end(&self, _: Option<&HeaderMap>) -> Outcome {
        Outcome::Success
    }
}

/// Judges by `grpc-status`, in the head of a trailers-only answer or in the trailers.
///
/// Failures are UNKNOWN (2), DEADLINE_EXCEEDED (4), INTERNAL (13), UNAVAILABLE (14) and DATA_LOSS (15); RESOURCE_EXHAUSTED
/// (8) is throttling; CANCELLED (1) is ignored; a stream that ends without a status, or with a number that gRPC does not
/// know, has failed: clients take it for UNKNOWN.
///
/// UNKNOWN is what servers answer for an error that nobody gave a status, and is HTTP's 500; DEADLINE_EXCEEDED is what one
/// answers that is too slow, and is 504. A client may send a `grpc-timeout` that nobody can keep: see [`is_out_of_time`].
///
/// An answer with another HTTP status than 200 is judged as [`HttpClassifier`] does, unless it is gRPC by its `Content-Type` and
/// has a `grpc-status` in its head: the HTTP status is for answers without one. A 200 whose content is not gRPC, such as a proxy's
/// error page, has no status in its head or trailers; so it is a failure, which only the end of its stream tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GrpcClassifier;

impl Classify for GrpcClassifier {
    fn head<B>(&self, caller: Caller, response: &Response<B>) -> Option<Outcome> {
        if response.extensions().get::<Rejection>().is_some() {
            return Some(Outcome::Ignored);
        }
        if has_grpc_status(response) {
            return Some(grpc_outcome(response.headers()));
        }
        match response.status() {
            StatusCode::OK => None,
            _ => HttpClassifier.head(caller, response),
        }
    }

    fn end(&self, trailers: Option<&HeaderMap>) -> Outcome {
        trailers.map_or(Outcome::Failure, grpc_outcome)
    }
}

/// Judges answers to gRPC callers that are gRPC by their `Content-Type` as [`GrpcClassifier`] does, and all others as
/// [`HttpClassifier`]: for upstreams that speak both.
///
/// The `Content-Type` alone does not tell: an upstream may serve what its users have stored under a type of their choice, which has no
/// status of gRPC. A 200 that is not gRPC to a call that was is a success here. Where all calls are gRPC, the other one sees it fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContentClassifier;

impl Classify for ContentClassifier {
    #[inline]
    fn head<B>(&self, caller: Caller, response: &Response<B>) -> Option<Outcome> {
        match caller == Caller::Grpc && is_grpc(response.headers()) {
            true => GrpcClassifier.head(caller, response),
            false => HttpClassifier.head(caller, response),
        }
    }

    fn end(&self, trailers: Option<&HeaderMap>) -> Outcome {
        // Only gRPC leaves the verdict to the end.
        GrpcClassifier.end(trailers)
    }
}

/// Whether `Content-Type` is `application/grpc`, with or without a message format; not `application/grpc-web`, which
/// browsers read as HTTP.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else {
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

/// Whether a request is a gRPC call, by its method and its `Content-Type`.
///
/// By the method as well, since all calls are `POST`: the answer to a call is a 200 whatever comes of it, and to `CONNECT`, say, that
/// would mean that the tunnel stands.
#[inline]
pub fn is_grpc_call(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::POST && is_grpc(headers)
}

/// Whether the head of an upstream's answer says that the time was over: 504, or gRPC's DEADLINE_EXCEEDED.
///
/// It is a failure, as the classifiers have it, but where it is the client that gave the time
/// ([`Deadline::is_by_client`](crate::context::Deadline::is_by_client)): nobody here can tell then whether the upstream was slow
/// or the time too little, so it is nobody's failure. Of a refusal of our own its [`Rejection`] tells.
pub fn is_out_of_time<B>(response: &Response<B>) -> bool {
    if response.extensions().get::<Rejection>().is_some() {
        return false;
    }
    if has_grpc_status(response) {
        return ends_out_of_time(response.headers());
    }
    response.status() == StatusCode::GATEWAY_TIMEOUT
}

/// Whether trailers say what [`is_out_of_time`] asks of a head.
pub fn ends_out_of_time(trailers: &HeaderMap) -> bool {
    grpc_status(trailers) == Some(4)
}

const GRPC_STATUS: &str = "grpc-status";

/// Whether the head of an answer to a gRPC call has the `grpc-status` of the call, which counts then in place of the HTTP status. Beside
/// another HTTP status than 200 the field may be anybody's, unless the content is gRPC.
pub fn has_grpc_status<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    headers.contains_key(GRPC_STATUS) && (response.status() == StatusCode::OK || is_grpc(headers))
}

fn grpc_status(fields: &HeaderMap) -> Option<u8> {
    fields.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

fn grpc_outcome(fields: &HeaderMap) -> Outcome {
    match grpc_status(fields) {
        Some(0 | 3 | 5..=7 | 9..=12 | 16) => Outcome::Success,
        Some(1) => Outcome::Ignored,
        Some(8) => Outcome::Throttled(grpc_pushback(fields)),
        // And what is no status, which clients take for UNKNOWN.
        Some(_) | None => Outcome::Failure,
    }
}

fn grpc_pushback(fields: &HeaderMap) -> Option<Duration> {
    let millis = fields
        .get("grpc-retry-pushback-ms")?
        .to_str()
        .ok()?
        .parse()
        .ok()?;
    Some(Duration::from_millis(millis))
}

fn pushback(headers: &HeaderMap) -> Option<Duration> {
    RetryAfter::parse(headers.get(header::RETRY_AFTER)?, SystemTime::now())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rejection::{Code, GrpcStatus};

    fn response(status: u16, fields: &[(&'static str, &'static str)]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response.headers_mut().extend(trailers(fields));
        response
    }

    fn trailers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    #[test]
    fn http_statuses() {
        let judge = |status| {
            HttpClassifier
                .head(Caller::Http, &response(status, &[]))
                .unwrap()
        };
        for status in [200, 204, 301, 400, 404, 499, 501, 505] {
            assert_eq!(judge(status), Outcome::Success, "{status}");
        }
        for status in [500, 502, 503, 504, 599] {
            assert_eq!(judge(status), Outcome::Failure, "{status}");
        }
        let throttled = response(429, &[("retry-after", "7")]);
        let wait = Some(Duration::from_secs(7));
        assert_eq!(
            HttpClassifier.head(Caller::Http, &throttled),
            Some(Outcome::Throttled(wait))
        );
    }

    #[test]
    fn our_own_refusals_say_nothing_about_the_upstream() {
        const CODE: Code = Code::new(
            "X",
            StatusCode::SERVICE_UNAVAILABLE,
            "X.",
            GrpcStatus::Unavailable,
        );
        let mut refused = response(503, &[]);
        refused.extensions_mut().insert(Rejection::new(&CODE));
        assert_eq!(
            HttpClassifier.head(Caller::Http, &refused),
            Some(Outcome::Ignored)
        );
        assert_eq!(
            GrpcClassifier.head(Caller::Grpc, &refused),
            Some(Outcome::Ignored)
        );
    }

    #[test]
    fn grpc_statuses_in_head_or_trailers() {
        assert_eq!(GrpcClassifier.head(Caller::Grpc, &response(200, &[])), None);
        assert_eq!(
            GrpcClassifier.head(Caller::Grpc, &response(503, &[])),
            Some(Outcome::Failure)
        );
        for (status, outcome) in [
            ("0", Outcome::Success),
            ("1", Outcome::Ignored),
            ("2", Outcome::Failure),
            ("3", Outcome::Success),
            ("4", Outcome::Failure),
            ("5", Outcome::Success),
            ("6", Outcome::Success),
            ("7", Outcome::Success),
            ("8", Outcome::Throttled(None)),
            ("9", Outcome::Success),
            ("10", Outcome::Success),
            ("11", Outcome::Success),
            ("12", Outcome::Success),
            ("13", Outcome::Failure),
            ("14", Outcome::Failure),
            ("15", Outcome::Failure),
            ("16", Outcome::Success),
            ("17", Outcome::Failure),
            ("99", Outcome::Failure),
            ("255", Outcome::Failure),
            ("256", Outcome::Failure),
            ("x", Outcome::Failure),
        ] {
            let fields = [("grpc-status", status)];
            assert_eq!(
                GrpcClassifier.head(Caller::Grpc, &response(200, &fields)),
                Some(outcome),
                "{status}"
            );
            assert_eq!(
                GrpcClassifier.end(Some(&trailers(&fields))),
                outcome,
                "{status}"
            );
        }
        assert_eq!(GrpcClassifier.end(None), Outcome::Failure);
    }

    #[test]
    fn a_grpc_call_is_a_post() {
        let (grpc, json) = ("application/grpc+proto", "application/json");
        for (method, content_type, call) in [
            (Method::POST, grpc, true),
            (Method::POST, json, false),
            (Method::CONNECT, grpc, false),
            (Method::GET, grpc, false),
        ] {
            let fields = trailers(&[("content-type", content_type)]);
            assert_eq!(is_grpc_call(&method, &fields), call, "{method}");
        }
    }

    #[test]
    fn the_content_says_how_to_judge() {
        let grpc = ("content-type", "application/grpc+proto");
        assert_eq!(
            ContentClassifier.head(Caller::Grpc, &response(200, &[grpc])),
            None
        );
        let failed = [grpc, ("grpc-status", "14")];
        assert_eq!(
            ContentClassifier.head(Caller::Grpc, &response(200, &failed)),
            Some(Outcome::Failure)
        );
        let status = trailers(&[("grpc-status", "14")]);
        assert_eq!(ContentClassifier.end(Some(&status)), Outcome::Failure);
        for (status, outcome) in [(200, Outcome::Success), (500, Outcome::Failure)] {
            let page = response(status, &[("content-type", "text/html")]);
            assert_eq!(ContentClassifier.head(Caller::Grpc, &page), Some(outcome));
        }
    }

    /// Story: users of a store said that what they stored was gRPC. Whoever fetched it got a 200 without trailers, which was a failed
    /// call, and five of those opened the breaker of a store that nothing was wrong with.
    #[test]
    fn a_content_type_alone_makes_no_call() {
        let stored = response(
            200,
            &[("content-type", "application/grpc"), ("grpc-status", "14")],
        );
        for (caller, outcome) in [
            (Caller::Http, Outcome::Success),
            (Caller::HttpHead, Outcome::Success),
            (Caller::Grpc, Outcome::Failure),
        ] {
            let judged = ContentClassifier.head(caller, &stored);
            assert_eq!(judged, Some(outcome), "{caller:?}");
        }
    }

    /// The HTTP status is for answers without a `grpc-status`.
    #[test]
    fn a_grpc_status_counts_beside_any_http_status() {
        let grpc = ("content-type", "application/grpc");
        for (http, status, outcome) in [
            (503, "0", Outcome::Success),
            (500, "5", Outcome::Success),
            (404, "14", Outcome::Failure),
            (429, "14", Outcome::Failure),
            (503, "8", Outcome::Throttled(None)),
        ] {
            let answer = response(http, &[grpc, ("grpc-status", status)]);
            assert_eq!(
                GrpcClassifier.head(Caller::Grpc, &answer),
                Some(outcome),
                "{http}"
            );
            assert_eq!(
                ContentClassifier.head(Caller::Grpc, &answer),
                Some(outcome),
                "{http}"
            );
        }
        let late = response(500, &[grpc, ("grpc-status", "4")]);
        assert!(is_out_of_time(&late));
        let other = response(504, &[grpc, ("grpc-status", "13")]);
        assert!(!is_out_of_time(&other));
        // Nothing but the HTTP status says what it is.
        let failed = response(503, &[grpc]);
        assert_eq!(
            GrpcClassifier.head(Caller::Grpc, &failed),
            Some(Outcome::Failure)
        );
        let missing = response(404, &[grpc]);
        assert_eq!(
            ContentClassifier.head(Caller::Grpc, &missing),
            Some(Outcome::Success)
        );
        // Content that is not gRPC has no gRPC status.
        let page = response(503, &[("content-type", "text/html"), ("grpc-status", "0")]);
        assert_eq!(
            GrpcClassifier.head(Caller::Grpc, &page),
            Some(Outcome::Failure)
        );
    }

    #[test]
    fn a_200_that_is_not_grpc_is_a_failure_at_its_end() {
        let page = response(200, &[("content-type", "text/html")]);
        assert_eq!(GrpcClassifier.head(Caller::Grpc, &page), None);
        assert_eq!(GrpcClassifier.end(None), Outcome::Failure);
        let unrelated = trailers(&[("x-checksum", "1")]);
        assert_eq!(GrpcClassifier.end(Some(&unrelated)), Outcome::Failure);
    }

    #[test]
    fn who_is_out_of_time() {
        let status = |status| [("grpc-status", status)];
        let says = |http, grpc| is_out_of_time(&response(http, &status(grpc)));
        assert!(is_out_of_time(&response(504, &[])));
        assert!(says(200, "4"));
        for (http, grpc) in [(200, "14"), (500, "4"), (503, "0")] {
            assert!(!says(http, grpc), "{http} {grpc}");
        }
        assert!(!is_out_of_time(&response(200, &[])));
        assert!(ends_out_of_time(&trailers(&status("4"))));
        assert!(!ends_out_of_time(&trailers(&status("2"))));
        // Our own limit, which says so by itself.
        const LIMIT: Code = Code::new(
            "GATEWAY_TIMEOUT",
            StatusCode::GATEWAY_TIMEOUT,
            "",
            GrpcStatus::DeadlineExceeded,
        );
        let mut own = response(504, &[]);
        own.extensions_mut().insert(Rejection::new(&LIMIT));
        assert!(!is_out_of_time(&own));
    }
}
