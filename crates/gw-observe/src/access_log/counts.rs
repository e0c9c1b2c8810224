use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::telemetry::LineMetrics;

/// What has become of the lines of all requests so far. The fields add up to the number of requests that have ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LineCounts {
    /// Lines written.
    pub written: u64,
    /// Requests that got no line by the share of their class.
    pub sampled_out: u64,
    /// Lines left out because their class's budget for a second was used up. Summary lines count them, too.
    pub over_budget: u64,
    /// Lines lost because the buffer was full: they are written more slowly than they come, or not at all.
    pub lost_full: u64,
    /// Lines lost because writing failed or panicked.
    pub lost_write: u64,
    /// Lines lost because they came after the log was closed or had ended by a panic, or had not been written when the time to do so
    /// was over.
    pub lost_closed: u64,
    /// Lines that wait to be written, or are being written.
    pub queued: u64,
}

impl LineCounts {
    /// All requests that have ended.
    pub const fn requests(&self) -> u64 {
        self.written + self.sampled_out + self.over_budget + self.lost() + self.queued
    }

    /// All lines lost, whatever the reason.
    pub const fn lost(&self) -> u64 {
        self.lost_full + self.lost_write + self.lost_closed
    }
}

/// What becomes of the line of one request in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Written,
    SampledOut,
    OverBudget,
    LostFull,
    LostWrite,
    LostClosed,
}

impl Outcome {
    pub(crate) const ALL: [Self; 6] = [
        Self::Written,
        Self::SampledOut,
        Self::OverBudget,
        Self::LostFull,
        Self::LostWrite,
        Self::LostClosed,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::SampledOut => "sampled_out",
            Self::OverBudget => "over_budget",
            Self::LostFull => "lost_full",
            Self::LostWrite => "lost_write",
            Self::LostClosed => "lost_closed",
        }
    }
}

/// Counts outcomes, and holds what else there is to tell, for the handle and for the metrics.
#[derive(Debug, Default)]
pub(super) struct Counts {
    outcomes: [AtomicU64; Outcome::ALL.len()],
    reopening_fails: AtomicBool,
    metrics: LineMetrics,
}

impl Counts {
    /// Registers the metrics. On a request's thread: a recorder may be there for that thread alone.
    pub(super) fn register(&self) {
        self.metrics.register();
    }

    pub(super) fn add(&self, outcome: Outcome, lines: u64) {
        self.count(outcome, lines);
        self.tell(outcome, lines);
    }

    /// Counts, and tells no recorder: for those who must have counted all before one can panic.
    pub(super) fn count(&self, outcome: Outcome, lines: u64) {
        if let Some(count) = self.outcomes.get(outcome as usize) {
            // Relaxed: each count stands for itself.
            count.fetch_add(lines, Ordering::Relaxed);
        }
    }

    /// Tells the recorder what was counted.
    pub(super) fn tell(&self, outcome: Outcome, lines: u64) {
        self.metrics.add(outcome, lines);
    }

    pub(super) fn of(&self, outcome: Outcome) -> u64 {
        self.outcomes
            .get(outcome as usize)
            .map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// To be told each second: metrics may have been registered since.
    pub(super) fn reopening_fails(&self, fails: bool) {
        // Relaxed: it stands for itself.
        self.reopening_fails.store(fails, Ordering::Relaxed);
        self.metrics.reopening_fails(fails);
    }

    pub(super) fn is_reopening_failing(&self) -> bool {
        self.reopening_fails.load(Ordering::Relaxed)
    }
}
