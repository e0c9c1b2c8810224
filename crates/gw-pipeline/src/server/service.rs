//! The user's service, as hyper calls it.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::mem;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use gw_core::Rejection;
use gw_core::call::call_into;
use gw_core::context::PeerAddr;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::{AnswerBody, Open, strip};
use super::incoming::Incoming;
use super::io::Protocol;
use super::link::Link;
use super::stream::Turns;
use crate::room::roomy;

/// Hands the requests of one connection to the service, and tells the connection when each begins and ends.
#[derive(Debug)]
pub(super) struct Requests<S> {
    instance: Arc<Instance<S>>,
    link: Arc<Link>,
    peer: PeerAddr,
    protocol: Protocol,
    /// Checked here for HTTP/2 only: for HTTP/1, hyper does it while it reads.
    max_headers: usize,
}

/// One instance of the service for the connection: cloning a deep stack for each request is mostly counting references that all
/// threads count.
#[derive(Debug)]
struct Instance<S>(Mutex<S>);

impl<S> Instance<S> {
    // Nothing is left half done here by a panic in the service, which is the service's own business.
    fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Clone> Instance<S> {
    /// A stage has answered in the place of those further in. They were asked whether they are ready, and what they have reserved
    /// for the request would be kept for as long as the connection is idle: a place that others wait for.
    #[cold]
    fn renew(&self) {
        let fresh = self.lock().clone();
        let used = mem::replace(&mut *self.lock(), fresh);
        drop(used);
    }
}

impl<S> Requests<S> {
    pub(super) fn new(
        service: S,
        link: Arc<Link>,
        peer: SocketAddr,
        protocol: Protocol,
        max_headers: usize,
    ) -> Self {
        Self {
            instance: Arc::new(Instance(Mutex::new(service))),
            link,
            peer: PeerAddr(peer),
            protocol,
            max_headers,
        }
    }
}

impl<S> Requests<S>
where
    S: Service<Request<Incoming>, Error = Infallible> + Clone,
{
    /// `turns` and `open` stay with the caller until the service was called, for the reason of `gw_core::call`, and so also if it
    /// panics.
    fn start(
        &self,
        request: Request<Incoming>,
        turns: &mut Option<Arc<Turns>>,
        open: &mut Option<Open>,
    ) -> Answering<S> {
        let mut instance = Some(Arc::clone(&self.instance));
        let mut service = self.instance.lock();
        // Most services are ready at once. One that is not goes with its request, which polls it again with a waker
        // that wakes; a clone stays behind.
        match service.poll_ready(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(Ok(())) => call_into(&mut *service, request, |future| Answering {
                state: State::Called { future },
                instance: instance.take(),
                turns: turns.take(),
                open: open.take(),
            }),
            Poll::Pending => {
                let clone = service.clone();
                let unready = mem::replace(&mut *service, clone);
                let call = Some(Box::new((unready, request)));
                Answering {
                    state: State::Waiting { call },
                    // The one that was asked goes with the request.
                    instance: None,
                    turns: turns.take(),
                    open: open.take(),
                }
            }
        }
    }
}

impl<S, B> hyper::service::Service<Request<hyper::body::Incoming>> for Requests<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body,
{
    type Response = Response<AnswerBody<B>>;
    type Error = Infallible;
    type Future = Answering<S>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Answering<S> {
        let mut request = Incoming::of(request);
        let mut open = Some(Open::start(&self.link, &request));
        let mut turns = match self.protocol {
            Protocol::Http1 => None,
            Protocol::Http2 => Some(Arc::<Turns>::default()),
        };
        if let Some(turns) = &turns {
            self.link.announce_stream(Arc::clone(turns));
        }
        if turns.is_some() && request.headers().len() > self.max_headers {
            return Answering {
                state: State::Refused,
                instance: None,
                turns,
                open,
            };
        }
        let extensions = request.extensions_mut();
        let earlier = mem::replace(extensions, roomy());
        extensions.extend(earlier);
        extensions.insert(self.peer);
        let start = || self.start(request, &mut turns, &mut open);
        match self.protocol {
            Protocol::Http1 => start(),
            // hyper calls on the connection's task. A panic there would end all streams; it belongs to this one's.
            Protocol::Http2 => {
                catch_unwind(AssertUnwindSafe(start)).unwrap_or_else(|panic| Answering {
                    state: State::Panicked { panic: Some(panic) },
                    instance: None,
                    turns,
                    open,
                })
            }
        }
    }
}

pin_project! {
    /// An answer on its way. Dropping it drops the service's future and ends the request.
    pub(super) struct Answering<S: Service<Request<Incoming>>> {
        #[pin]
        state: State<S>,
        // Whom it was called on, if that may have to be another one.
        instance: Option<Arc<Instance<S>>>,
        turns: Option<Arc<Turns>>,
        // Until the answer has it.
        open: Option<Open>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S: Service<Request<Incoming>>> {
        // Until the service is ready.
        Waiting { call: Option<Box<(S, Request<Incoming>)>> },
        Called { #[pin] future: S::Future },
        // Boxed: answers are large, and hardly any is put off.
        PutOff { response: Option<Box<S::Response>> },
        // In the call.
        Panicked { panic: Option<Box<dyn Any + Send>> },
        // Too many fields.
        Refused,
    }
}

impl<S, B> Future for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone,
    B: Body,
{
    type Output = Result<Response<AnswerBody<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProj::Waiting { call } = this.state.as_mut().project() {
            if let Some(waiting) = call {
                let Ok(()) = ready!(waiting.0.poll_ready(cx));
            }
            // Pending once taken, which it never is: the state changes with it.
            let Some(waiting) = call.take() else {
                return Poll::Pending;
            };
            let (mut service, request) = *waiting;
            let future = service.call(request);
            this.state.set(State::Called { future });
        }
        let response = match this.state.as_mut().project() {
            StateProj::Called { future } => {
                let Ok(response) = ready!(future.poll(cx));
                let is_refusal = response.extensions().get::<Rejection>().is_some();
                if let Some(instance) = this.instance.take().filter(|_| is_refusal) {
                    instance.renew();
                }
                if this.open.as_ref().is_some_and(|it| it.puts_off(&response)) {
                    let response = Some(Box::new(response));
                    // With the future goes what it has of the request's body.
                    this.state.set(State::PutOff { response });
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                response.map(Some)
            }
            // Pending once taken: a future must not be polled after it was ready.
            StateProj::PutOff { response } => match response.take() {
                Some(response) => response.map(Some),
                None => return Poll::Pending,
            },
            StateProj::Waiting { .. } => return Poll::Pending,
            // Pending once taken: a future must not be polled after it has panicked.
            StateProj::Panicked { panic } => match panic.take() {
                Some(panic) => resume_unwind(panic),
                None => return Poll::Pending,
            },
            StateProj::Refused => {
                let mut response = Response::new(None);
                *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                response
            }
        };
        let (turns, open) = (this.turns.take(), this.open.take());
        Poll::Ready(Ok(finish(response, turns, open)))
    }
}

/// The answer as hyper is to have it: what ends the connection says so.
#[inline]
fn finish<B: Body>(
    mut response: Response<Option<B>>,
    turns: Option<Arc<Turns>>,
    mut open: Option<Open>,
) -> Response<AnswerBody<B>> {
    if let Some(open) = &mut open {
        open.answers();
    }
    let http1 = turns.is_none();
    let status = response.status();
    // Over HTTP/2, hyper sends what it gets.
    if !http1 && open.as_ref().is_some_and(|open| open.is_bodiless(status)) {
        strip(&mut response);
    }
    if let Some(open) = open.as_ref().filter(|_| http1) {
        if open.switches_with(status) {
            open.link().switched();
        } else if open.link().closes_after_answer()
            || status == StatusCode::REQUEST_TIMEOUT
            || open.ends_with_connection(&response)
        {
            // hyper says so by itself only if it was told before the request came; see `Activity::awaits_head`. 408 says that
            // the rest of the request is not waited for (RFC 9110 section 15.5.9): hyper closes, and does not say so.
            // What names protocols, as 426 does, must have the other option as well (RFC 9110 section 7.8).
            let close = match response.headers().contains_key(header::UPGRADE) {
                true => HeaderValue::from_static("upgrade, close"),
                false => HeaderValue::from_static("close"),
            };
            response.headers_mut().insert(header::CONNECTION, close);
            if open.is_http10() {
                // To an answer of a later version hyper adds that the connection is kept.
                *response.version_mut() = Version::HTTP_10;
            }
        }
    }
    response.map(|body| AnswerBody::new(body, turns, open))
}
