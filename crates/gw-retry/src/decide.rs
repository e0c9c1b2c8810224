//! What an attempt's outcome says: pure decisions on heads.

use std::time::{Duration, SystemTime};

use gw_core::attempt::{AttemptError, Failure};
use gw_core::classify::has_grpc_status;
use gw_core::{Rejection, RetryAfter};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};

use crate::policy::RetryPolicy;

/// After which failures a request may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eligibility {
    /// None.
    Never,
    /// Those that prove that nobody has done anything with it.
    Untouched,
    /// All that are worth another try.
    Always,
}

/// Why a request is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The upstream could not be reached.
    NotSent,
    /// The upstream said that it did nothing with it.
    Unprocessed,
    /// What became of it is not known: the connection broke before the head, or a timer expired.
    Unknown,
    /// The answer's status: 502, 503 and 504 unless set.
    Status,
    /// gRPC's UNAVAILABLE.
    Grpc,
    /// 429 or RESOURCE_EXHAUSTED, with the time to come back.
    Throttled,
}

impl Reason {
    /// All of them.
    pub const ALL: &'static [Self] = &[
        Self::NotSent,
        Self::Unprocessed,
        Self::Unknown,
        Self::Status,
        Self::Grpc,
        Self::Throttled,
    ];

    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::Unprocessed => "unprocessed",
            Self::Unknown => "unknown",
            Self::Status => "status",
            Self::Grpc => "grpc",
            Self::Throttled => "throttled",
        }
    }
}

/// What to do after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the answer.
    Answer,
    /// It failed in a way that is not to be tried again, see there.
    Final(Not),
    /// It is worth another try, not before so long.
    Again(Reason, Duration),
}

/// Why a failure is not worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Not {
    /// It is our own.
    Local,
    /// The request may have had an effect, and doing it twice is not doing it once.
    Unsafe,
    /// The upstream asks not to, or for a longer wait than is allowed.
    Pushback,
}

impl Verdict {
    #[inline]
    pub(crate) fn of_response<B>(
        response: &Response<B>,
        policy: &RetryPolicy,
        (eligibility, grpc): (Eligibility, bool),
        no_retry: &HeaderName,
    ) -> Self {
        if Self::is_success(response, grpc) {
            return Self::Answer;
        }
        Self::of_unusual(response, policy, (eligibility, grpc), no_retry)
    }

    /// Nearly all answers: nothing else is looked at. A field of an answer that is not gRPC says nothing.
    #[inline]
    pub(crate) fn is_success<B>(response: &Response<B>, grpc: bool) -> bool {
        response.status().is_success() && (!grpc || !response.headers().contains_key(GRPC_STATUS))
    }

    /// Whether it is the answer whatever a policy says: there is no failure in its head, and no layer further in made it.
    pub(crate) fn is_plain<B>(response: &Response<B>, grpc: bool) -> bool {
        let status = response.status();
        let failed = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let told = failed || grpc && response.headers().contains_key(GRPC_STATUS);
        !told && response.extensions().get::<Rejection>().is_none()
    }

    #[cold]
    fn of_unusual<B>(
        response: &Response<B>,
        policy: &RetryPolicy,
        (eligibility, grpc): (Eligibility, bool),
        no_retry: &HeaderName,
    ) -> Self {
        let (status, headers) = (response.status(), response.headers());
        let given_up = headers.get(no_retry).is_some_and(|value| value == NO);
        if let Some(rejection) = response.extensions().get::<Rejection>() {
            return Self::of_failure(rejection.failure(), given_up, eligibility);
        }
        let grpc = headers
            .get(GRPC_STATUS)
            .filter(|_| grpc && has_grpc_status(response));
        let (reason, asked) = match (status, grpc.map(HeaderValue::as_bytes)) {
            (_, Some(b"14")) => (Reason::Grpc, Asked::by_grpc(headers)),
            (_, Some(b"8")) => (Reason::Throttled, Asked::by_grpc(headers)),
            (_, Some(_)) => return Self::Answer,
            (StatusCode::TOO_MANY_REQUESTS, None) => (Reason::Throttled, Asked::by_http(headers)),
            _ if policy.retries_status(status) => (Reason::Status, Asked::by_http(headers)),
            _ => return Self::Answer,
        };
        let wait = match (reason, asked) {
            (Reason::Throttled, _) if !policy.retries_throttled() => return Self::Answer,
            // Without a word on when, trying again is what throttles.
            (Reason::Throttled, Asked::Nothing) => return Self::Answer,
            (_, Asked::Nothing) => Duration::ZERO,
            (_, Asked::Wait(wait)) if wait <= policy.pushback_within() => wait,
            _ => return Self::Final(Not::Pushback),
        };
        if given_up {
            return Self::Final(Not::Pushback);
        }
        match eligibility {
            Eligibility::Always => Self::Again(reason, wait),
            _ => Self::Final(Not::Unsafe),
        }
    }

    pub(crate) fn of_error<E: AttemptError>(
        error: &E,
        eligibility: Eligibility,
        no_retry: &HeaderName,
    ) -> Self {
        let given_up = error.has_field(no_retry, &HeaderValue::from_static(NO));
        Self::of_failure(error.failure(), given_up, eligibility)
    }

    /// `given_up` if a layer further in, or a gateway, asks not to try again.
    const fn of_failure(failure: Failure, given_up: bool, eligibility: Eligibility) -> Self {
        let reason = match failure {
            Failure::Local | Failure::Refused => return Self::Final(Not::Local),
            Failure::NotSent => Reason::NotSent,
            Failure::Unprocessed => Reason::Unprocessed,
            Failure::Unknown => Reason::Unknown,
        };
        match eligibility {
            _ if given_up => Self::Final(Not::Pushback),
            Eligibility::Always => Self::Again(reason, Duration::ZERO),
            Eligibility::Untouched if failure.left_no_trace() => {
                Self::Again(reason, Duration::ZERO)
            }
            _ => Self::Final(Not::Unsafe),
        }
    }
}

/// How an attempt failed that brought no answer of the upstream's.
pub(crate) fn failure<B, E: AttemptError>(outcome: &Result<Response<B>, E>) -> Option<Failure> {
    match outcome {
        Ok(response) => (response.extensions().get()).map(Rejection::failure),
        Err(error) => Some(error.failure()),
    }
}

/// The value of the field that asks not to try again.
pub(crate) const NO: &str = "false";
const GRPC_STATUS: &str = "grpc-status";

/// What an upstream asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Nothing,
    Wait(Duration),
    /// Not to come back at all.
    Never,
}

impl Asked {
    /// `Retry-After`, in seconds or as a date; what cannot be read asks for nothing.
    pub(crate) fn by_http(headers: &HeaderMap) -> Self {
        let value = headers.get(header::RETRY_AFTER);
        let wait = value.and_then(|value| RetryAfter::parse(value, SystemTime::now()));
        wait.map_or(Self::Nothing, Self::Wait)
    }

    /// `grpc-retry-pushback-ms`: what is negative or cannot be read asks not to come back (gRPC proposal A6).
    pub(crate) fn by_grpc(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get("grpc-retry-pushback-ms") else {
            return Self::Nothing;
        };
        let millis = value.to_str().ok().and_then(|text| {
            let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            text.parse().ok().filter(|_| digits)
        });
        millis.map_or(Self::Never, |millis| {
            Self::Wait(Duration::from_millis(millis))
        })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use gw_core::{Code, GrpcStatus};

    use super::*;

    const FIELD: HeaderName = HeaderName::from_static("x-gw-should-retry");
    const SECOND: Duration = Duration::from_secs(1);

    fn response(status: u16, fields: &[(&'static str, &str)]) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        for (name, value) in fields {
            response.headers_mut().append(*name, value.parse().unwrap());
        }
        response
    }

    fn judge(response: &Response<()>) -> Verdict {
        Verdict::of_response(
            response,
            &RetryPolicy::default(),
            (Eligibility::Always, true),
            &FIELD,
        )
    }

    #[test]
    fn statuses() {
        for status in [
            100, 200, 204, 304, 400, 401, 404, 408, 409, 425, 500, 501, 505,
        ] {
            assert_eq!(judge(&response(status, &[])), Verdict::Answer, "{status}");
        }
        for status in [502, 503, 504] {
            let again = Verdict::Again(Reason::Status, Duration::ZERO);
            assert_eq!(judge(&response(status, &[])), again, "{status}");
        }
    }

    #[test]
    fn of_plain_answers_no_policy_says_anything_else() {
        const CODE: Code = Code::new("NO", StatusCode::NOT_FOUND, "No.", GrpcStatus::Unavailable);
        let all = (500..600).filter(|status| ![501, 505].contains(status));
        let all = all.map(|status| StatusCode::from_u16(status).unwrap());
        let policy = RetryPolicy::builder().statuses(all).build().unwrap();
        let of = |response: &Response<()>, grpc| {
            let plain = Verdict::is_plain(response, grpc);
            let request = (Eligibility::Always, grpc);
            let verdict = Verdict::of_response(response, &policy, request, &FIELD);
            assert!(!plain || verdict == Verdict::Answer, "{response:?}");
            plain
        };
        for status in 100..600 {
            let response = response(status, &[("retry-after", "1"), ("grpc-status", "14")]);
            let failed = status == 429 || status >= 500;
            assert_eq!(of(&response, false), !failed, "{status}");
            assert!(!of(&response, true), "{status}");
        }
        let mut refused = response(404, &[]);
        refused.extensions_mut().insert(Rejection::new(&CODE));
        assert!(!of(&refused, false));
    }

    #[test]
    fn throttling_only_with_a_time_to_come_back() {
        let retry_after = |status, value| judge(&response(status, &[("retry-after", value)]));
        assert_eq!(judge(&response(429, &[])), Verdict::Answer);
        let again = |reason| Verdict::Again(reason, 2 * SECOND);
        assert_eq!(retry_after(429, "2"), again(Reason::Throttled));
        assert_eq!(retry_after(503, "2"), again(Reason::Status));
        for status in [429, 503] {
            assert_eq!(retry_after(status, "6"), Verdict::Final(Not::Pushback));
        }
        assert_eq!(retry_after(429, "soon"), Verdict::Answer);
        let never = RetryPolicy::builder().throttled(false).build().unwrap();
        let throttled = response(429, &[("retry-after", "1")]);
        let verdict =
            Verdict::of_response(&throttled, &never, (Eligibility::Always, false), &FIELD);
        assert_eq!(verdict, Verdict::Answer);
    }

    #[test]
    fn grpc_heads() {
        let with = |status, pushback: Option<&str>| {
            let fields = [("grpc-status", status)];
            let pushback = pushback.map(|value| ("grpc-retry-pushback-ms", value));
            let fields: Vec<_> = fields.into_iter().chain(pushback).collect();
            judge(&response(200, &fields))
        };
        let again = |reason, millis| Verdict::Again(reason, Duration::from_millis(millis));
        for status in ["0", "1", "2", "4", "5", "13", "016"] {
            assert_eq!(with(status, None), Verdict::Answer, "{status}");
        }
        assert_eq!(with("14", None), again(Reason::Grpc, 0));
        assert_eq!(with("14", Some("70")), again(Reason::Grpc, 70));
        assert_eq!(with("8", None), Verdict::Answer);
        assert_eq!(with("8", Some("70")), again(Reason::Throttled, 70));
        for pushback in [
            "-1",
            "",
            "soon",
            "+5",
            "1.5",
            "99999999999999999999999",
            "6000",
        ] {
            for status in ["14", "8"] {
                let verdict = with(status, Some(pushback));
                assert_eq!(verdict, Verdict::Final(Not::Pushback), "{pushback}");
            }
        }
    }

    /// Story: a call that its `grpc-status` said had ended was made again for the HTTP status beside it.
    #[test]
    fn a_grpc_status_counts_beside_any_http_status() {
        let grpc = ("content-type", "application/grpc");
        let with = |http, status| judge(&response(http, &[grpc, ("grpc-status", status)]));
        for (http, status) in [(503, "0"), (503, "5"), (504, "4"), (429, "13"), (503, "8")] {
            assert_eq!(with(http, status), Verdict::Answer, "{http} {status}");
        }
        for http in [404, 429, 500, 503] {
            let again = Verdict::Again(Reason::Grpc, Duration::ZERO);
            assert_eq!(with(http, "14"), again, "{http}");
        }
        // Content that is not gRPC has none.
        let again = Verdict::Again(Reason::Status, Duration::ZERO);
        assert_eq!(judge(&response(503, &[("grpc-status", "0")])), again);
        let page = response(404, &[("grpc-status", "14")]);
        assert_eq!(judge(&page), Verdict::Answer);
    }

    #[test]
    fn a_field_of_grpcs_says_nothing_to_others() {
        let unavailable = response(200, &[("grpc-status", "14")]);
        let policy = RetryPolicy::default();
        let request = (Eligibility::Always, false);
        let verdict = Verdict::of_response(&unavailable, &policy, request, &FIELD);
        assert_eq!(verdict, Verdict::Answer);
    }

    #[test]
    fn a_field_that_says_no() {
        let with = |value| judge(&response(503, &[("x-gw-should-retry", value)]));
        assert_eq!(with("false"), Verdict::Final(Not::Pushback));
        assert_eq!(with("true"), Verdict::Again(Reason::Status, Duration::ZERO));
    }

    #[test]
    fn failures_by_what_they_left() {
        use Eligibility::{Always, Never, Untouched};
        use Failure::{Local, NotSent, Unknown, Unprocessed};
        let again = |failure, eligibility| {
            matches!(
                Verdict::of_failure(failure, false, eligibility),
                Verdict::Again(..)
            )
        };
        for eligibility in [Always, Untouched, Never] {
            assert!(!again(Local, eligibility));
        }
        for failure in [NotSent, Unprocessed] {
            assert!(again(failure, Always) && again(failure, Untouched));
            assert!(!again(failure, Never));
        }
        assert!(again(Unknown, Always) && !again(Unknown, Untouched));
    }

    #[test]
    fn a_status_is_not_proof_that_nothing_happened() {
        let policy = RetryPolicy::default();
        for status in [502, 503, 504] {
            let verdict = Verdict::of_response(
                &response(status, &[]),
                &policy,
                (Eligibility::Untouched, false),
                &FIELD,
            );
            assert_eq!(verdict, Verdict::Final(Not::Unsafe));
        }
    }

    #[test]
    fn a_refusal_in_the_extensions_speaks_for_the_answer() {
        const CODE: Code = Code::new(
            "X",
            StatusCode::SERVICE_UNAVAILABLE,
            "X.",
            GrpcStatus::Unavailable,
        );
        let refused = |failure| {
            let mut response = response(503, &[]);
            let rejection = Rejection::new(&CODE).failed(failure);
            response.extensions_mut().insert(rejection);
            judge(&response)
        };
        assert_eq!(refused(Failure::Local), Verdict::Final(Not::Local));
        let again = Verdict::Again(Reason::Unknown, Duration::ZERO);
        assert_eq!(refused(Failure::Unknown), again);
    }

    #[test]
    fn a_refusal_or_an_error_that_says_no() {
        const CODE: Code = Code::new(
            "X",
            StatusCode::SERVICE_UNAVAILABLE,
            "X.",
            GrpcStatus::Unavailable,
        );
        for (failure, no) in [
            (Failure::Unknown, Not::Pushback),
            (Failure::NotSent, Not::Pushback),
            (Failure::Local, Not::Local),
        ] {
            let mut rendered = response(503, &[("x-gw-should-retry", "false")]);
            let refused = Rejection::new(&CODE).failed(failure);
            rendered.extensions_mut().insert(refused.clone());
            assert_eq!(judge(&rendered), Verdict::Final(no), "{failure:?}");
            let of = |error: &Rejection| Verdict::of_error(error, Eligibility::Always, &FIELD);
            let said = |value| {
                refused
                    .clone()
                    .field(FIELD, HeaderValue::from_static(value))
            };
            assert_eq!(of(&said("false")), Verdict::Final(no), "{failure:?}");
            assert_eq!(of(&said("true")), of(&refused));
        }
    }
}
