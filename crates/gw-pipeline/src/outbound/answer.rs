use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use gw_core::attempt::Failure;
use gw_core::on_reject::Caller;
use gw_core::record::Record;
use gw_core::retry_after::NotBefore;
use gw_core::{Body, BoxError, Code, OnReject, RejectContext, Rejection, Respond, RetryAfter};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{ReplaceBody, ResponseHeaders};
use crate::codes;
use crate::pipeline::slot::{self, Slot as _};

/// Turns every outcome into an answer, and gives all answers what they must have.
///
/// - An error becomes the refusal found among it and its sources, else `INTERNAL`; so does a panic. The error's text
///   goes nowhere: the [`Rejection`] in the answer's extensions carries it for the observer.
/// - A service that fails or panics in place of getting ready is finished, and a connection of the server may have this one
///   instance: over HTTP/1 the answer says `Connection: close`. Over HTTP/2 the connection stays, so a service that may panic there
///   should be able to go on.
/// - A body in which an upstream speaks of its own failure is replaced by the envelope.
/// - Fields are removed and added as [`ResponseHeaders`] says.
///
/// The layered service cannot fail, and its answers have the body type [`Body`].
#[derive(Debug)]
pub struct AnswerLayer<R = Respond> {
    // One reference for all: it is counted twice for each request, by all threads.
    rules: Arc<Rules<R>>,
}

#[derive(Debug, Clone)]
struct Rules<R> {
    on_reject: R,
    headers: ResponseHeaders,
}

// By hand: a derive would ask for a renderer that can be cloned.
impl<R> Clone for AnswerLayer<R> {
    fn clone(&self) -> Self {
        Self {
            rules: Arc::clone(&self.rules),
        }
    }
}

impl AnswerLayer {
    /// Answers with the JSON envelope and the [recommended](ResponseHeaders::recommended) header fields.
    pub fn new() -> Self {
        let rules = Rules {
            on_reject: Respond::new(),
            headers: ResponseHeaders::recommended(),
        };
        Self {
            rules: Arc::new(rules),
        }
    }
}

impl Default for AnswerLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> AnswerLayer<R> {
    /// Renders refusals with `on_reject`.
    #[must_use]
    pub fn on_reject<R2>(self, on_reject: R2) -> AnswerLayer<R2> {
        let headers = self.rules.headers.clone();
        AnswerLayer {
            rules: Arc::new(Rules { on_reject, headers }),
        }
    }

    /// Treats the header fields of all answers with `headers`.
    #[must_use]
    pub fn headers(mut self, headers: ResponseHeaders) -> Self
    where
        R: Clone,
    {
        Arc::make_mut(&mut self.rules).headers = headers;
        self
    }
}

impl<S, R> Layer<S> for AnswerLayer<R> {
    type Service = Answer<S, R>;

    fn layer(&self, inner: S) -> Answer<S, R> {
        Answer {
            inner,
            unready: None,
            layer: self.clone(),
        }
    }
}

/// The service of [`AnswerLayer`].
#[derive(Debug)]
pub struct Answer<S, R = Respond> {
    inner: S,
    /// Why the inner service did not get ready; kept until `call` can answer with it.
    unready: Option<BoxError>,
    layer: AnswerLayer<R>,
}

// By hand: a clone has not been polled, so it has no reason to be unready.
impl<S: Clone, R> Clone for Answer<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            unready: None,
            layer: self.layer.clone(),
        }
    }
}

impl<S, R, B, ResB> Service<Request<B>> for Answer<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + Send + 'static,
    ResB::Error: Into<BoxError>,
    R: OnReject<Response<Body>, Infallible, Error = Infallible>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.unready.is_none() {
            // Unwind safe: see `call`.
            match catch_unwind(AssertUnwindSafe(|| self.inner.poll_ready(cx))) {
                Ok(Poll::Ready(Ok(()))) => {}
                Ok(Poll::Ready(Err(error))) => self.unready = Some(error.into()),
                Ok(Poll::Pending) => return Poll::Pending,
                Err(_) => self.unready = Some(PANICKED.into()),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let context = RejectContext::of(&request);
        let record = Record::of(request.extensions()).cloned();
        let mut answer = AnswerFuture {
            state: State::Failed { error: None },
            finish: Finish {
                layer: self.layer.clone(),
                context,
                record,
            },
        };
        let failure = match self.unready.take() {
            Some(error) => Some(finished(error, request.version())),
            None => {
                // In its place: what is returned from there is copied several times, and a future is large.
                let call = || {
                    let future = self.inner.call(request);
                    answer.state = State::Calling { future };
                };
                // Unwind safe: a request that panics is answered with 500, and what it shares with others (limits,
                // counts) is guarded by values that are given back when they are dropped.
                let caught = catch_unwind(AssertUnwindSafe(call));
                caught.err().map(|_| PANICKED.into())
            }
        };
        if failure.is_some() {
            answer.state = State::Failed { error: failure };
        }
        answer
    }
}

const PANICKED: &str = "the service panicked";

/// Why a service that gets ready no more has not answered. It is of no use to those who come next, and where a connection has an
/// instance of its own they would have no other: the answer ends the connection. Over HTTP/2 no field can say so.
#[cold]
fn finished(error: BoxError, version: Version) -> BoxError {
    let rejection = rejection(error);
    let rejection = match version < Version::HTTP_2 {
        true => rejection.field(header::CONNECTION, HeaderValue::from_static("close")),
        false => rejection,
    };
    rejection.into()
}

/// The refusal that an error is or stems from, else `INTERNAL`.
fn rejection(error: BoxError) -> Rejection {
    match Rejection::find(&*error) {
        Some(rejection) => rejection.clone(),
        None => Rejection::new(&codes::INTERNAL).caused_by(error),
    }
}

pin_project! {
    /// The future of [`Answer`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner service's future, and nothing else.
    #[derive(Debug)]
    pub struct AnswerFuture<Fut, R = Respond> {
        #[pin]
        state: State<Fut>,
        finish: Finish<R>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<Fut> {
        Calling { #[pin] future: Fut },
        Failed { error: Option<BoxError> },
    }
}

impl<Fut, R, B, E> Future for AnswerFuture<Fut, R>
where
    Fut: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: OnReject<Response<Body>, Infallible, Error = Infallible>,
{
    type Output = Result<Response<Body>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let outcome = match this.state.as_mut().project() {
            StateProj::Calling { future } => {
                // Unwind safe: see `call`. The future is dropped below and never polled again.
                let mut polled = Poll::Pending;
                let caught = catch_unwind(AssertUnwindSafe(|| polled = future.poll(cx)));
                if caught.is_err() {
                    Err(PANICKED.into())
                } else {
                    match polled {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(response)) => Ok(response.map(Body::new)),
                        Poll::Ready(Err(error)) => Err(error.into()),
                    }
                }
            }
            StateProj::Failed { error } => match error.take() {
                Some(error) => Err(error),
                // A future must not be polled after it was ready.
                None => return Poll::Pending,
            },
        };
        // Drops the inner future with the guards that it holds before the answer goes out.
        this.state.set(State::Failed { error: None });
        Poll::Ready(Ok(match outcome {
            Ok(mut response) => {
                this.finish.response(&mut response);
                response
            }
            Err(error) => this.finish.failure(error),
        }))
    }
}

/// When to come back, where nothing says more.
const RETRY_LATER: Duration = Duration::from_secs(1);

/// As far away as an upstream may put its clients by our word: a wait longer than that is no guess about an outage. The
/// upstream's own field passes as it is.
const LONGEST_WAIT: Duration = Duration::from_secs(60 * 60);

/// `Retry-After` of a gRPC client, in milliseconds (gRPC proposal A6).
const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

/// The fields that say something of a body, and nothing of what stands in its place.
const DESCRIBES_THE_BODY: [HeaderName; 8] = [
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_LANGUAGE,
    header::ACCEPT_RANGES,
    header::ETAG,
    header::LAST_MODIFIED,
];

const fn asks_to_come_back(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 503 | 504)
}

/// When to come back, for an answer that does not know better. Without any, clients come back all at once.
fn later() -> RetryAfter {
    RetryAfter::jittered(RETRY_LATER)
}

/// The time to come back that the fields name, if it is one and lies ahead. What says `0`, or says nothing that a client could
/// read, is no better than none.
fn says_when(fields: &HeaderMap) -> Option<RetryAfter> {
    let mut lines = fields.get_all(header::RETRY_AFTER).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let wait = RetryAfter::parse(line, SystemTime::now())?;
    (!wait.is_zero()).then(|| RetryAfter::at_least(wait))
}

/// What an upstream has said of the time to come back, by our word.
fn believed(said: RetryAfter) -> RetryAfter {
    said.min(RetryAfter::at_least(LONGEST_WAIT))
}

/// Says `when` in the fields that `caller` reads, where they do not say it yet.
fn tell(fields: &mut HeaderMap, caller: Caller, when: RetryAfter) {
    let header = fields.entry(header::RETRY_AFTER);
    header.or_insert_with(|| when.header_value());
    if caller == Caller::Grpc {
        let pushback = fields.entry(PUSHBACK);
        pushback.or_insert_with(|| HeaderValue::from(u64::from(when.seconds()) * 1000));
    }
}

/// What went wrong with the upstream, if it is that.
#[cfg(feature = "upstream")]
fn cause(refused: &Rejection) -> Option<&'static str> {
    let cause = std::error::Error::source(refused)?;
    let error = cause.downcast_ref::<crate::upstream::Error>()?;
    Some(error.kind().as_str())
}

#[cfg(not(feature = "upstream"))]
const fn cause(_: &Rejection) -> Option<&'static str> {
    None
}

/// What an outcome needs to become an answer.
#[derive(Debug)]
struct Finish<R> {
    layer: AnswerLayer<R>,
    context: RejectContext,
    record: Option<Record>,
}

impl<R: OnReject<Response<Body>, Infallible, Error = Infallible>> Finish<R> {
    fn failure(&self, error: BoxError) -> Response<Body> {
        let mut rejection = rejection(error);
        let status = rejection.code().status();
        if asks_to_come_back(status) && rejection.retry_after_hint().is_none() {
            rejection = rejection.retry_after(later());
        }
        let mut response = self.render(rejection, &self.context);
        self.finish(&mut response);
        response
    }

    // In place: an answer is large, and most need little done.
    fn response(&self, response: &mut Response<Body>) {
        if let Some(ReplaceBody(code)) = response.extensions_mut().remove() {
            *response = self.replace(std::mem::take(response), code);
        }
        self.finish(response);
    }

    /// The envelope in place of what the upstream said, with the status and the fields that are still there.
    fn replace(&self, original: Response<Body>, code: &'static Code) -> Response<Body> {
        let (original, _) = original.into_parts();
        // They describe the body that is gone.
        let mut kept = original.headers;
        for name in DESCRIBES_THE_BODY {
            kept.remove(name);
        }
        let (said, not_before) = (says_when(&kept), NotBefore::of(&original.extensions));
        if said.is_none() || said < not_before {
            kept.remove(header::RETRY_AFTER);
        }
        let when = said
            .map(believed)
            .or_else(|| asks_to_come_back(original.status).then(later))
            .map(|when| when.max(not_before.unwrap_or(when)));
        let rejection = Rejection::new(code).failed(match original.status {
            // Who says so takes no part in what was asked, as HTTP and gRPC's table of its statuses understand it.
            StatusCode::SERVICE_UNAVAILABLE => Failure::Local,
            // It was sent, and the status is no proof that nothing was done.
            _ => Failure::Unknown,
        });
        let rejection = match when {
            Some(when) => rejection.retry_after(when),
            None => rejection,
        };
        let mut context = self.context.clone();
        context.status = Some(original.status);
        let mut response = self.render(rejection, &context);
        // A renderer of the user's own need not look at it. A gRPC caller reads the status from the fields; its HTTP status is
        // 200, which tells observers nothing.
        if self.context.caller != Caller::Grpc {
            *response.status_mut() = original.status;
        } else if let Some(record) = &self.record {
            record.refused(slot::Forward::NAME, code);
        }
        let fields = response.headers_mut();
        fields.extend(kept);
        // A renderer of the user's own need not have said it.
        if let Some(when) = when {
            tell(fields, self.context.caller, when);
        }
        // The failure is the upstream's, not a refusal of ours: it must not be counted as one.
        let extensions = response.extensions_mut();
        extensions.remove::<Rejection>();
        // What layers further in have said of it stays.
        extensions.extend(original.extensions);
        response
    }

    fn render(&self, rejection: Rejection, context: &RejectContext) -> Response<Body> {
        match self.layer.rules.on_reject.reject(rejection, context) {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn finish(&self, response: &mut Response<Body>) {
        self.layer.rules.headers.apply(response.headers_mut());
        let Some(refused) = response.extensions().get::<Rejection>() else {
            return;
        };
        let (code, cause) = (refused.code(), cause(refused));
        let hint = refused.retry_after_hint();
        // By the code: the HTTP status of an answer to a gRPC caller is 200.
        if asks_to_come_back(code.status()) {
            let not_before = NotBefore::of(response.extensions());
            let fields = response.headers_mut();
            // Both fields say the same.
            let when = hint
                .or_else(|| says_when(fields).map(believed))
                .unwrap_or_else(later);
            let when = when.max(not_before.unwrap_or(when));
            tell(fields, self.context.caller, when);
        }
        if let Some(record) = &self.record {
            record.update(|exchange| {
                // What a stage has noted with the same refusal is about that one.
                if cause.is_some() || exchange.code != Some(code) {
                    exchange.cause = cause;
                }
                exchange.code = Some(code);
            });
        }
    }
}

#[cfg(test)]
mod tests;
