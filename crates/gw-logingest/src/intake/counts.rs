use std::sync::{Arc, Mutex, PoisonError};

use gw_core::telling::contained;

use crate::batch::Class;
use crate::event::ViolationCode;
use crate::telemetry::meter::QueueLabel;
use crate::telemetry::{IntakeMetrics, Outcome};

/// What became of all events that the intake has seen. Each one received is in exactly one of the others, `reports` aside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Events found in bodies.
    pub received: u64,
    /// Stored, and promised by a receipt.
    pub accepted: u64,
    /// Refused one by one, because they did not meet the schema.
    pub rejected: u64,
    /// Reports about failed uploads, suppressed under pressure.
    pub suppressed: u64,
    /// Reports about failed uploads beyond their bound; their number is told in an event.
    pub collapsed: u64,
    /// Debug events, shed under pressure.
    pub shed: u64,
    /// In requests that were refused as a whole, or that their client gave up before the end of the body: as many as were found
    /// by then. A body for which there is no room is not read to its end.
    pub refused: u64,
    /// In requests that their client gave up while they were being stored: they may be stored or not.
    pub abandoned: u64,
    /// In requests that are not yet answered.
    pub in_progress: u64,
    /// Made by the intake itself, to tell how many were collapsed. Stored on top of the accepted ones, and not received.
    pub reports: u64,
}

impl Counts {
    /// How many events are unaccounted for: always 0.
    pub const fn imbalance(&self) -> i64 {
        let accounted = self.accepted
            + self.rejected
            + self.suppressed
            + self.collapsed
            + self.shed
            + self.refused
            + self.abandoned
            + self.in_progress;
        self.received.wrapping_sub(accounted) as i64
    }
}

/// How many events of each class, in the order in which the classes are declared.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ByClass([u64; Class::ALL.len()]);

impl ByClass {
    pub(super) fn add(&mut self, class: Class, events: u64) {
        if let Some(count) = self.0.get_mut(class as usize) {
            *count += events;
        }
    }

    pub(super) fn of(&self, class: Class) -> u64 {
        self.0.get(class as usize).copied().unwrap_or_default()
    }

    pub(super) fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

/// The counts of all requests.
#[derive(Debug)]
pub(super) struct Ledger {
    counts: Mutex<Counts>,
    metrics: IntakeMetrics,
}

impl Ledger {
    /// Of the intake of this queue.
    pub(super) fn new(queue: &QueueLabel) -> Self {
        Self {
            counts: Mutex::default(),
            metrics: IntakeMetrics::new(queue),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) const fn metrics(&self) -> &IntakeMetrics {
        &self.metrics
    }

    /// The lock makes each step whole for readers: the sums are right at any moment.
    fn update(&self, step: impl FnOnce(&mut Counts)) {
        step(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// A request has ended: shows that its events are all accounted for.
    fn show_balance(&self) {
        self.metrics.imbalance(self.counts().imbalance());
    }
}

/// The events of one request, and the bytes of its body, accounted for when it ends in whatever way.
#[derive(Debug)]
pub(super) struct Tally {
    ledger: Arc<Ledger>,
    body_bytes: u64,
    open: u64,
    storing: bool,
}

/// What became of the events of a request that was answered with a receipt.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Settled {
    pub(super) accepted: ByClass,
    pub(super) rejected: u64,
    pub(super) suppressed: u64,
    pub(super) collapsed: u64,
    pub(super) shed: u64,
    pub(super) reports: u64,
}

impl Tally {
    pub(super) const fn new(ledger: Arc<Ledger>) -> Self {
        Self {
            ledger,
            body_bytes: 0,
            open: 0,
            storing: false,
        }
    }

    /// So much of the body was read.
    pub(super) const fn read(&mut self, bytes: u64) {
        self.body_bytes = bytes;
    }

    /// More events were found.
    pub(super) fn found(&mut self, events: u64) {
        self.open += events;
        self.ledger.update(|counts| {
            counts.received += events;
            counts.in_progress += events;
        });
    }

    /// A fault was found in an event.
    pub(super) fn violation(&self, code: ViolationCode) {
        self.ledger.metrics.violation(code);
    }

    /// From now on, giving up leaves it open whether they are stored.
    pub(super) const fn storing(&mut self) {
        self.storing = true;
    }

    /// They were not stored.
    pub(super) const fn not_stored(&mut self) {
        self.storing = false;
    }

    /// The request is answered with a receipt.
    pub(super) fn settle(mut self, settled: &Settled) {
        let open = std::mem::take(&mut self.open);
        self.ledger.update(|counts| {
            counts.in_progress -= open;
            counts.accepted += settled.accepted.total();
            counts.rejected += settled.rejected;
            counts.suppressed += settled.suppressed;
            counts.collapsed += settled.collapsed;
            counts.shed += settled.shed;
            counts.reports += settled.reports;
        });
        let metrics = self.ledger.metrics();
        for class in Class::ALL {
            metrics.events(Outcome::Accepted, Some(class), settled.accepted.of(class));
        }
        metrics.events(Outcome::Rejected, None, settled.rejected);
        metrics.events(Outcome::Suppressed, Some(Class::Own), settled.suppressed);
        metrics.events(Outcome::Collapsed, Some(Class::Own), settled.collapsed);
        metrics.events(Outcome::Shed, Some(Class::Debug), settled.shed);
        self.ledger.show_balance();
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let open = std::mem::take(&mut self.open);
        let mut outcome = Outcome::Refused;
        self.ledger.update(|counts| {
            counts.in_progress -= open;
            if self.storing {
                counts.abandoned += open;
                outcome = Outcome::Abandoned;
            } else {
                counts.refused += open;
            }
        });
        // Last: a recorder that panics must not leave events in progress for ever.
        contained(|| {
            let metrics = self.ledger.metrics();
            metrics.received(self.body_bytes);
            if open > 0 {
                metrics.events(outcome, None, open);
                self.ledger.show_balance();
            }
        });
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use gw_testkit::Listener;

    use super::*;

    /// Story: a recorder that panicked when it was told of a request's bytes left the request's events in progress for ever; one that
    /// had panicked for the same request before ended the process.
    #[test]
    fn events_are_accounted_for_whatever_the_recorder_does() {
        for answered in [false, true] {
            let ledger = Arc::new(Ledger::new(&QueueLabel::default()));
            let mut tally = Tally::new(Arc::clone(&ledger));
            tally.read(100);
            tally.found(3);
            let settled = Settled {
                rejected: 3,
                ..Settled::default()
            };
            let end = || match answered {
                true => tally.settle(&settled),
                false => drop(tally),
            };
            let ended = catch_unwind(AssertUnwindSafe(|| {
                metrics::with_local_recorder(&Listener::panicking(), end);
            }));
            // Whoever answers is told; a request that is given up has nobody to tell.
            assert_eq!(ended.is_err(), answered);
            let counts = ledger.counts();
            assert_eq!((counts.in_progress, counts.imbalance()), (0, 0));
            assert_eq!(
                (counts.rejected, counts.refused),
                if answered { (3, 0) } else { (0, 3) }
            );
        }
    }
}
