//! The thread that writes.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
#[cfg(unix)]
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use gw_core::telling::contained;
use tokio::time::Instant;

use super::Shared;
use super::counts::Outcome;
use super::line::{Missing, write_summary};
use super::queue::Batch;
use super::sampling::LeftOut;
use crate::telemetry;
use crate::vocabulary::Class;

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
    /// The file is to be opened anew, and could not be so far: `out` has another name by now, and may be removed any time.
    stale: bool,
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
            stale: false,
        })
    }
}

/// Refuses a named pipe that nobody reads: opening it would wait for a reader, here for ever.
fn append_to(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    if std::fs::metadata(path).is_ok_and(|it| it.file_type().is_fifo()) {
        use rustix::fs::{OFlags, fcntl_setfl};
        use rustix::io::Errno;

        let no_wait = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
        let pipe = options.custom_flags(no_wait).open(path);
        let pipe = pipe.map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NXIO) => io::Error::other("nobody reads this pipe"),
            _ => error,
        })?;
        fcntl_setfl(&pipe, OFlags::APPEND)?;
        return Ok(pipe);
    }
    options.open(path)
}

/// Ends the log, however the writer ends: nobody waits for one that has panicked, and what it leaves is counted.
struct Ended<'a>(&'a Shared);

/// Writes until the log is closed and nothing is left to write. Others' code runs here, which may panic: the target's, and that of
/// the recorder and the subscriber. The log has ended then.
pub(super) fn run(shared: &Shared, mut sink: Sink) {
    let _ended = Ended(shared);
    let mut batch = Batch::with_capacity(shared.queue.capacity());
    let mut summary = Summary::new();
    let mut failing = false;
    loop {
        let work = shared.queue.take(&mut batch);
        let now = Instant::now();
        let is_due = summary.is_due(now);
        sink.renew(work.reopen, is_due);
        if work.reopen || is_due {
            shared.counts.reopening_fails(sink.stale);
        }
        if work.last || is_due {
            summary.append(&mut batch.bytes, shared, now);
        }
        let (written, result) = sink.write(shared, &batch);
        shared.queue.settle(|| {
            let became = [
                (Outcome::Written, written),
                (Outcome::LostWrite, batch.lines - written),
            ];
            // All, before a recorder can panic: these lines are in the queue no more.
            for (outcome, lines) in became {
                shared.counts.count(outcome, lines);
            }
            for (outcome, lines) in became {
                shared.counts.tell(outcome, lines);
            }
        });
        summary.settle(result.is_ok());
        // Where there was nothing to write, nothing is known.
        if !batch.bytes.is_empty() && failing != result.is_err() {
            failing = !failing;
            telemetry::writing_failed(result.err());
        }
        batch.clear();
        if work.last {
            break;
        }
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        let Shared { queue, counts, .. } = self.0;
        let mut lost = 0;
        queue.end(|left| {
            lost = left;
            counts.count(Outcome::LostWrite, left);
        });
        if thread::panicking() {
            contained(|| counts.tell(Outcome::LostWrite, lost));
            contained(telemetry::writer_panicked);
        }
    }
}

impl Sink {
    /// Opens the file anew if that is asked for, under the name that it had: whoever rotates logs has given the old one
    /// another name. If that fails, the old one is written to, and each `again` is another try.
    fn renew(&mut self, is_asked: bool, again: bool) {
        let Some(path) = &self.path else { return };
        let is_due = is_asked || (self.stale && again);
        if !is_due {
            return;
        }
        let file = append_to(path);
        self.stale = file.is_err();
        match file {
            Ok(file) => {
                // An empty file has no half line; one that nobody has renamed still has it.
                self.torn &= !file.metadata().is_ok_and(|it| it.len() == 0);
                self.out = Box::new(file);
                telemetry::reopened();
            }
            // Once for who has asked, and not with each try.
            Err(error) if is_asked => telemetry::reopening_failed(&error),
            Err(_) => {}
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
            result = patiently(shared, || self.out.flush());
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
            match patiently(shared, || self.out.write(bytes))? {
                0 => return Err(ErrorKind::WriteZero.into()),
                count => *bytes = bytes.get(count..).unwrap_or_default(),
            }
        }
        Ok(())
    }
}

/// Tries until a pipe that somebody has made non-blocking is not full any more, or nobody waits for the writer: what follows waits in
/// the queue.
fn patiently<T>(shared: &Shared, mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match attempt() {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock && !shared.queue.is_abandoned() => {
                shared.queue.pause();
            }
            done => return done,
        }
    }
}

/// The lines that stand for lines which are not there.
struct Summary {
    last: Instant,
    lost: [(Outcome, Told); 2],
    left_out: [(Class, Told); Class::ALL.len()],
}

/// What the log tells of lines that are not there.
#[derive(Default)]
struct Told {
    written: LeftOut,
    /// With those in the summary that is about to be written.
    appended: LeftOut,
}

impl Summary {
    fn new() -> Self {
        Self {
            last: Instant::now(),
            lost: [Outcome::LostFull, Outcome::LostWrite].map(|outcome| (outcome, Told::default())),
            left_out: Class::EACH.map(|class| (class, Told::default())),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.last) >= SUMMARY_EVERY
    }

    fn append(&mut self, out: &mut Vec<u8>, shared: &Shared, now: Instant) {
        self.last = now;
        for (class, told) in &mut self.left_out {
            let left_out = shared.sampling.left_out(*class);
            told.append(out, Missing::OverBudget(*class), left_out);
        }
        for (outcome, told) in &mut self.lost {
            let lines = shared.counts.of(*outcome);
            let requests = lines as f64;
            let lost = LeftOut { lines, requests };
            told.append(out, Missing::Lost(outcome.as_str()), lost);
        }
    }

    /// What was appended has been written; if it has not, the next summary tells it again.
    fn settle(&mut self, written: bool) {
        let left_out = self.left_out.iter_mut().map(|(_, told)| told);
        let lost = self.lost.iter_mut().map(|(_, told)| told);
        for told in left_out.chain(lost) {
            match written {
                true => told.written = told.appended,
                false => told.appended = told.written,
            }
        }
    }
}

impl Told {
    /// Appends a summary of those of `all` that the log does not tell of yet.
    fn append(&mut self, out: &mut Vec<u8>, missing: Missing, all: LeftOut) {
        self.appended = all;
        let lines = all.lines - self.written.lines;
        if lines > 0 {
            let requests = all.requests - self.written.requests;
            write_summary(out, missing, lines, lines as f64 / requests);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use gw_core::context::TraceId;

    use super::super::tests::shared;
    use super::*;
    use crate::ratio::Ratio;

    /// The one summary of now; null if there is none.
    fn sum_up(summary: &mut Summary, shared: &Shared) -> serde_json::Value {
        let mut out = Vec::new();
        summary.append(&mut out, shared, Instant::now());
        serde_json::from_slice(&out).unwrap_or_default()
    }

    /// The lines that it tells of.
    fn summed_up(summary: &mut Summary, shared: &Shared) -> u64 {
        let lines = sum_up(summary, shared)["lines"].as_u64();
        lines.unwrap_or_default()
    }

    /// Story: each second, the summary of lost lines was lost with them for as long as writing failed.
    #[test]
    fn a_summary_that_could_not_be_written_comes_again() {
        let shared = shared();
        let mut summary = Summary::new();
        for (lost, is_written, told) in [(3, false, 3), (2, true, 5), (0, true, 0), (1, true, 1)] {
            shared.counts.add(Outcome::LostWrite, lost);
            assert_eq!(summed_up(&mut summary, &shared), told);
            summary.settle(is_written);
        }
    }

    /// Story: lines over budget were taken off the count before their summary was written, and it was lost.
    #[test]
    fn a_summary_of_lines_over_budget_that_could_not_be_written_comes_again() {
        let shared = shared();
        let mut summary = Summary::new();
        let trace = TraceId::new([1; 16]).unwrap();
        // The budget of each second is one line.
        let leave_out = |second, lines| {
            for _ in 0..=lines {
                let age = Duration::from_secs(second);
                shared.sampling.decide(Class::Error, trace, age);
            }
        };
        for (second, left_out, is_written, told) in [
            (1, 3, false, 3),
            (2, 2, true, 5),
            (3, 0, true, 0),
            (4, 1, true, 1),
        ] {
            leave_out(second, left_out);
            assert_eq!(summed_up(&mut summary, &shared), told);
            summary.settle(is_written);
            // Batches between two summaries say nothing about them.
            summary.settle(true);
        }
    }

    /// Story: lines that were left out at one share were summed up with the next one: 8000 of as many requests stood for 80,000.
    #[test]
    fn a_summary_says_what_its_lines_stand_for() {
        let shared = shared();
        let mut summary = Summary::new();
        let mut trace = 0u128;
        let mut leave_out = |share, lines| {
            let share = Ratio::new("share", share).unwrap();
            shared.sampling.set_rate(Class::ClientError, share);
            let before = shared.sampling.left_out(Class::ClientError).lines;
            while shared.sampling.left_out(Class::ClientError).lines < before + lines {
                trace += 1;
                let trace = TraceId::new(trace.to_be_bytes()).unwrap();
                shared
                    .sampling
                    .decide(Class::ClientError, trace, Duration::ZERO);
            }
        };
        let mut said = |shared: &Shared| {
            let line = sum_up(&mut summary, shared);
            summary.settle(true);
            (
                line["lines"].as_u64().unwrap(),
                line["sampled_rate"].as_f64().unwrap(),
            )
        };
        leave_out(1.0, 800);
        leave_out(0.1, 0);
        assert_eq!(said(&shared), (800, 1.0));
        leave_out(0.1, 8);
        assert_eq!(said(&shared), (8, 0.1));
        // 20 of 20, and 6 of 20.
        leave_out(1.0, 20);
        leave_out(0.3, 6);
        assert_eq!(said(&shared), (26, 0.65));
        // As it was written.
        for _ in 0..100 {
            leave_out(0.3, 7);
            assert_eq!(said(&shared), (7, 0.3));
        }
    }

    /// Story: the start hung in a pipe that nobody read.
    #[cfg(unix)]
    #[test]
    fn a_pipe_needs_a_reader() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let open = || Target::File(path.clone()).open();
        assert_eq!(open().err().unwrap().to_string(), "nobody reads this pipe");
        // On Linux this does not wait for a writer.
        let reading = OpenOptions::new().read(true).write(true).open(&path);
        let pipe = append_to(&path).unwrap();
        let flags = rustix::fs::fcntl_getfl(&pipe).unwrap();
        assert!(!flags.contains(rustix::fs::OFlags::NONBLOCK));
        drop((pipe, reading));
        assert!(open().is_err());
    }

    /// Story: standard output is flushed after it is written, and a full pipe was said then to lose lines; with nothing lost, the
    /// summaries were written again.
    #[test]
    fn a_flush_that_finds_the_pipe_full_is_waited_for() {
        struct Full(u8);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                match self.0.checked_sub(1) {
                    None => Ok(()),
                    Some(left) => {
                        self.0 = left;
                        Err(ErrorKind::WouldBlock.into())
                    }
                }
            }
        }
        let mut sink = Target::Writer(Box::new(Full(2))).open().unwrap();
        let batch = Batch {
            bytes: b"{}\n".to_vec(),
            lines: 1,
        };
        let (written, result) = sink.write(&shared(), &batch);
        assert_eq!((written, result.ok()), (1, Some(())));
    }

    /// Story: a file that was opened anew without having been renamed got the next line appended to half a line.
    #[test]
    fn a_half_line_is_ended_in_the_file_that_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        fs::write(&path, "{\"half").unwrap();
        let mut sink = Target::File(path.clone()).open().unwrap();
        sink.torn = true;
        sink.renew(true, false);
        assert!(sink.torn);
        fs::rename(&path, dir.path().join("access.log.1")).unwrap();
        sink.renew(true, false);
        assert!(!sink.torn);
    }

    /// Story: a directory that could not be written to for a moment kept the log in the renamed file until the next rotation, which
    /// removed that file.
    #[test]
    fn a_file_that_could_not_be_opened_anew_is_tried_again() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, moved) = (dir.path().join("logs"), dir.path().join("moved"));
        fs::create_dir(&logs).unwrap();
        let path = logs.join("access.log");
        let mut sink = Target::File(path.clone()).open().unwrap();
        sink.renew(false, true);
        assert!(!sink.stale, "nobody asked");
        fs::rename(&logs, &moved).unwrap();
        sink.renew(true, false);
        sink.renew(false, true);
        assert!(sink.stale);
        fs::create_dir(&logs).unwrap();
        sink.renew(false, false);
        assert!(sink.stale, "not with each batch");
        sink.renew(false, true);
        assert!(!sink.stale && path.exists());
    }
}
