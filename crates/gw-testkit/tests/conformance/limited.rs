//! A small concurrency limit that keeps the contract, or breaks it in one way.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::{Code, GrpcStatus, OnReject, RejectContext, Rejection};
use http::{Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower_layer::Layer;
use tower_service::Service;

const FULL: Code = Code::new(
    "FULL",
    StatusCode::SERVICE_UNAVAILABLE,
    "Full.",
    GrpcStatus::ResourceExhausted,
);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    StatePerService,
    PassesRefused,
    NeverRefuses,
    NeverReady,
    NeverAnswers,
    TakesWhenReady,
    AlwaysReady,
    ReadyDespiteErrors,
    PendingForErrors,
    CallsTheClone,
    LosesOnDrop,
    LosesOnError,
    GivesBackAtHead,
    GivesBackTwice,
    KeepsPastTheEnd,
    KeepsPastTrailers,
    LosesAFrame,
    EndsWhereItFails,
    StreamsEmpty,
    HidesTheEnd,
    RemembersTheEnd,
    RemembersTheSize,
    ForgetsTheBounds,
    GivesBackAtUpgrade,
    LosesUpgraded,
    TakesTheUpgrade,
}

#[derive(Clone)]
pub(crate) struct LimitedLayer<R> {
    limit: usize,
    permits: Arc<Semaphore>,
    on_reject: R,
    fault: Fault,
}

impl<R> LimitedLayer<R> {
    pub(crate) fn new(limit: usize, on_reject: R) -> Self {
        let permits = Arc::new(Semaphore::new(limit));
        Self {
            limit,
            permits,
            on_reject,
            fault: Fault::None,
        }
    }

    pub(crate) fn with(mut self, fault: Fault) -> Self {
        self.fault = fault;
        self
    }
}

impl<S, R: Clone> Layer<S> for LimitedLayer<R> {
    type Service = Limited<S, R>;

    fn layer(&self, inner: S) -> Limited<S, R> {
        let mut layer = self.clone();
        if self.fault == Fault::StatePerService {
            layer.permits = Arc::new(Semaphore::new(self.limit));
        }
        Limited {
            inner,
            layer,
            reserved: None,
        }
    }
}

/// What the connection holds that a request becomes.
#[derive(Clone, Default)]
struct Tunnel(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

pub(crate) struct Limited<S, R> {
    inner: S,
    layer: LimitedLayer<R>,
    reserved: Option<OwnedSemaphorePermit>,
}

impl<S: Clone, R: Clone> Clone for Limited<S, R> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            layer: self.layer.clone(),
            reserved: None,
        }
    }
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S, R, B, ResB> Service<Request<B>> for Limited<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>, Future: Send + 'static> + Clone,
    S::Error: Send + 'static,
    ResB: http_body::Body + Send + 'static,
    R: OnReject<Response<ResB>, S::Error, Error = S::Error>,
{
    type Response = Response<Held<ResB>>;
    type Error = S::Error;
    type Future = Boxed<Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self.layer.fault {
            Fault::AlwaysReady => return Poll::Ready(Ok(())),
            Fault::NeverReady => return Poll::Pending,
            Fault::TakesWhenReady if self.reserved.is_none() => {
                self.reserved = self.layer.permits.clone().try_acquire_owned().ok();
            }
            _ => {}
        }
        match (self.layer.fault, self.inner.poll_ready(cx)) {
            (Fault::ReadyDespiteErrors, Poll::Ready(Err(_))) => Poll::Ready(Ok(())),
            (Fault::PendingForErrors, Poll::Ready(Err(_))) => Poll::Pending,
            (_, ready) => ready,
        }
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let fault = self.layer.fault;
        let tunnel = Tunnel::default();
        request.extensions_mut().insert(tunnel.clone());
        if fault == Fault::TakesTheUpgrade {
            request
                .extensions_mut()
                .remove::<hyper::upgrade::OnUpgrade>();
        }
        let permit = self
            .reserved
            .take()
            .or_else(|| self.layer.permits.clone().try_acquire_owned().ok());
        if permit.is_none() && fault == Fault::NeverRefuses {
            return Box::pin(std::future::pending());
        }
        if permit.is_none() && fault != Fault::PassesRefused {
            let context = RejectContext::of(&request);
            let answer = self.layer.on_reject.reject(Rejection::new(&FULL), &context);
            return Box::pin(
                async move { answer.map(|r| r.map(|body| Held::new(body, None, fault))) },
            );
        }
        let clone = self.inner.clone();
        let future = match fault {
            Fault::CallsTheClone => self.inner.clone().call(request),
            _ => std::mem::replace(&mut self.inner, clone).call(request),
        };
        let permit = match (fault, permit) {
            (Fault::LosesOnDrop, Some(permit)) => {
                permit.forget();
                None
            }
            (_, permit) => permit,
        };
        let permits = self.layer.permits.clone();
        Box::pin(async move {
            let response = match future.await {
                Ok(response) => response,
                Err(error) => {
                    if let (Fault::LosesOnError, Some(permit)) = (fault, permit) {
                        permit.forget();
                    }
                    return Err(error);
                }
            };
            if fault == Fault::NeverAnswers {
                return std::future::pending().await;
            }
            let upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            let permit = match fault {
                Fault::GivesBackAtHead => None,
                Fault::GivesBackAtUpgrade if upgraded => None,
                Fault::LosesUpgraded if upgraded => {
                    if let Some(permit) = permit {
                        permit.forget();
                    }
                    None
                }
                _ if upgraded => {
                    *tunnel.0.lock().expect("no panic") = permit;
                    None
                }
                Fault::LosesOnDrop => {
                    permits.add_permits(1);
                    permits.try_acquire_owned().ok()
                }
                _ => permit,
            };
            Ok(response.map(|body| Held::new(body, permit, fault)))
        })
    }
}

pub(crate) struct Held<B> {
    body: B,
    permit: Option<OwnedSemaphorePermit>,
    fault: Fault,
    head: (bool, SizeHint),
}

impl<B: http_body::Body> Held<B> {
    fn new(body: B, permit: Option<OwnedSemaphorePermit>, fault: Fault) -> Self {
        // A body without content is never polled.
        let permit = permit.filter(|_| !body.is_end_stream());
        let head = (body.is_end_stream(), body.size_hint());
        Self {
            body,
            permit,
            fault,
            head,
        }
    }
}

impl<B: http_body::Body + From<Bytes>> From<Bytes> for Held<B> {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes.into(), None, Fault::None)
    }
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Held<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut frame = Pin::new(&mut self.body).poll_frame(cx);
        match (self.fault, &frame) {
            (Fault::LosesAFrame, Poll::Ready(Some(Ok(_)))) => {
                self.fault = Fault::None;
                frame = Pin::new(&mut self.body).poll_frame(cx);
            }
            (Fault::EndsWhereItFails, Poll::Ready(Some(Err(_)))) => frame = Poll::Ready(None),
            _ => {}
        }
        let ended = match &frame {
            Poll::Ready(None | Some(Err(_))) => true,
            Poll::Ready(Some(Ok(frame))) => match self.fault {
                Fault::KeepsPastTheEnd => false,
                Fault::KeepsPastTrailers if frame.is_trailers() => false,
                _ => self.body.is_end_stream(),
            },
            Poll::Pending => false,
        };
        if ended {
            match self.permit.take() {
                Some(permit) if self.fault == Fault::GivesBackTwice => {
                    permit.semaphore().add_permits(1);
                }
                _ => {}
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match self.fault {
            Fault::HidesTheEnd => false,
            Fault::StreamsEmpty if self.head.0 => false,
            Fault::RemembersTheEnd => self.head.0,
            _ => self.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        match self.fault {
            Fault::HidesTheEnd => SizeHint::default(),
            Fault::RemembersTheSize => self.head.1,
            Fault::ForgetsTheBounds if hint.exact().is_none() => SizeHint::default(),
            _ => hint,
        }
    }
}
