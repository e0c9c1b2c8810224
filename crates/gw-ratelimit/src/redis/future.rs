use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use gw_core::OnReject;
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
    /// While Redis is asked, dropping it drops the request and the inner instance that was ready for it; the request has
    /// then been charged once or not at all. After that it is as for the
    /// [local layer](crate::future::ResponseFuture).
    pub struct ResponseFuture<S, F, B, R, T> {
        #[pin]
        state: State<S, F, B, R, T>,
    }
}

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
    }
}

/// What waits for the decision.
pub(super) struct Waiting<S, B, R> {
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
                        mut inner,
                        mut parts,
                        body,
                        desk,
                        on_reject,
                    } = *waiting;
                    let mut advert = None;
                    let decided = desk
                        .admission
                        .tell(&mut parts, desk.slot, outcome, &mut advert);
                    let outcome = go_on(decided, advert, (parts, body), &mut inner, &on_reject);
                    state.set(State::Decided { outcome });
                }
                StateProjection::Decided { outcome } => return outcome.poll(cx),
            }
        }
    }
}

impl<S, F, B, R, T> fmt::Debug for ResponseFuture<S, F, B, R, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
