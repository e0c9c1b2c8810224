use std::pin::Pin;
use std::task::{Context, Poll};

use gw_core::attempt::Failure;
use gw_core::call::call_into;
use gw_core::record::Record;
use gw_core::{BoxError, Rejection};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::slot::{self, Slot as _};
use crate::codes;
use crate::inbound::LateRefusal;

/// What stands right in front of the service that ends a pipeline.
///
/// It refuses, at last, what the route stage found no route for, and notes the failures of the service.
#[derive(Debug, Clone, Copy, Default)]
pub struct TerminalLayer;

impl<S> Layer<S> for TerminalLayer {
    type Service = Terminal<S>;

    fn layer(&self, inner: S) -> Terminal<S> {
        Terminal { inner }
    }
}

/// The service of [`TerminalLayer`].
#[derive(Debug, Clone, Copy)]
pub struct Terminal<S> {
    inner: S,
}

impl<S, B, ResB> Service<Request<B>> for Terminal<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: Into<BoxError>,
{
    type Response = Response<ResB>;
    type Error = BoxError;
    type Future = TerminalFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let late = request.extensions_mut().remove();
        let record = Record::of(request.extensions());
        if let Some(LateRefusal(refused)) = late {
            if let Some(record) = record {
                record.refused(slot::RouteResolve::NAME, refused.code());
            }
            let refused = Some(refused);
            let state = State::Refused { refused };
            return TerminalFuture { state };
        }
        let mut record = record.cloned();
        call_into(&mut self.inner, request, |future| TerminalFuture {
            state: State::Inner {
                record: record.take(),
                future,
            },
        })
    }
}

pin_project! {
    /// The future of [`Terminal`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner service's future, and nothing else.
    #[derive(Debug)]
    pub struct TerminalFuture<Fut> {
        #[pin]
        state: State<Fut>,
    }
}

pin_project! {
    #[project = StateProj]
    #[derive(Debug)]
    enum State<Fut> {
        Inner { #[pin] future: Fut, record: Option<Record> },
        Refused { refused: Option<Rejection> },
    }
}

impl<Fut, B, E> Future for TerminalFuture<Fut>
where
    Fut: Future<Output = Result<Response<B>, E>>,
    E: Into<BoxError>,
{
    type Output = Result<Response<B>, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Inner { future, record } => future.poll(cx).map_err(|error| {
                let refused = refusal(error.into());
                if let Some(record) = record {
                    record.refused(slot::Forward::NAME, refused.code());
                }
                refused.into()
            }),
            // Pending once taken: a future must not be polled after it was ready.
            StateProj::Refused { refused } => refused
                .take()
                .map_or(Poll::Pending, |refused| Poll::Ready(Err(refused.into()))),
        }
    }
}

/// The refusal that an error is or stems from, else `INTERNAL`: as what the answer stage makes of it, stages in between
/// see it already. What became of the request is not known then, as with any error that does not say so.
#[cold]
fn refusal(error: BoxError) -> Rejection {
    match Rejection::find(&*error) {
        Some(refused) => refused.clone(),
        None => {
            let refused = Rejection::new(&codes::INTERNAL).failed(Failure::Unknown);
            refused.caused_by(error)
        }
    }
}
