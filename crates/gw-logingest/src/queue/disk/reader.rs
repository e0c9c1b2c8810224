//! The thread that reads what was leased.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use gw_core::telling::contained;
use tokio::sync::oneshot;

use super::log::{Unreadable, read_record};
use super::record::Place;
use crate::batch::Batch;
use crate::fs::Fs;
use crate::queue::telemetry::QueueMetrics;

/// How often a read is tried.
const TRIES: usize = 3;

/// Records to read, and whom to tell.
#[derive(Debug)]
pub(super) struct Request<F: Fs> {
    pub(super) jobs: Vec<Job<F>>,
    /// In the order of the jobs.
    pub(super) done: oneshot::Sender<Vec<Result<Batch, Unreadable>>>,
}

/// One record.
#[derive(Debug)]
pub(super) struct Job<F: Fs> {
    pub(super) place: Place,
    /// Held open, so that the record can be read even if the segment goes meanwhile.
    pub(super) file: Option<Arc<F::File>>,
}

/// Reads until nobody can ask any more.
pub(super) fn run<F: Fs>(requests: &Receiver<Request<F>>, metrics: &QueueMetrics) {
    while let Ok(request) = requests.recv() {
        answer(request, metrics);
    }
}

pub(super) fn answer<F: Fs>(request: Request<F>, metrics: &QueueMetrics) {
    let Request { jobs, done } = request;
    // Whoever asked may have lost interest.
    if !done.is_closed() {
        let batches = jobs.iter().map(|job| in_any_case(metrics, || read(job)));
        drop(done.send(batches.collect()));
    }
}

/// Reads one record. A panic is over with it: between two of them the reader has nothing that could be left half changed. The
/// next start tries again, which may be of a version that can read it.
pub(super) fn in_any_case(
    metrics: &QueueMetrics,
    read: impl FnOnce() -> Result<Batch, Unreadable>,
) -> Result<Batch, Unreadable> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        contained(|| metrics.reader_panicked());
        Err(Unreadable::Panicked)
    })
}

pub(super) fn read<F: Fs>(job: &Job<F>) -> Result<Batch, Unreadable> {
    let file = job.file.as_ref().ok_or(Unreadable::Damaged)?;
    let mut read = read_record::<F>(file, &job.place);
    for _ in 1..TRIES {
        if read == Err(Unreadable::Device) {
            read = read_record::<F>(file, &job.place);
        }
    }
    Batch::decode(read?).map_err(|_| Unreadable::Damaged)
}
