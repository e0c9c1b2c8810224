//! A measurement that ends: in time, on a signal, and with an exit status.

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::Result;

/// The exit status of a measurement: 0 if what it measures holds its promise (`true`), 1 if not, 2 if it could not be
/// made, and then the error on standard error.
#[allow(
    clippy::print_stderr,
    reason = "the caller is a program, and this is where its errors end"
)]
pub fn status(ended: Result<bool>) -> ExitCode {
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs a measurement on the current thread. SIGINT and SIGTERM drop it and with it its processes, and so does a panic.
///
/// # Errors
///
/// The measurement's own, or that it was not done within `limit`, or was interrupted.
pub fn supervise(limit: Duration, measurement: impl Future<Output = Result<bool>>) -> Result<bool> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            ended = timeout(limit, measurement) => {
                ended.unwrap_or_else(|_| Err(format!("not done within {limit:?}").into()))
            }
            _ = interrupt.recv() => Err("interrupted".into()),
            _ = terminate.recv() => Err("terminated".into()),
        }
    })
}
