//! What this program and its layers tell, such as `retry_budget_exceeded`, as lines on standard error.
//!
//! A thread of its own writes them: nobody has to read them for the gateway to serve, nor for it to end. At the bound lines are
//! dropped, and counted.

use std::io::{self, Write};

use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::LevelFilter;

/// How many lines wait at most.
const WAITING: usize = 256;

/// Writes to standard error until it is dropped. Then it waits a second at most for what is still to be written.
#[derive(Debug)]
pub struct Events {
    lines: NonBlocking,
    _writer: WorkerGuard,
}

impl Events {
    /// Writes the events of this process to standard error from now on.
    ///
    /// # Errors
    ///
    /// If somebody else has the events already.
    pub fn to_stderr() -> Result<Self, String> {
        let (lines, writer) = NonBlockingBuilder::default()
            .buffered_lines_limit(WAITING)
            .lossy(true)
            .finish(io::stderr());
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::INFO)
            .with_ansi(false)
            .with_writer(lines.clone())
            .try_init()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            lines,
            _writer: writer,
        })
    }

    /// Writes a line of this program's own, after the events before it.
    pub fn say(&self, line: &str) {
        // In one piece, as events are. It does not fail: what does not fit is counted.
        let _ = self.lines.clone().write_all(format!("{line}\n").as_bytes());
    }

    /// How many lines did not fit.
    pub fn lost(&self) -> usize {
        self.lines.error_counter().dropped_lines()
    }
}
