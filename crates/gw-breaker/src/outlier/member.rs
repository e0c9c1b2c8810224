use std::sync::Arc;

use super::judge::Sample;
use super::record::{FORCED, LAST, Reading, Record, UNHEALTHY};
use super::snapshot::Reason;

/// What is known of an endpoint besides its counters.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Arc<str>,
    pub(super) record: Arc<Record>,
    /// The counters at the end of the last interval.
    seen: Reading,
    /// What came in the last interval.
    pub(super) last: Sample,
    pub(super) forced_out: bool,
    pub(super) unhealthy: bool,
    /// The ejection that runs, or whose end was not noticed yet.
    pub(super) ejection: Option<Ejection>,
    /// How many times as long the last ejection was, less what good intervals took off.
    pub(super) multiplier: u32,
    pub(super) ejections: u64,
    /// In how many intervals in a row it stood out, not counting those in which it could not be compared.
    pub(super) suspicion: u8,
    /// Whether it did in the last one.
    pub(super) stands_out: bool,
    /// Since when it has been in, if it is.
    pub(super) in_since: u64,
    /// The counters when it was ejected. While no outcome is added, the next failure is the last of a row.
    ejected_at: Option<Reading>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ejection {
    pub(super) until: u64,
    pub(super) reason: Reason,
}

impl Member {
    /// In how many intervals in a row an endpoint must stand out. One bad interval is a pause for garbage, a deployment, or
    /// the one in a million that is chance.
    pub(super) const CONVINCED: u8 = 2;

    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            record: Arc::new(Record::new()),
            seen: Reading::default(),
            last: Sample::default(),
            forced_out: false,
            unhealthy: false,
            ejection: None,
            multiplier: 0,
            ejections: 0,
            suspicion: 0,
            stands_out: false,
            in_since: 0,
            ejected_at: None,
        }
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        self.ejection.is_some_and(|ejection| now < ejection.until)
    }

    pub(super) fn is_in(&self, now: u64) -> bool {
        !self.forced_out && !self.unhealthy && !self.is_ejected(now)
    }

    /// Ends the interval: its counts become the last ones.
    pub(super) fn end_interval(&mut self) {
        let reading = self.record.read();
        self.last = reading.since(self.seen);
        self.seen = reading;
    }

    /// Ejected until then. Whoever fails at once when it comes back goes out again at once: its first failure is counted as
    /// the last of a row, and its first bad interval as the last that is needed. The first success clears it of the one, and the
    /// first interval in which it is compared and does not stand out of the other, whenever that comes.
    pub(super) fn eject(&mut self, until: u64, reason: Reason, consecutive: u32) {
        self.ejection = Some(Ejection { until, reason });
        self.ejections = self.ejections.saturating_add(1);
        self.suspicion = Self::CONVINCED - 1;
        self.goes_with_the_next(consecutive);
    }

    /// Its next failure is the last of a row.
    pub(super) fn goes_with_the_next(&mut self, consecutive: u32) {
        self.record.set_streak(consecutive.saturating_sub(1));
        self.ejected_at = Some(self.record.read());
    }

    /// From now on so many are a row.
    pub(super) fn fits_its_row(&mut self, consecutive: u32) {
        let now = self.record.read();
        if self.ejected_at.is_some_and(|then| then.has_same_row(now)) {
            self.goes_with_the_next(consecutive);
        } else {
            // The last one of a row is told by the number: it must be still to come.
            self.record.cap_streak(consecutive.saturating_sub(1));
        }
    }

    /// Forgets what it did, as if it had come into the set now.
    pub(super) fn forgive(&mut self) {
        self.ejection = None;
        self.multiplier = 0;
        self.suspicion = 0;
        self.ejected_at = None;
        self.record.set_streak(0);
    }

    /// Tells the path of requests what holds from now on.
    pub(super) fn publish(&mut self, now: u64) {
        let until = match self.ejection {
            _ if self.forced_out => FORCED,
            _ if self.unhealthy => UNHEALTHY,
            // The end stays known when it has passed: what was sent before it is not held against the endpoint.
            Some(ejection) if ejection.until > now => {
                self.in_since = ejection.until;
                ejection.until
            }
            _ => self.in_since,
        };
        self.record.set_out_until(until);
    }

    /// It is in from now on, if nothing else keeps it out.
    pub(super) fn back(&mut self, now: u64) {
        self.in_since = now.min(LAST);
    }
}
