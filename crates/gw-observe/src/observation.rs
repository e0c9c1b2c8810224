//! What is seen of one exchange, and the verdict on it when it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gw_core::Code;
use gw_core::context::TraceContext;
use gw_core::record::{Exchange, Record};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};
use tokio::time::Instant;

use crate::error::INTERNAL;
use crate::layer::Shared;
use crate::telemetry::{RequestSpan, RouteIndex};
use crate::vocabulary::{Class, EndedBy, Phase, ResponseSource};

/// How an exchange ended, as the layer saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The answer was handed out to its end.
    Complete,
    /// The answer's body failed.
    BodyError,
    /// The service failed instead of answering.
    Failed,
    /// The future or the answer's body was dropped before its time.
    Dropped,
    /// The service or the answer's body panicked.
    Panicked,
}

/// What is said about an exchange that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) ended_by: EndedBy,
    pub(crate) phase: Phase,
    /// None if there was no answer.
    pub(crate) source: Option<ResponseSource>,
    pub(crate) code: Option<&'static Code>,
    how: How,
}

impl Verdict {
    /// `refused` is the code of an answer that is a refusal; `answered` tells whether there was an answer at all.
    fn new(how: How, answered: bool, refused: Option<&'static Code>, exchange: &Exchange) -> Self {
        let tried = exchange.attempts > 0;
        let source = answered.then_some(if refused.is_some() {
            ResponseSource::Gateway
        } else if tried {
            ResponseSource::Upstream
        } else {
            ResponseSource::Service
        });
        let mut code = refused.or(exchange.code);
        let ended_by = match how {
            How::Complete if refused.is_some() => EndedBy::Gateway,
            How::Complete => EndedBy::Completed,
            // Whoever cut the answer on purpose has noted why.
            How::BodyError
                if exchange.code.is_none() && source == Some(ResponseSource::Upstream) =>
            {
                EndedBy::Upstream
            }
            How::BodyError | How::Failed => EndedBy::Gateway,
            How::Panicked => {
                code = code.or(Some(&INTERNAL));
                EndedBy::Gateway
            }
            How::Dropped => EndedBy::Client,
        };
        let before_the_head = if tried {
            Phase::Upstream
        } else {
            Phase::Request
        };
        let phase = match how {
            How::Complete if refused.is_some() => before_the_head,
            How::Complete => Phase::Done,
            _ if answered => Phase::Response,
            _ => before_the_head,
        };
        Self {
            ended_by,
            phase,
            source,
            code,
            how,
        }
    }

    /// The class of a request that went wrong.
    pub(crate) fn failure(&self, status: Option<StatusCode>) -> Option<Class> {
        match self.how {
            How::BodyError | How::Failed | How::Panicked => return Some(Class::Error),
            How::Complete | How::Dropped => {}
        }
        match status {
            Some(status) if status.is_server_error() => Some(Class::Error),
            Some(status) if status.is_client_error() => Some(Class::ClientError),
            _ => (self.how == How::Dropped).then_some(Class::ClientError),
        }
    }
}

/// Where the time went. The last three add up to the first one, each in whole microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) total: Duration,
    pub(crate) upstream: Duration,
    pub(crate) gateway: Duration,
    pub(crate) client: Duration,
}

impl Times {
    /// A wait for the client within a wait for the upstream counts as the client's.
    fn new(total: Duration, upstream: Duration, client: Duration) -> Self {
        let whole = |duration: Duration| {
            Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
        };
        let total = whole(total);
        let client = whole(client).min(total);
        let upstream = whole(upstream).min(total.saturating_sub(client));
        let gateway = total.saturating_sub(client).saturating_sub(upstream);
        Self {
            total,
            upstream,
            gateway,
            client,
        }
    }
}

/// An exchange that has ended, for log and metrics.
#[derive(Debug)]
pub(crate) struct Observed<'a> {
    pub(crate) trace: TraceContext,
    pub(crate) method: &'a Method,
    pub(crate) path: &'a str,
    pub(crate) version: Version,
    pub(crate) user_agent: Option<&'a [u8]>,
    pub(crate) client: Option<IpAddr>,
    pub(crate) exchange: &'a Exchange,
    pub(crate) status: Option<StatusCode>,
    pub(crate) response_size: u64,
    pub(crate) times: Times,
    pub(crate) verdict: Verdict,
}

/// What the head of a request says. Not kept if there is no log.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) path: Option<PathAndQuery>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) peer: Option<IpAddr>,
}

/// An exchange that goes on. Dropping it ends it: there is no way to end an exchange that is not observed, and none
/// that is observed twice.
#[derive(Debug)]
pub(crate) struct Observation {
    shared: Arc<Shared>,
    record: Record,
    trace: TraceContext,
    pub(crate) span: RequestSpan,
    method: Method,
    version: Version,
    asked: Option<Asked>,
    start: Instant,
    active: Option<RouteIndex>,
    status: Option<StatusCode>,
    refused: Option<&'static Code>,
    /// The size that the answer says it has.
    announced: Option<u64>,
    /// The answer has no body whatever the service gave it, and the server does not read one.
    is_bodiless: bool,
    response_size: u64,
    client_wait: Duration,
    /// Since when the next piece of the answer has not been asked for.
    handed_out: Option<Instant>,
    /// The code of others runs. If it panics this stays, whoever catches the panic.
    pub(crate) running: bool,
    how: Option<How>,
}

impl Observation {
    pub(crate) fn new(
        shared: Arc<Shared>,
        record: Record,
        trace: TraceContext,
        method: Method,
        version: Version,
        asked: Option<Asked>,
    ) -> Self {
        Self {
            shared,
            record,
            trace,
            span: RequestSpan::new(&trace),
            method,
            version,
            asked,
            start: Instant::now(),
            active: None,
            status: None,
            refused: None,
            announced: None,
            is_bodiless: false,
            response_size: 0,
            client_wait: Duration::ZERO,
            handed_out: None,
            running: false,
            how: None,
        }
    }

    /// The inner service has been called: by now it has resolved the route, if it does so at once.
    pub(crate) fn called(&mut self) {
        let mut index = None;
        self.record.update(|exchange| {
            index = Some(self.shared.metrics.enter(exchange.route.as_ref()));
        });
        self.active = index;
    }

    /// The head of the answer is there.
    pub(crate) fn head(
        &mut self,
        status: StatusCode,
        refused: Option<&'static Code>,
        announced: Option<u64>,
    ) {
        self.status = Some(status);
        self.refused = refused;
        self.announced = announced;
        self.is_bodiless = self.method == Method::HEAD
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || (self.method == Method::CONNECT && status.is_success());
    }

    /// The next piece of the answer is asked for.
    pub(crate) fn resume(&mut self) {
        if let Some(since) = self.handed_out.take() {
            self.client_wait += since.elapsed();
        }
    }

    /// A piece of the answer has been handed out.
    pub(crate) fn pause(&mut self) {
        self.handed_out = Some(Instant::now());
    }

    /// So many bytes of the answer are handed out.
    pub(crate) fn sent(&mut self, bytes: usize) {
        self.response_size += u64::try_from(bytes).unwrap_or(u64::MAX);
    }

    /// The exchange has ended.
    pub(crate) fn finish(mut self, how: How) {
        self.how = Some(how);
    }

    fn how(&self) -> How {
        // A server stops asking when all bytes are there that were announced, and never asks where no body may be.
        let all_sent = self
            .announced
            .is_some_and(|size| self.response_size >= size);
        match self.how {
            Some(how) => how,
            None if self.running => How::Panicked,
            None if self.is_bodiless || all_sent => How::Complete,
            None => How::Dropped,
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        let end = Instant::now();
        let how = self.how();
        let mut exchange = Exchange::default();
        // Whoever still holds the record has nothing to add that anybody would read.
        self.record
            .update(|filled| exchange = std::mem::take(filled));
        if let Some(since) = self.handed_out {
            self.client_wait += end.saturating_duration_since(since);
        }
        let times = Times::new(
            end.saturating_duration_since(self.start),
            exchange.upstream_time.unwrap_or_default(),
            self.client_wait.saturating_add(exchange.upload_wait),
        );
        let asked = self.asked.as_ref();
        let observed = Observed {
            trace: self.trace,
            method: &self.method,
            path: asked
                .and_then(|asked| asked.path.as_ref())
                .map_or("", PathAndQuery::path),
            version: self.version,
            user_agent: asked
                .and_then(|asked| asked.user_agent.as_ref())
                .map(HeaderValue::as_bytes),
            client: exchange
                .client
                .map(|client| client.ip())
                .or(asked.and_then(|asked| asked.peer)),
            status: self.status,
            response_size: self.response_size,
            times,
            verdict: Verdict::new(how, self.status.is_some(), self.refused, &exchange),
            exchange: &exchange,
        };
        self.shared.metrics.ended(&observed, self.active);
        if let Some(log) = &self.shared.log {
            log.offer(&observed, end);
        }
    }
}

#[cfg(test)]
mod tests {
    use gw_core::GrpcStatus;
    use proptest::prelude::*;

    use super::*;

    const CODE: Code = Code::new(
        "OVERLOADED",
        StatusCode::SERVICE_UNAVAILABLE,
        "A test.",
        GrpcStatus::Unavailable,
    );

    fn verdict(
        how: How,
        answered: bool,
        refused: bool,
        attempts: u32,
        noted: bool,
    ) -> (EndedBy, Phase, Option<ResponseSource>, Option<&'static str>) {
        let mut exchange = Exchange::default();
        exchange.attempts = attempts;
        exchange.code = noted.then_some(&CODE);
        let verdict = Verdict::new(how, answered, refused.then_some(&CODE), &exchange);
        let code = verdict.code.map(Code::name);
        (verdict.ended_by, verdict.phase, verdict.source, code)
    }

    #[test]
    fn who_ended_it_and_when() {
        use {EndedBy as By, ResponseSource as Source};
        let code = Some("OVERLOADED");
        for (seen, said) in [
            // how, answered, refused, attempts, noted
            (
                (How::Complete, true, false, 0, false),
                (By::Completed, Phase::Done, Some(Source::Service), None),
            ),
            (
                (How::Complete, true, false, 2, false),
                (By::Completed, Phase::Done, Some(Source::Upstream), None),
            ),
            (
                (How::Complete, true, true, 0, true),
                (By::Gateway, Phase::Request, Some(Source::Gateway), code),
            ),
            (
                (How::Complete, true, true, 1, true),
                (By::Gateway, Phase::Upstream, Some(Source::Gateway), code),
            ),
            (
                (How::Dropped, false, false, 0, false),
                (By::Client, Phase::Request, None, None),
            ),
            (
                (How::Dropped, false, false, 1, false),
                (By::Client, Phase::Upstream, None, None),
            ),
            (
                (How::Dropped, true, false, 1, false),
                (By::Client, Phase::Response, Some(Source::Upstream), None),
            ),
            (
                (How::BodyError, true, false, 1, false),
                (By::Upstream, Phase::Response, Some(Source::Upstream), None),
            ),
            (
                (How::BodyError, true, false, 1, true),
                (By::Gateway, Phase::Response, Some(Source::Upstream), code),
            ),
            (
                (How::BodyError, true, false, 0, false),
                (By::Gateway, Phase::Response, Some(Source::Service), None),
            ),
            (
                (How::Failed, false, false, 0, false),
                (By::Gateway, Phase::Request, None, None),
            ),
            (
                (How::Panicked, false, false, 0, false),
                (By::Gateway, Phase::Request, None, Some("INTERNAL")),
            ),
            (
                (How::Panicked, true, false, 1, false),
                (
                    By::Gateway,
                    Phase::Response,
                    Some(Source::Upstream),
                    Some("INTERNAL"),
                ),
            ),
        ] {
            let (how, answered, refused, attempts, noted) = seen;
            assert_eq!(
                verdict(how, answered, refused, attempts, noted),
                said,
                "{seen:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_three_times_add_up(total in 0u64..1 << 50, upstream in 0u64..1 << 51, client in 0u64..1 << 51) {
            let nanos = Duration::from_nanos;
            let times = Times::new(nanos(total), nanos(upstream), nanos(client));
            prop_assert_eq!(times.upstream + times.gateway + times.client, times.total);
            prop_assert!(nanos(total) - times.total < Duration::from_micros(1));
            if upstream + client <= total {
                prop_assert!(nanos(upstream) - times.upstream < Duration::from_micros(1));
                prop_assert!(nanos(client) - times.client < Duration::from_micros(1));
            }
        }
    }
}
