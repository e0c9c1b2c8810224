//! Bounded waiting, so that a test which hangs says what it waited for.

use std::future::Future;
use std::panic::Location;
use std::time::Duration;

/// How long every waiting method of this crate waits before it panics.
///
/// It is a limit for failures, never a part of what a test measures: long enough for a machine that is busy with other
/// things.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for `future` for at most [`PATIENCE`].
///
/// The clock is tokio's. With a paused clock the wait ends as soon as nothing else can run, which is what a
/// test without sockets wants; a test with sockets must leave the clock running.
///
/// # Panics
///
/// When the time is over; the message names `what` and the place of the call.
///
/// # Cancel safety
///
/// That of `future`.
#[track_caller]
pub fn within<F: Future>(what: &str, future: F) -> impl Future<Output = F::Output> + use<F> {
    let caller = Location::caller();
    let what = what.to_owned();
    async move {
        match tokio::time::timeout(PATIENCE, future).await {
            Ok(output) => output,
            Err(_) => panic!("waited {PATIENCE:?} in vain for {what}, asked for at {caller}"),
        }
    }
}
