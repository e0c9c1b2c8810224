//! Since when an attempt waits for its upstream.
//!
//! The time that an attempt takes is not all the upstream's: the gateway's own queue is part of it, and a client that sends
//! its request slowly. Only who sends the request knows the parts. So who measures puts an [`Awaited`] into the request's
//! extensions, and who sends writes into it whom the attempt waits for. It tells as well what no answer could: whom an
//! attempt waited for that was dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

/// Since when one attempt has waited for its upstream. Clones are the same.
///
/// Each attempt has one of its own: who tries again, or twice, must not have two of them write into one.
#[derive(Debug, Clone)]
pub struct Awaited(Arc<Since>);

#[derive(Debug)]
struct Since {
    made: Instant,
    /// Nanoseconds after that.
    nanos: AtomicU64,
}

/// It is not the upstream that is waited for.
const NOBODY: u64 = u64::MAX;

impl Awaited {
    /// The upstream is waited for from `now` on, unless somebody says otherwise.
    pub fn new(now: Instant) -> Self {
        Self(Arc::new(Since {
            made: now,
            nanos: AtomicU64::new(0),
        }))
    }

    /// Takes it out of a request's extensions, if who measures put one there.
    pub fn take(extensions: &mut Extensions) -> Option<Self> {
        extensions.remove()
    }

    /// The upstream is waited for from `at` on, and was not before, as far as that matters.
    pub fn starts(&self, at: Instant) {
        let nanos = at.saturating_duration_since(self.0.made).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(NOBODY).min(NOBODY - 1);
        // Relaxed, as all of it: one number that stands for itself.
        self.0.nanos.store(nanos, Ordering::Relaxed);
    }

    /// It is the gateway or the client that is waited for, until [`starts`](Self::starts).
    pub fn pauses(&self) {
        self.0.nanos.store(NOBODY, Ordering::Relaxed);
    }

    /// Since when the upstream has been waited for; `None` if it is not the upstream that is waited for.
    pub fn since(&self) -> Option<Instant> {
        match self.0.nanos.load(Ordering::Relaxed) {
            NOBODY => None,
            nanos => self.0.made.checked_add(Duration::from_nanos(nanos)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts_for_all_clones() {
        let now = Instant::now();
        let awaited = Awaited::new(now);
        let clone = awaited.clone();
        assert_eq!(clone.since(), Some(now));
        awaited.pauses();
        assert_eq!(clone.since(), None);
        let later = now + Duration::from_millis(1500);
        awaited.starts(later);
        assert_eq!(clone.since(), Some(later));
        // Before it was made is when it was made.
        clone.starts(now - Duration::from_nanos(1));
        assert_eq!(awaited.since(), Some(now));
    }

    #[test]
    fn it_is_taken_out_once() {
        let mut extensions = Extensions::new();
        assert!(Awaited::take(&mut extensions).is_none());
        extensions.insert(Awaited::new(Instant::now()));
        assert!(Awaited::take(&mut extensions).is_some());
        assert!(Awaited::take(&mut extensions).is_none());
    }
}
