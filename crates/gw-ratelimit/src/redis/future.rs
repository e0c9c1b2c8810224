use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gw_core::OnReject;
use gw_core::late::LateFuture;
use http::request::Parts;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::admission::{Desk, Question};
use super::service::go_on;
use crate::future;

pin_project! {
    /// The decision, and then the answer of the inner service with the limits' fields, or a refusal.
    ///
    /// `S` is the inner service and `F` its future, `B` the request's body, `R` the renderer and `T` the outcome.
    ///
    /// # Cancel safety
    ///
    /// While Redis is asked, dropping it drops the request; it has then been charged once or not at all. Dropping it while the
    /// inner service becomes ready, which it does after that, drops the request as well. Then it is as for the
    /// [local layer](crate::future::ResponseFuture).
    pub struct ResponseFuture<S, F, B, R, T> {
        #[pin]
        state: State<S, F, B, R, T>,
    }
}

/// The answer to a request that had to wait.
type Late<S, F, B, R, T> = future::ResponseFuture<LateFuture<S, Request<B>, F>, R, T>;

pin_project! {
    #[project = StateProjection]
    enum State<S, F, B, R, T> {
        Asking {
            question: Question,
            // Taken when the answer is there. Boxed: it is large, and this is the way that crosses the network.
            waiting: Option<Box<Waiting<S, B, R>>>,
        },
        Decided {
            #[pin]
            outcome: future::ResponseFuture<F, R, T>,
        },
        // Boxed as what waited was.
        Late { outcome: Pin<Box<Late<S, F, B, R, T>>> },
    }
}

/// What waits for the decision.
pub(super) struct Waiting<S, B, R> {
    /// Not ready: see [`late`](gw_core::late).
    pub(super) inner: S,
    pub(super) parts: Parts,
    pub(super) body: B,
    pub(super) desk: Desk,
    pub(super) on_reject: R,
}

impl<S, F, B, R, T> ResponseFuture<S, F, B, R, T> {
    pub(super) fn asking(question: Question, waiting: Waiting<S, B, R>) -> Self {
        Self {
            state: State::Asking {
                question,
                waiting: Some(Box::new(waiting)),
            },
        }
    }

    pub(super) const fn decided(outcome: future::ResponseFuture<F, R, T>) -> Self {
        Self {
            state: State::Decided { outcome },
        }
    }
}

impl<S, B, R, ResB> Future for ResponseFuture<S, S::Future, B, R, Result<Response<ResB>, R::Error>>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    S::Error: 'static,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    type Output = Result<Response<ResB>, R::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProjection::Asking { question, waiting } => {
                    let outcome = ready!(question.as_mut().poll(cx));
                    // Pending once taken, which it never is: the state is replaced at once.
                    let Some(waiting) = waiting.take() else {
                        return Poll::Pending;
                    };
                    let Waiting {
                        inner,
                        mut parts,
                        body,
                        desk,
                        on_reject,
                    } = *waiting;
                    let mut advert = None;
                    let decided = desk
                        .admission
                        .tell(&mut parts, desk.slot, outcome, &mut advert);
                    let call = |request| LateFuture::new(inner, request);
                    let outcome = go_on(decided, advert, (parts, body), call, &on_reject);
                    let outcome = Box::pin(outcome);
                    state.set(State::Late { outcome });
                }
                StateProjection::Decided { outcome } => return outcome.poll(cx),
                StateProjection::Late { outcome } => return outcome.as_mut().poll(cx),
            }
        }
    }
}

impl<S, F, B, R, T> fmt::Debug for ResponseFuture<S, F, B, R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
