//! The access log: one JSON object a line, written by a thread of its own.
//!
//! A request hands its line over in a bounded buffer and never waits for the disk or for whoever reads the pipe. What
//! does not fit is lost, and counted.

mod counts;
mod json;
mod line;
mod queue;
mod sampling;
#[cfg(test)]
mod tests;
mod writer;

use std::cell::RefCell;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gw_core::ConfigError;
use gw_core::telling::contained;
use tokio::time::Instant;

use self::counts::Counts;
pub use self::counts::LineCounts;
pub(crate) use self::counts::Outcome;
use self::line::MAX_LINE;
use self::queue::{Queue, Refused};
use self::sampling::{Decision, Sampling, checked_budget};
use self::writer::Target;
use crate::observation::Observed;
use crate::ratio::Ratio;
use crate::vocabulary::Class;

/// An access log that is being written.
///
/// It belongs to whoever ends the process: dropping it closes the log, waits until all lines have been written, but not
/// for longer than [`AccessLogBuilder::flush_timeout`], and counts those that have not as lost. Requests that end
/// afterwards have their lines counted as lost.
///
/// If the log's thread panics, in the [writer](AccessLogBuilder::writer), a log subscriber or a metrics recorder, the log has ended
/// until one is started anew: what it has not written counts as lost by writing, what comes later as lost by a closed log, and nobody
/// waits for it.
///
/// # Examples
///
/// ```
/// use gw_observe::{AccessLog, ObserveLayer};
///
/// # fn main() -> Result<(), gw_observe::ConfigError> {
/// let log = AccessLog::builder().normal(0.1).stdout().start()?;
/// let layer = ObserveLayer::builder().access_log(&log).build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it closes the log"]
pub struct AccessLog {
    shared: Arc<Shared>,
    flush_timeout: Duration,
}

/// What an operator may read and change while the log is written. Cheap to clone; it does not keep the log open.
#[derive(Debug, Clone)]
pub struct AccessLogHandle {
    shared: Arc<Shared>,
}

/// Builds an [`AccessLog`].
#[must_use = "a builder does nothing until it is started"]
pub struct AccessLogBuilder {
    target: Target,
    normal: f64,
    health: f64,
    health_paths: Vec<Box<str>>,
    slow_over: Duration,
    budget_per_second: u32,
    buffer_bytes: usize,
    flush_timeout: Duration,
}

/// What requests, the writer and handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    queue: Queue,
    sampling: Sampling,
    counts: Counts,
    health_paths: Box<[Box<str>]>,
    started: Instant,
}

impl AccessLog {
    /// A log to standard output with the shares and limits that the builder's methods name.
    pub fn builder() -> AccessLogBuilder {
        AccessLogBuilder {
            target: Target::Stdout,
            normal: 0.1,
            health: 0.01,
            health_paths: ["/healthz", "/readyz", "/livez"].map(Box::from).into(),
            slow_over: Duration::from_secs(1),
            budget_per_second: 2_000,
            buffer_bytes: 4 << 20,
            flush_timeout: Duration::from_secs(1),
        }
    }

    /// What an operator may read and change while the log is written.
    pub fn handle(&self) -> AccessLogHandle {
        AccessLogHandle {
            shared: self.shared(),
        }
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        let Shared { queue, counts, .. } = &*self.shared;
        queue.close(self.flush_timeout, |lost| {
            counts.count(Outcome::LostClosed, lost);
            contained(|| counts.tell(Outcome::LostClosed, lost));
        });
    }
}

impl AccessLogHandle {
    /// What has become of the lines so far.
    pub fn counts(&self) -> LineCounts {
        let of = |outcome| self.shared.counts.of(outcome);
        self.shared.queue.read(|queued| LineCounts {
            written: of(Outcome::Written),
            sampled_out: of(Outcome::SampledOut),
            over_budget: of(Outcome::OverBudget),
            lost_full: of(Outcome::LostFull),
            lost_write: of(Outcome::LostWrite),
            lost_closed: of(Outcome::LostClosed),
            queued,
        })
    }

    /// Opens the file anew before anything else is written: for those who have renamed it. If that fails, the old one is
    /// written to, and it is tried again each second. Does nothing to a log that is no file.
    pub fn reopen(&self) {
        self.shared.queue.reopen();
    }

    /// Whether the file was to be opened [anew](Self::reopen) and could not be yet. Lines go into the old one meanwhile, which
    /// whoever rotates logs may remove; they count as written.
    pub fn is_reopening_failing(&self) -> bool {
        self.shared.counts.is_reopening_failing()
    }

    /// Waits until all lines handed over so far have been written or lost, but not for longer than `limit`. Returns
    /// whether they have. Blocks the thread: not for a runtime's.
    pub fn flush(&self, limit: Duration) -> bool {
        self.shared.queue.flush(limit)
    }

    /// Changes which share of the requests of a class gets a line, from now on.
    ///
    /// # Errors
    ///
    /// If `share` is not a number from 0 to 1.
    pub fn set_share(&self, class: Class, share: f64) -> Result<(), ConfigError> {
        let share = Ratio::new("share", share)?;
        self.shared.sampling.set_rate(class, share);
        Ok(())
    }
}

impl AccessLogBuilder {
    /// The largest buffer, in bytes.
    pub const MAX_BUFFER_BYTES: usize = 1 << 30;

    /// Writes to standard output. This is what it does unless it is told otherwise.
    pub fn stdout(mut self) -> Self {
        self.target = Target::Stdout;
        self
    }

    /// Appends to a file, which is made if it is not there. A named pipe must have a reader when it is opened.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.target = Target::File(path.into());
        self
    }

    /// Writes to `out`, on the log's thread. It may block; a panic ends the log.
    pub fn writer(mut self, out: impl Write + Send + 'static) -> Self {
        self.target = Target::Writer(Box::new(out));
        self
    }

    /// The share of normal requests that gets a line, from 0 to 1: a tenth, unless it is said otherwise. Errors and slow
    /// requests all do.
    pub const fn normal(mut self, share: f64) -> Self {
        self.normal = share;
        self
    }

    /// The share of health checks that gets a line, from 0 to 1: a hundredth, unless it is said otherwise.
    pub const fn health(mut self, share: f64) -> Self {
        self.health = share;
        self
    }

    /// The paths of health checks, exactly as they are requested: `/healthz`, `/readyz` and `/livez`, unless it is said
    /// otherwise.
    pub fn health_paths<P: Into<Box<str>>>(mut self, paths: impl IntoIterator<Item = P>) -> Self {
        self.health_paths = paths.into_iter().map(Into::into).collect();
        self
    }

    /// A request that takes longer is slow: one second, unless it is said otherwise. The time in which the client was
    /// waited for does not count, for a client that reads slowly would otherwise fill the log.
    pub const fn slow_over(mut self, limit: Duration) -> Self {
        self.slow_over = limit;
        self
    }

    /// The most lines a second for each [`Class`]: 2000, unless it is said otherwise. Those over it are counted in one
    /// summary line a second.
    pub const fn budget_per_second(mut self, lines: u32) -> Self {
        self.budget_per_second = lines;
        self
    }

    /// How many bytes of lines wait at most to be written: 4 MiB, unless it is said otherwise. As much again is in the
    /// writer's hands. What does not fit is lost.
    pub const fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// How long dropping the log waits for lines to be written: one second, unless it is said otherwise.
    pub const fn flush_timeout(mut self, limit: Duration) -> Self {
        self.flush_timeout = limit;
        self
    }

    /// Whether the settings are within their bounds. Opens nothing and starts nothing, for those who check a
    /// configuration beside a log that is being written.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), but for what the system refuses.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.sampling().map(drop)
    }

    fn sampling(&self) -> Result<Sampling, ConfigError> {
        let normal = Ratio::new("normal", self.normal)?;
        let health = Ratio::new("health", self.health)?;
        let budget = checked_budget(self.budget_per_second)?;
        if !(MAX_LINE..=Self::MAX_BUFFER_BYTES).contains(&self.buffer_bytes) {
            return Err(ConfigError::new(
                "buffer_bytes",
                "must be 4 KiB to 1 GiB: a line may have 4 KiB",
            ));
        }
        Ok(Sampling::new(normal, health, self.slow_over, budget))
    }

    /// Opens the target and starts the log's thread.
    ///
    /// # Errors
    ///
    /// If a share is not a number from 0 to 1, there is no budget, the buffer holds less than one line or more than
    /// [`MAX_BUFFER_BYTES`](Self::MAX_BUFFER_BYTES), the file cannot be opened, or the system refuses a thread.
    pub fn start(self) -> Result<AccessLog, ConfigError> {
        let sampling = self.sampling()?;
        let failed = |field| {
            move |error: std::io::Error| ConfigError::new(field, format!("cannot be used: {error}"))
        };
        let sink = self.target.open().map_err(failed("file"))?;
        let shared = Arc::new(Shared {
            queue: Queue::new(self.buffer_bytes),
            sampling,
            counts: Counts::default(),
            health_paths: self.health_paths.into(),
            started: Instant::now(),
        });
        let writing = Arc::clone(&shared);
        thread::Builder::new()
            .name("gw-access-log".to_owned())
            .spawn(move || writer::run(&writing, sink))
            .map_err(failed("thread"))?;
        Ok(AccessLog {
            shared,
            flush_timeout: self.flush_timeout,
        })
    }
}

impl fmt::Debug for AccessLogBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLogBuilder")
            .field("normal", &self.normal)
            .field("health", &self.health)
            .field("budget_per_second", &self.budget_per_second)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// Where this thread writes lines before they are handed over. It stays for as long as the thread.
    static LINE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Shared {
    /// Writes the line of a request that has ended at `end`, or counts why there is none.
    pub(crate) fn offer(&self, observed: &Observed<'_>, end: Instant) {
        self.counts.register();
        let class = self.class(observed);
        let age = end.saturating_duration_since(self.started);
        match self.sampling.decide(class, observed.trace.trace_id, age) {
            Decision::SampledOut => self.counts.add(Outcome::SampledOut, 1),
            Decision::OverBudget => self.counts.add(Outcome::OverBudget, 1),
            Decision::Keep { rate } => {
                let hand_over = |buffer: &mut Vec<u8>| {
                    buffer.clear();
                    line::write(buffer, observed, rate);
                    self.queue.push(buffer)
                };
                let buffered = LINE.try_with(|buffer| {
                    let mut buffer = buffer.try_borrow_mut().ok()?;
                    Some(hand_over(&mut buffer))
                });
                // A thread that is ending has no buffer any more.
                let handed_over = match buffered {
                    Ok(Some(result)) => result,
                    Ok(None) | Err(_) => hand_over(&mut Vec::new()),
                };
                match handed_over {
                    Ok(()) => {}
                    Err(Refused::Full) => self.counts.add(Outcome::LostFull, 1),
                    Err(Refused::Closed) => self.counts.add(Outcome::LostClosed, 1),
                }
            }
        }
    }

    fn class(&self, observed: &Observed<'_>) -> Class {
        let times = &observed.times;
        match observed.verdict.failure(observed.said) {
            Some(class) => class,
            None if times.total.saturating_sub(times.client) > self.sampling.slow_over => {
                Class::Slow
            }
            None if self.health_paths.iter().any(|it| **it == *observed.path) => Class::Health,
            None => Class::Normal,
        }
    }
}
