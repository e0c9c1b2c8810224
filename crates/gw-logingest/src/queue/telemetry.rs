//! Every metric name and log line of the queue.

use std::io;
use std::time::Duration;

use super::{QueueState, QueueStatus};
use crate::telemetry::meter::{Count, Level, QueueLabel, Spread};

const BYTES: &str = "gateway_logingest_queue_bytes";
const EVENTS: &str = "gateway_logingest_queue_events";
const OLDEST: &str = "gateway_logingest_queue_oldest_age_seconds";
const USED: &str = "gateway_logingest_queue_capacity_ratio";
const SERVING: &str = "gateway_logingest_queue_serving";
pub(crate) const COMMIT_SECONDS: &str = "gateway_logingest_commit_duration_seconds";
pub(crate) const COMMIT_SIZE: &str = "gateway_logingest_commit_group_size";
const FAILURES: &str = "gateway_logingest_storage_failures_total";
const BROKEN: &str = "gateway_logingest_segments_broken_total";
const UNREADABLE: &str = "gateway_logingest_unreadable_batches_total";
const MOVED: &str = "gateway_logingest_moved_batches_total";
const RECOVERY_SECONDS: &str = "gateway_logingest_recovery_seconds";
const RECOVERY_TRUNCATED: &str = "gateway_logingest_recovery_truncated_bytes_total";

/// Registers help texts and units.
#[cfg(feature = "metrics")]
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

    describe_gauge!(BYTES, Unit::Bytes, "Bytes of the queue that are in use.");
    describe_gauge!(
        EVENTS,
        Unit::Count,
        "Events in the queue that are not yet delivered."
    );
    describe_gauge!(
        OLDEST,
        Unit::Seconds,
        "How long ago the oldest batch in the queue was received."
    );
    describe_gauge!(
        USED,
        Unit::Count,
        "The part of the queue that is in use, 0 to 1: of its bytes or of its memory for batches on disk."
    );
    describe_gauge!(
        SERVING,
        Unit::Count,
        "1 while the queue takes batches, 0 while it cannot store and once it is closed."
    );
    describe_histogram!(
        COMMIT_SECONDS,
        Unit::Seconds,
        "How long it took to make a group of batches durable."
    );
    describe_histogram!(COMMIT_SIZE, Unit::Count, "Batches that shared one commit.");
    describe_counter!(
        FAILURES,
        Unit::Count,
        "Writes and syncs that failed, each of which ends the use of a segment, and panics of the threads that write and read."
    );
    describe_counter!(
        BROKEN,
        Unit::Count,
        "Segments that were set aside as damaged, or could not be read as a whole."
    );
    describe_counter!(
        UNREADABLE,
        Unit::Count,
        "Batches that were stored and could not be read back."
    );
    describe_counter!(
        MOVED,
        Unit::Count,
        "Batches that were copied forward so that a segment could go."
    );
    describe_gauge!(
        RECOVERY_SECONDS,
        Unit::Seconds,
        "How long it took to open the queue."
    );
    describe_counter!(
        RECOVERY_TRUNCATED,
        Unit::Bytes,
        "Bytes found at opening that are no whole records: writes that a crash cut short."
    );
}

/// The meters of one queue.
#[derive(Debug)]
pub(crate) struct QueueMetrics {
    queue: QueueLabel,
    bytes: Level,
    events: Level,
    oldest: Level,
    used: Level,
    serving: Level,
    commit_seconds: Spread,
    commit_size: Spread,
    failures: Count,
    broken: Count,
    unreadable: Count,
    moved: Count,
    recovery_seconds: Level,
    recovery_truncated: Count,
}

/// The device gives nothing of what was stored.
pub(crate) fn nothing_can_be_read() {
    #[cfg(feature = "tracing")]
    tracing::error!("log queue: nothing can be read, delivery waits");
}

/// The thread that writes has panicked.
pub(crate) fn nothing_is_stored() {
    #[cfg(feature = "tracing")]
    tracing::error!(
        "log queue: the thread that writes has panicked, batches are refused until the queue is opened anew"
    );
}

impl QueueMetrics {
    pub(crate) fn new(queue: QueueLabel) -> Self {
        Self {
            bytes: Level::new(BYTES, &[], &queue),
            events: Level::new(EVENTS, &[], &queue),
            oldest: Level::new(OLDEST, &[], &queue),
            used: Level::new(USED, &[], &queue),
            serving: Level::new(SERVING, &[], &queue),
            commit_seconds: Spread::new(COMMIT_SECONDS, &[], &queue),
            commit_size: Spread::new(COMMIT_SIZE, &[], &queue),
            failures: Count::new(FAILURES, &[], &queue),
            broken: Count::new(BROKEN, &[], &queue),
            unreadable: Count::new(UNREADABLE, &[], &queue),
            moved: Count::new(MOVED, &[], &queue),
            recovery_seconds: Level::new(RECOVERY_SECONDS, &[], &queue),
            recovery_truncated: Count::new(RECOVERY_TRUNCATED, &[], &queue),
            queue,
        }
    }

    /// The queue's name, if it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        self.queue.name()
    }

    pub(crate) fn status(&self, status: &QueueStatus) {
        self.bytes.set(status.bytes as f64);
        self.events.set(status.events as f64);
        self.oldest
            .set(status.oldest.unwrap_or_default().as_secs_f64());
        self.used.set(status.fullness());
        let serving = status.state == QueueState::Serving;
        self.serving.set(f64::from(u8::from(serving)));
    }

    /// What that means is told by [`nothing_is_stored`].
    pub(crate) fn committer_panicked(&self) {
        self.failures.add(1);
    }

    /// A record could not be read for it. What becomes of the record is told when it is known; the panic has spoken for itself.
    pub(crate) fn reader_panicked(&self) {
        self.failures.add(1);
    }

    pub(crate) fn committed(&self, took: Duration, batches: usize) {
        self.commit_seconds.record(took.as_secs_f64());
        self.commit_size.record(batches as f64);
    }

    pub(crate) fn moved(&self, batches: usize) {
        self.moved.add(batches as u64);
    }

    /// A write or a sync of a segment failed.
    pub(crate) fn poisoned(&self, segment: u64, error: &io::Error, intact: bool) {
        self.failures.add(1);
        #[cfg(feature = "tracing")]
        tracing::error!(segment, %error, intact, "log queue: a write failed, the segment is not written to again");
        let _ = (segment, error, intact);
    }

    pub(crate) fn set_aside(&self, segment: u64, why: &'static str) {
        self.broken.add(1);
        #[cfg(feature = "tracing")]
        tracing::error!(segment, why, "log queue: a segment is set aside");
        let _ = (segment, why);
    }

    /// A file that says what is done could not be read.
    pub(crate) fn done_is_unknown(&self, error: &io::Error) {
        #[cfg(feature = "tracing")]
        tracing::error!(%error, "log queue: what is done cannot be read, so that some of it may be delivered again");
        let _ = (self, error);
    }

    pub(crate) fn unreadable(&self, segment: u64, ticket: u64) {
        self.unreadable.add(1);
        #[cfg(feature = "tracing")]
        tracing::error!(
            segment,
            ticket,
            "log queue: a stored batch cannot be read back"
        );
        let _ = (segment, ticket);
    }

    pub(crate) fn recovered(&self, took: Duration, segments: usize, torn: u64) {
        self.recovery_seconds.set(took.as_secs_f64());
        self.recovery_truncated.add(torn);
        #[cfg(feature = "tracing")]
        tracing::info!(?took, segments, torn, "log queue: opened");
        let _ = segments;
    }

    /// Storing does not work, or works again.
    pub(crate) fn failing(&self, error: Option<&io::Error>) {
        #[cfg(feature = "tracing")]
        match error {
            Some(error) => tracing::error!(%error, "log queue: cannot store, batches are refused"),
            None => tracing::info!("log queue: stores again"),
        }
        let _ = error;
    }
}
