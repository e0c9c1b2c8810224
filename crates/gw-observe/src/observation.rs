//! What is seen of one exchange until it ends.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use gw_core::context::{ClientAddr, TraceContext};
use gw_core::on_reject::Caller;
use gw_core::record::{Exchange, Record};
use gw_core::{Code, Rejection};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use tokio::time::Instant;

use crate::answer::Said;
use crate::layer::Shared;
use crate::telemetry::{RequestSpan, RouteIndex};
use crate::verdict::{How, Times, Verdict};

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
    pub(crate) said: Said,
    pub(crate) response_size: u64,
    pub(crate) times: Times,
    pub(crate) verdict: Verdict,
}

/// What the head of a request says. Not kept if there is no log.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) path: Option<PathAndQuery>,
    pub(crate) user_agent: Option<HeaderValue>,
    pub(crate) peer: Option<ClientAddr>,
}

/// An exchange that goes on. Dropping it ends it: there is no way to end an exchange that is not observed, and none
/// that is observed twice.
#[derive(Debug)]
pub(crate) struct Observation {
    shared: Arc<Shared>,
    record: Record,
    trace: TraceContext,
    span: RequestSpan,
    method: Method,
    caller: Caller,
    version: Version,
    asked: Option<Asked>,
    start: Instant,
    active: Option<RouteIndex>,
    status: Option<StatusCode>,
    said: Said,
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
    running: bool,
    how: Option<How>,
}

impl Observation {
    pub(crate) fn new<B>(
        shared: Arc<Shared>,
        start: Instant,
        record: Record,
        trace: TraceContext,
        request: &Request<B>,
        asked: Option<Asked>,
    ) -> Self {
        Self {
            shared,
            record,
            trace,
            span: RequestSpan::new(&trace),
            method: request.method().clone(),
            caller: Caller::of(request.method(), request.headers()),
            version: request.version(),
            asked,
            start,
            active: None,
            status: None,
            said: Said::Class(None),
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

    /// Runs the code of others, within the request's span.
    pub(crate) fn run<T>(&mut self, code: impl FnOnce() -> T) -> T {
        self.running = true;
        let result = self.span.in_scope(code);
        self.running = false;
        result
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
    pub(crate) fn head<B>(&mut self, response: &Response<B>, announced: Option<u64>) {
        let status = response.status();
        self.status = Some(status);
        self.said = Said::by_head(self.caller, response);
        self.refused = response.extensions().get().map(Rejection::code);
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

    /// The answer's trailers are handed out.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        self.said = self.said.by_trailers(trailers);
    }

    /// The exchange has ended.
    pub(crate) fn finish(mut self: Box<Self>, how: How) {
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
        // An attempt that ends on another thread has not told it yet, nor a body that is not dropped yet.
        exchange.waits_end(end);
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
                .or(asked.and_then(|asked| asked.peer))
                .map(ClientAddr::ip),
            status: self.status,
            said: self.said,
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
