use gw_core::Rejection;
use gw_core::context::Deadline;
use http::{Extensions, Response, StatusCode};
use tokio::time::Instant;

use crate::lanes::{LaneId, Lanes};
use crate::limit::Outcome;

/// Since when a request runs, in a lane whose limit is found by that. Two words, since it travels with each request.
#[derive(Debug)]
pub(crate) struct Timing {
    /// In nanoseconds since the lanes were made; `NOT` if nothing is measured, or not any more.
    started: u64,
    /// When it was to have been answered; `NOT` if it had all the time in the world.
    deadline: u64,
}

const NOT: u64 = u64::MAX;

impl Timing {
    /// Nothing is measured.
    pub(crate) const NONE: Self = Self {
        started: NOT,
        deadline: NOT,
    };

    /// From now on, if the lane's limit is found by it.
    #[inline]
    pub(crate) fn begin(lanes: &Lanes, lane: LaneId, extensions: &Extensions) -> Self {
        if !lanes.is_measured(lane) {
            return Self::NONE;
        }
        let deadline = extensions.get::<Deadline>();
        Self {
            started: lanes.nanos(Instant::now()),
            deadline: deadline.map_or(NOT, |deadline| lanes.nanos(deadline.instant())),
        }
    }

    pub(crate) const fn is_running(&self) -> bool {
        self.started != NOT
    }

    /// Ends it; when it began.
    pub(crate) const fn stop(&mut self) -> Option<u64> {
        let started = std::mem::replace(&mut self.started, NOT);
        if started == NOT { None } else { Some(started) }
    }

    /// Whether there was a time by which it was to have been answered, and it is over at `now`.
    ///
    /// Whoever stops waiting for an answer drops it, be it the client or a timer outside of here. If the request's
    /// deadline has passed it was the timer.
    pub(crate) fn is_late(&self, now: impl FnOnce() -> u64) -> bool {
        self.deadline != NOT && now() >= self.deadline
    }
}

/// What an answer's head says about those who serve the lane; `None` if it says nothing.
///
/// A refusal made by a layer inside says nothing: nobody did any work for it. Neither does a failure, however fast or
/// slow, but for those that say that it took too long or is too much.
pub(crate) fn outcome<B>(response: &Response<B>) -> Option<Outcome> {
    let status = response.status();
    if response.extensions().get::<Rejection>().is_some() {
        return (status == StatusCode::GATEWAY_TIMEOUT).then_some(Outcome::Dropped);
    }
    match status {
        StatusCode::GATEWAY_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => Some(Outcome::Dropped),
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => {
            Some(Outcome::Answered)
        }
        StatusCode::TOO_MANY_REQUESTS => None,
        _ if status.is_server_error() => None,
        _ => match response.headers().get("grpc-status") {
            // Only answers without a body have it here. DEADLINE_EXCEEDED, RESOURCE_EXHAUSTED, UNAVAILABLE; OK.
            Some(status) => match status.as_bytes() {
                b"4" | b"8" | b"14" => Some(Outcome::Dropped),
                b"0" => Some(Outcome::Answered),
                _ => None,
            },
            None => Some(Outcome::Answered),
        },
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use gw_core::{Code, GrpcStatus};
    use http::HeaderValue;

    use super::*;

    fn answer(status: u16) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(status).unwrap();
        response
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
        const LIMITED: Code = Code::new(
            "RATE_LIMIT_EXCEEDED",
            StatusCode::TOO_MANY_REQUESTS,
            "",
            GrpcStatus::ResourceExhausted,
        );
        let refused = |status| {
            let mut response = answer(status);
            response.extensions_mut().insert(Rejection::new(&LIMITED));
            outcome(&response)
        };
        for status in [401, 404, 429, 503] {
            assert_eq!(refused(status), None, "{status}");
        }
        // Our own deadline.
        assert_eq!(refused(504), Some(Outcome::Dropped));
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
        assert_eq!(judge("0"), Some(Outcome::Answered));
        for status in ["4", "8", "14"] {
            assert_eq!(judge(status), Some(Outcome::Dropped), "{status}");
        }
        for status in ["1", "5", "13", "16"] {
            assert_eq!(judge(status), None, "{status}");
        }
    }
}
