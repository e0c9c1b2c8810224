//! The thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::counts::Outcome;
use super::line::{Missing, write_summary};
use super::queue::Batch;
use crate::telemetry;

/// How often lines that were left out are summed up in one.
const SUMMARY_EVERY: Duration = Duration::from_secs(1);

/// Where lines go.
pub(super) enum Target {
    Stdout,
    File(PathBuf),
    Writer(Box<dyn Write + Send>),
}

/// An open target.
pub(super) struct Sink {
    out: Box<dyn Write + Send>,
    /// Of a file that can be opened anew.
    path: Option<PathBuf>,
    /// Writing failed within a line: the next one must not be appended to its first half.
    torn: bool,
}

impl Target {
    pub(super) fn open(self) -> io::Result<Sink> {
        let (out, path): (Box<dyn Write + Send>, _) = match self {
            Self::Stdout => (Box::new(io::stdout()), None),
            Self::File(path) => (Box::new(append_to(&path)?), Some(path)),
            Self::Writer(out) => (out, None),
        };
        Ok(Sink {
            out,
            path,
            torn: false,
        })
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// Writes until the log is closed and nothing is left to write.
pub(super) fn run(shared: &Shared, mut sink: Sink) {
    let mut batch = Batch::with_capacity(shared.queue.capacity());
    let mut summary = Summary::new();
    let mut failing = false;
    loop {
        let work = shared.queue.take(&mut batch);
        if work.reopen {
            sink.reopen();
        }
        let now = Instant::now();
        if work.last || summary.is_due(now) {
            summary.append(&mut batch.bytes, shared, now);
        }
        let (written, result) = sink.write(shared, &batch);
        shared.queue.settle(|| {
            shared.counts.add(Outcome::Written, written);
            shared.counts.add(Outcome::LostWrite, batch.lines - written);
        });
        if failing != result.is_err() {
            failing = !failing;
            telemetry::writing_failed(result.err());
        }
        batch.clear();
        if work.last {
            break;
        }
    }
    shared.queue.end();
}

impl Sink {
    /// Opens the file anew, under the name that it had: whoever rotates logs has given the old one another name. If that
    /// fails, the old one is written to.
    fn reopen(&mut self) {
        let Some(path) = &self.path else { return };
        match append_to(path) {
            Ok(file) => {
                self.out = Box::new(file);
                self.torn = false;
                telemetry::reopened(None);
            }
            Err(error) => telemetry::reopened(Some(&error)),
        }
    }

    /// Writes the batch, and tells how many lines of requests have been written.
    fn write(&mut self, shared: &Shared, batch: &Batch) -> (u64, io::Result<()>) {
        if batch.bytes.is_empty() {
            return (0, Ok(()));
        }
        let mut rest = batch.bytes.as_slice();
        let mut result = Ok(());
        if self.torn {
            result = self.write_all(shared, &mut &b"\n"[..]);
            self.torn = result.is_err();
        }
        if result.is_ok() {
            result = self.write_all(shared, &mut rest);
        }
        if result.is_ok() {
            result = self.out.flush();
        }
        if rest.is_empty() {
            return (batch.lines, result);
        }
        let gone = batch.bytes.len() - rest.len();
        let gone = batch.bytes.get(..gone).unwrap_or_default();
        self.torn |= gone.last().is_some_and(|byte| *byte != b'\n');
        let whole = gone.iter().filter(|byte| **byte == b'\n').count();
        // Summaries are at the end of the batch, and are no requests' lines.
        let whole = u64::try_from(whole).unwrap_or(u64::MAX);
        (whole.min(batch.lines), result)
    }

    /// Writes all of `bytes`, which is what is left of it when this fails.
    fn write_all(&mut self, shared: &Shared, bytes: &mut &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.out.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => *bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A pipe that somebody has made non-blocking, and that is full: what follows waits in the queue.
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && !shared.queue.is_closed() =>
                {
                    shared.queue.pause();
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The lines that stand for lines which are not there.
struct Summary {
    last: Instant,
    lost: [(Outcome, u64); 2],
}

impl Summary {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            lost: [(Outcome::LostFull, 0), (Outcome::LostWrite, 0)],
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= SUMMARY_EVERY
    }

    fn append(&mut self, out: &mut Vec<u8>, shared: &Shared, now: Instant) {
        self.last = now;
        for (class, lines, rate) in shared.sampling.take_left_out() {
            write_summary(out, Missing::OverBudget(class), lines, rate);
        }
        for (outcome, told) in &mut self.lost {
            let lost = shared.counts.of(*outcome);
            let new = lost - std::mem::replace(told, lost);
            if new > 0 {
                write_summary(out, Missing::Lost(outcome.as_str()), new, 1.0);
            }
        }
    }
}
