//! Calls that do not move what they give.
//!
//! A layer looks at a request, calls the service inside, and wraps the future that it gets. That future is as large as all
//! layers further in together, and how it comes into its wrapping decides what the layer costs: written to a place of its own
//! and moved from there, it is copied once for each layer around it. The compiler lets the call write it where it is to stay
//! only if nothing lives across the call that would have to be dropped if the service panicked. What a layer holds for a
//! request does live that long: its place, its admission, its record. So it stays with the caller, and is taken from there
//! afterwards.

use tower_service::Service;

/// What `wrap` makes of the future that `service`, which must be ready, gives for `request`.
///
/// For the future to be written to where it stays, `wrap` owns nothing that is to be dropped, and decides nothing: it takes
/// what it needs out of an `Option` of the caller, who drops it if the service panics.
///
/// # Examples
///
/// ```
/// use std::task::{Context, Poll};
///
/// use gw_core::call::call_into;
/// use pin_project_lite::pin_project;
/// use tower_service::Service;
///
/// /// Writes a line when it is dropped.
/// struct Line(&'static str);
///
/// impl Drop for Line {
///     fn drop(&mut self) {
///         println!("{}", self.0);
///     }
/// }
///
/// /// Writes a line when a request has ended, however it did.
/// struct Lines<S>(S);
///
/// pin_project! {
///     struct LinesFuture<F> {
///         #[pin]
///         inner: F,
///         line: Option<Line>,
///     }
/// }
///
/// impl<S: Service<R>, R> Service<R> for Lines<S> {
///     type Response = S::Response;
///     type Error = S::Error;
///     type Future = LinesFuture<S::Future>;
///
///     fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
///         self.0.poll_ready(cx)
///     }
///
///     fn call(&mut self, request: R) -> Self::Future {
///         let mut line = Some(Line("it has ended"));
///         call_into(&mut self.0, request, |inner| LinesFuture {
///             inner,
///             line: line.take(),
///         })
///     }
/// }
/// # impl<F: Future> Future for LinesFuture<F> {
/// #     type Output = F::Output;
/// #     fn poll(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
/// #         self.project().inner.poll(cx)
/// #     }
/// # }
/// ```
// Never inlined: in a caller who has something to drop it would be for nothing. No test shows that, the benchmarks do.
#[inline(never)]
pub fn call_into<S, R, F>(service: &mut S, request: R, wrap: impl FnOnce(S::Future) -> F) -> F
where
    S: Service<R>,
{
    let future = call(service, request);
    wrap(future)
}

// Apart, or the call of a layer would be inlined into the one of the layer around it, with all that it has to drop.
#[inline(never)]
fn call<S: Service<R>, R>(service: &mut S, request: R) -> S::Future {
    service.call(request)
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;
    use std::task::{Context, Poll};

    use super::*;

    /// Gives back what it is called with, or panics.
    struct Echo;

    impl Service<Result<u32, &'static str>> for Echo {
        type Response = u32;
        type Error = ();
        type Future = std::future::Ready<Result<u32, ()>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: Result<u32, &'static str>) -> Self::Future {
            std::future::ready(Ok(request.unwrap()))
        }
    }

    #[test]
    fn what_is_held_goes_with_the_future() {
        let held = Rc::new(());
        let mut holds = Some(Rc::clone(&held));
        let called = call_into(&mut Echo, Ok(7), |future| (future, holds.take()));
        assert_eq!(Rc::strong_count(&held), 2);
        assert_eq!(called.0.into_inner(), Ok(7));
    }

    #[test]
    fn what_is_held_stays_with_the_caller_of_a_service_that_panics() {
        let mut holds = Some(Rc::new(()));
        let call = || call_into(&mut Echo, Err("no"), |future| (future, holds.take()));
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        assert!(holds.is_some());
    }
}
