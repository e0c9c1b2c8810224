use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::call::call_into;
use gw_ratelimit::RateLimit;
use http::Response;
use pin_project_lite::pin_project;
use tower::util::BoxCloneService;
use tower_service::Service;

use super::shared::Asking;

/// The service of [`LimitsLayer`](super::layer::LimitsLayer): requests pass what there is to ask, and no more.
pub(crate) enum Limits<S, T, E> {
    /// There is no limit.
    Unasked(S),
    /// Those that this instance counts alone.
    Local(RateLimit<S>),
    /// Those of stores, behind the ones that this instance counts alone.
    Shared(RateLimit<BoxCloneService<Asking, T, E>>),
}

// By hand: a derive would ask for `T: Clone`.
impl<S: Clone, T, E> Clone for Limits<S, T, E> {
    fn clone(&self) -> Self {
        match self {
            Self::Unasked(inner) => Self::Unasked(inner.clone()),
            Self::Local(limited) => Self::Local(limited.clone()),
            Self::Shared(limited) => Self::Shared(limited.clone()),
        }
    }
}

impl<S, T, E> fmt::Debug for Limits<S, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unasked(_) => "Unasked",
            Self::Local(_) => "Local",
            Self::Shared(_) => "Shared",
        })
    }
}

impl<S, B> Service<Asking> for Limits<S, S::Response, S::Error>
where
    S: Service<Asking, Response = Response<B>, Error: 'static>,
    B: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = LimitsFuture<
        S::Future,
        <RateLimit<S> as Service<Asking>>::Future,
        <RateLimit<BoxCloneService<Asking, S::Response, S::Error>> as Service<Asking>>::Future,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self {
            Self::Unasked(inner) => inner.poll_ready(cx),
            Self::Local(limited) => limited.poll_ready(cx),
            Self::Shared(limited) => limited.poll_ready(cx),
        }
    }

    fn call(&mut self, request: Asking) -> Self::Future {
        match self {
            Self::Unasked(inner) => {
                call_into(inner, request, |future| LimitsFuture::Unasked { future })
            }
            Self::Local(limited) => {
                call_into(limited, request, |future| LimitsFuture::Local { future })
            }
            Self::Shared(limited) => {
                call_into(limited, request, |future| LimitsFuture::Shared { future })
            }
        }
    }
}

pin_project! {
    /// The future of [`Limits`]. Dropping it drops the one inside, and nothing else.
    #[project = LimitsProj]
    pub(crate) enum LimitsFuture<U, L, S> {
        Unasked { #[pin] future: U },
        Local { #[pin] future: L },
        Shared { #[pin] future: S },
    }
}

impl<U, L, S> Future for LimitsFuture<U, L, S>
where
    U: Future,
    L: Future<Output = U::Output>,
    S: Future<Output = U::Output>,
{
    type Output = U::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<U::Output> {
        match self.project() {
            LimitsProj::Unasked { future } => future.poll(cx),
            LimitsProj::Local { future } => future.poll(cx),
            LimitsProj::Shared { future } => future.poll(cx),
        }
    }
}
