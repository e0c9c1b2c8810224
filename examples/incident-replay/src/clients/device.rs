//! The uploader of a device, with the mistakes of the write-up, as a pure state machine.
//!
//! 1. It sends as soon as enough entries wait, and does not wait for the answer before it sends again.
//! 2. A batch that failed is sent again after a fixed pause, for as long as it takes: no backoff, no jitter, no limit of
//!    attempts.
//! 3. Each failed upload is an event worth logging, through the same uploader.
//! 4. A guard is to break that loop: if a batch that holds nothing but such failure events fails, that is not reported,
//!    and it is not sent again. The guard is partial. Failure events wait for the next real ones and go out in one batch
//!    with them, so there never is a batch to which the guard applies.

use std::time::Duration;

/// What a device reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// Something happened: the number of the event on this device.
    Event(u32),
    /// An upload failed: its number on this device, and the status, if there was an answer.
    Failure { upload: u32, status: Option<u16> },
}

impl Entry {
    const fn is_failure(&self) -> bool {
        matches!(self, Self::Failure { .. })
    }
}

/// One upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) entries: Vec<Entry>,
    /// Counts the attempts of this device, this one included.
    upload: u32,
    /// Whether an earlier attempt has failed.
    again: bool,
}

/// The uploader's state.
#[derive(Debug, Default)]
pub(super) struct Uploader {
    waiting: Vec<Entry>,
    events: u32,
    uploads: u32,
    /// Batches that have failed and will be sent again, or are under way again.
    failing: usize,
}

impl Uploader {
    /// So many entries are worth an upload.
    const ENOUGH: usize = 5;
    /// The most entries that wait; further failures are not reported.
    const MOST_WAITING: usize = 100;
    /// The most batches that are kept to be sent again; further ones are lost.
    const MOST_FAILING: usize = 60;
    /// Between a failure and the next attempt.
    pub(super) const PAUSE: Duration = Duration::from_millis(500);

    /// An event happened. What is to be sent now, if anything.
    pub(super) fn event(&mut self) -> Option<Batch> {
        self.waiting.push(Entry::Event(self.events));
        self.events += 1;
        if self.waiting.len() < Self::ENOUGH {
            return None;
        }
        Some(Batch {
            entries: std::mem::take(&mut self.waiting),
            upload: self.attempt(),
            again: false,
        })
    }

    /// An upload was answered with success.
    pub(super) fn succeeded(&mut self, batch: &Batch) {
        if batch.again {
            self.failing -= 1;
        }
    }

    /// An upload failed. What is to be sent again after the pause, if anything.
    pub(super) fn failed(&mut self, batch: Batch, status: Option<u16>) -> Option<Batch> {
        // The guard, as it was.
        if batch.entries.iter().all(Entry::is_failure) {
            return None;
        }
        if self.waiting.len() < Self::MOST_WAITING {
            let upload = batch.upload;
            self.waiting.push(Entry::Failure { upload, status });
        }
        if !batch.again {
            if self.failing == Self::MOST_FAILING {
                return None;
            }
            self.failing += 1;
        }
        Some(Batch {
            entries: batch.entries,
            upload: self.attempt(),
            again: true,
        })
    }

    const fn attempt(&mut self) -> u32 {
        self.uploads += 1;
        self.uploads
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many events, and all batches that they bring about.
    fn events(uploader: &mut Uploader, count: usize) -> Vec<Batch> {
        (0..count).filter_map(|_| uploader.event()).collect()
    }

    #[test]
    fn healthy_uploads_are_one_for_each_five_events() {
        let mut uploader = Uploader::default();
        let batches = events(&mut uploader, 23);
        assert_eq!(batches.len(), 4);
        for batch in &batches {
            assert_eq!(batch.entries.len(), Uploader::ENOUGH);
            uploader.succeeded(batch);
        }
        assert_eq!(uploader.waiting.len(), 3);
    }

    #[test]
    fn a_failure_rides_with_the_next_events_and_the_guard_does_not_see_it() {
        let mut uploader = Uploader::default();
        let batch = events(&mut uploader, 5).remove(0);
        let again = uploader
            .failed(batch.clone(), Some(400))
            .expect("sent again");
        assert_eq!(again.entries, batch.entries);
        // Four events make a batch now.
        let next = events(&mut uploader, 4).remove(0);
        let failure = Entry::Failure {
            upload: 1,
            status: Some(400),
        };
        assert!(next.entries.contains(&failure));
        // Which is reported and sent again in its turn if it fails.
        assert!(uploader.failed(next, None).is_some());
        assert_eq!(uploader.waiting.len(), 1);
    }

    #[test]
    fn the_guard_holds_for_what_it_was_made_for() {
        let mut uploader = Uploader::default();
        let only_failures = Batch {
            entries: vec![Entry::Failure {
                upload: 1,
                status: None,
            }],
            upload: 2,
            again: false,
        };
        assert_eq!(uploader.failed(only_failures, Some(400)), None);
        assert!(uploader.waiting.is_empty());
    }

    #[test]
    fn a_failed_batch_is_sent_again_until_it_is_taken() {
        let mut uploader = Uploader::default();
        let mut batch = events(&mut uploader, 5).remove(0);
        for _ in 0..50 {
            batch = uploader.failed(batch, Some(503)).expect("sent again");
        }
        assert_eq!(uploader.failing, 1);
        uploader.succeeded(&batch);
        assert_eq!((uploader.failing, uploader.uploads), (0, 51));
    }

    #[test]
    fn what_a_device_keeps_is_bounded() {
        let mut uploader = Uploader::default();
        let failing = events(&mut uploader, 5 * (Uploader::MOST_FAILING + 1));
        let kept = failing
            .into_iter()
            .filter_map(|batch| uploader.failed(batch, None));
        assert_eq!(kept.count(), Uploader::MOST_FAILING);
        let batch = uploader.event().expect("failures and an event");
        let mut batch = uploader.failed(batch, None);
        assert_eq!(batch, None, "no room");
        uploader.failing = 0;
        batch = events(&mut uploader, 5).pop();
        for _ in 0..2 * Uploader::MOST_WAITING {
            batch = batch.and_then(|batch| uploader.failed(batch, None));
        }
        assert_eq!(uploader.waiting.len(), Uploader::MOST_WAITING);
    }
}
