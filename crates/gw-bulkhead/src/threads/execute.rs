use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use gw_core::context::Deadline;
use gw_core::late::LateFuture;
use gw_core::record::Record;
use gw_core::{BoxError, RejectContext};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::sync::oneshot;
use tower_service::Service;

use super::body::{Remote, ResponseBody};
use super::crew::Threads;
use super::task::{Answer, Head, HeadSender, LaneSide, LaneTask, NoHead, Source, serve};
use crate::error::{self, Rejected};
use crate::executor::{Execute, Failed, Inline, InlineFuture, PollAnswer};
use crate::lanes::Permit;
use crate::layer::Shared;
use crate::lease::Lease;
use crate::remaining::Remaining;
use crate::telemetry;

impl<S, B, ResB> Execute<S, B, ResB> for Threads
where
    S: Service<Request<B>, Response = Response<ResB>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
    ResB: Body + Send + 'static,
    ResB::Data: Send + 'static,
    ResB::Error: Into<BoxError>,
{
    type Body = ResponseBody<ResB>;
    type Side = Option<LaneSide>;
    type Future = ThreadsFuture<S::Future, ResB::Data, S::Error>;
    type Late = ThreadsFuture<LateFuture<S, Request<B>, S::Future>, ResB::Data, S::Error>;

    fn lease(
        &self,
        shared: &Arc<Shared>,
        permit: Permit,
        request: &mut Request<B>,
    ) -> (Lease, Option<LaneSide>) {
        if !self.has_threads(permit.lane()) {
            return (Lease::new(shared, permit, request), None);
        }
        let aware = shared.lanes.config(permit.lane()).deadline_aware;
        let deadline = || request.extensions().get::<Deadline>();
        let deadline = aware.then(deadline).flatten().map(|due| due.instant());
        let place = Arc::new(permit);
        let lease = Lease::shared(shared, Arc::clone(&place), request);
        let side = LaneSide {
            place: Some(place),
            shared: Arc::clone(shared),
            hold: lease.hold(),
            until: lease.until(),
            deadline,
        };
        (lease, Some(side))
    }

    fn execute(
        &self,
        service: &mut S,
        request: Request<B>,
        side: Option<LaneSide>,
        lease: &mut Option<Lease>,
    ) -> Self::Future {
        let lane = |side: &LaneSide| side.place.as_ref().map(|place| place.lane());
        let thread = side
            .as_ref()
            .and_then(lane)
            .and_then(|lane| self.thread(lane));
        let (Some(side), Some(thread)) = (side, thread) else {
            return ThreadsFuture::inline(Inline.execute(service, request, (), lease));
        };
        if let Some(upgrade) = lease.as_mut().and_then(Lease::upgrade) {
            // Now and not when it is granted: with its place given back at the head, the thread could end before that.
            upgrade.runs_on(thread.keep(self.crew()));
        }
        let context = RejectContext::of(&request);
        let record = Record::of(request.extensions()).cloned();
        let slot = side.shared.slot;
        // The instance that was polled ready is the one to call; a clone stays behind.
        let clone = service.clone();
        let ready = std::mem::replace(service, clone);
        let (sender, head) = oneshot::channel();
        let unanswered = thread.to_answer();
        let sender = HeadSender { sender, unanswered };
        let task = telemetry::in_current_span(serve(side, sender, ready, request));
        let task = LaneTask::new(thread.spawn(task), self.crew(), record, slot);
        ThreadsFuture::remote(Call {
            head: Some(head),
            task,
            lease: lease.take(),
            context,
        })
    }

    fn execute_late(
        &self,
        service: S,
        request: Request<B>,
        side: Option<LaneSide>,
        lease: &mut Option<Lease>,
    ) -> Self::Late {
        // On the lane's thread it is driven to be ready as well.
        self.execute(&mut Late(service), request, side, lease)
    }
}

/// Calls a service that nobody has polled ready.
#[derive(Debug, Clone)]
struct Late<S>(S);

impl<S, B> Service<Request<B>> for Late<S>
where
    S: Service<Request<B>> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LateFuture<S, Request<B>, S::Future>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.0.clone();
        let service = std::mem::replace(&mut self.0, clone);
        LateFuture::new(service, request)
    }
}

pin_project! {
    /// A request that may run on a lane's own thread.
    pub struct ThreadsFuture<F, D, E> {
        #[pin]
        kind: Kind<F, D, E>,
    }
}

pin_project! {
    #[project = KindProj]
    enum Kind<F, D, E> {
        Inline { #[pin] future: InlineFuture<F> },
        Remote { call: Option<Box<Call<D, E>>> },
    }
}

/// A request that runs on a lane's thread.
struct Call<D, E> {
    /// Until it has said all it will.
    head: Option<oneshot::Receiver<Answer<D, E>>>,
    // Dropped before the lease: the caller's share of the place outlives the order to end.
    task: LaneTask,
    lease: Option<Lease>,
    context: RejectContext,
}

impl<F, D, E> ThreadsFuture<F, D, E> {
    const fn inline(future: InlineFuture<F>) -> Self {
        Self {
            kind: Kind::Inline { future },
        }
    }

    fn remote(call: Call<D, E>) -> Self {
        Self {
            kind: Kind::Remote {
                call: Some(Box::new(call)),
            },
        }
    }
}

impl<F, ResB, E> PollAnswer<ResponseBody<ResB>, E> for ThreadsFuture<F, ResB::Data, E>
where
    F: Future<Output = Result<Response<ResB>, E>>,
    E: 'static,
    ResB: Body,
{
    fn poll_answer<T>(
        self: Pin<&mut Self>,
        lease: &mut Option<Lease>,
        cx: &mut Context<'_>,
        ended: &mut bool,
        failed: impl FnOnce(Failed<E>) -> Result<Response<ResponseBody<ResB>>, T>,
    ) -> Poll<Result<Response<ResponseBody<ResB>>, T>> {
        let call = match self.project().kind.project() {
            KindProj::Inline { future } => {
                let answer = ready!(future.poll_answer(lease, cx, ended, Err));
                return Poll::Ready(match answer {
                    Ok(response) => Ok(response.map(ResponseBody::from)),
                    Err(error) => failed(error),
                });
            }
            KindProj::Remote { call } => call,
        };
        let Some(waiting) = call else {
            return Poll::Pending;
        };
        let head = ready!(waiting.poll_head(cx));
        *ended = true;
        // A future must not be polled again.
        let Some(call) = call.take() else {
            return Poll::Pending;
        };
        Poll::Ready(head.map(|head| call.answer(head)).or_else(failed))
    }
}

impl<D, E: 'static> Call<D, E> {
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head<D>, Failed<E>>> {
        let Some(head) = &mut self.head else {
            return self.poll_lost(cx);
        };
        match Pin::new(head).poll(cx) {
            Poll::Ready(Ok(Ok(head))) => Poll::Ready(Ok(head)),
            Poll::Ready(Ok(Err(why))) => {
                self.task.finish();
                Poll::Ready(Err(match why {
                    NoHead::Inner(error) => {
                        if let Some(lease) = &mut self.lease {
                            lease.failed(&error);
                        }
                        Failed::Inner(error)
                    }
                    NoHead::Late(refusal) => {
                        let (observer, context) = (self.task.observer(), self.context.clone());
                        Failed::Rejected(Box::new(Rejected::new(refusal, observer, context)))
                    }
                }))
            }
            Poll::Ready(Err(_)) => {
                self.head = None;
                self.poll_lost(cx)
            }
            Poll::Pending => {
                let Some(lease) = &mut self.lease else {
                    return Poll::Pending;
                };
                let cut = lease.poll_cut(cx);
                cut.map(|rejected| Err(Failed::Rejected(Box::new(rejected))))
            }
        }
    }

    /// The task has ended without a head: it panicked, its time was over there, or its thread was stopped.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head<D>, Failed<E>>> {
        ready!(self.task.poll_lost(cx));
        let rejected = self
            .lease
            .as_mut()
            .and_then(Lease::cut_if_over)
            .unwrap_or_else(|| {
                self.task.note_stopped();
                Rejected {
                    rejection: error::stopped(),
                    context: self.context.clone(),
                }
            });
        Poll::Ready(Err(Failed::Rejected(Box::new(rejected))))
    }

    fn answer<ResB: Body<Data = D>>(self, head: Head<D>) -> Response<ResponseBody<ResB>> {
        let Self {
            mut task,
            mut lease,
            ..
        } = self;
        let Head {
            parts,
            size,
            source,
        } = head;
        let mut response = Response::from_parts(parts, ());
        if !matches!(source, Source::Stream(_)) {
            task.finish();
        }
        let ended = matches!(source, Source::Ended);
        let lease = lease.take_if(|lease| lease.outlasts_head(&mut response, ended));
        let remaining = Remaining::of(lease.as_ref(), || size, response.headers());
        let size = (size, remaining);
        response.map(|()| ResponseBody::remote(Remote::new(source, size, task, lease)))
    }
}
