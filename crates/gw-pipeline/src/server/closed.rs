use std::sync::atomic::{AtomicU64, Ordering};

use crate::words::words;

words! {
    /// Why a connection was closed: a closed vocabulary, fit for a metric's label.
    CloseReason {
        /// It came to its own end: the client closed it between requests, one side asked for `connection: close`, or
        /// an upgraded stream ended.
        Done = "done",
        /// The client left in the middle.
        ClientGone = "client_gone",
        /// What came is not HTTP, or breaks a limit of its framing.
        Malformed = "malformed",
        /// The service's answer broke off, or serving it panicked.
        Failed = "failed",
        /// A head took too long.
        HeaderTimeout = "header_timeout",
        /// There was no request for too long.
        KeepAliveTimeout = "keep_alive_timeout",
        /// The client did not take its answer.
        WriteStall = "write_stall",
        /// The client gave up many of its requests at once, before their answers began (HTTP/2, CVE-2023-44487).
        RapidReset = "rapid_reset",
        /// It made room for a newer connection.
        Evicted = "evicted",
        /// Refused at accept: too many connections from its address.
        PerIpLimit = "per_ip_limit",
        /// Refused at accept: the server is full, and every connection has a request.
        Full = "full",
        /// Refused at accept: for a second no file descriptor was left for it, and every connection has a request.
        NoDescriptors = "no_descriptors",
        /// The server is stopping, and no request was cut.
        Shutdown = "shutdown",
        /// The server stopped, and the grace was over.
        Cut = "cut",
    }
}

const REASONS: usize = CloseReason::ALL.len();

/// How many connections were closed for each reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Closed([u64; REASONS]);

impl Closed {
    /// How many were closed for `reason`.
    pub fn count(&self, reason: CloseReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or_default()
    }

    /// How many were closed for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Each reason with its count, in the order of [`CloseReason::ALL`].
    pub fn iter(&self) -> impl Iterator<Item = (CloseReason, u64)> {
        CloseReason::ALL.iter().copied().zip(self.0)
    }
}

/// The counts as they grow. Relaxed throughout: they are statistics and order nothing.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    pub(super) accept_errors: AtomicU64,
    pub(super) stalled_streams: AtomicU64,
    closed: [AtomicU64; REASONS],
}

impl Counters {
    pub(super) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn closed(&self, reason: CloseReason) {
        if let Some(counter) = self.closed.get(reason as usize) {
            Self::count(counter);
        }
    }

    pub(super) fn closed_so_far(&self) -> Closed {
        Closed(std::array::from_fn(|n| {
            self.closed
                .get(n)
                .map_or(0, |counter| counter.load(Ordering::Relaxed))
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_reason_has_its_own_place_and_name() {
        let counters = Counters::default();
        for (times, reason) in CloseReason::ALL.iter().enumerate() {
            for _ in 0..times {
                counters.closed(*reason);
            }
        }
        let closed = counters.closed_so_far();
        assert!(closed.iter().map(|(_, count)| count).eq(0..14));
        assert_eq!(closed.total(), 91);
        let names: BTreeSet<_> = CloseReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .collect();
        assert_eq!(names.len(), 14);
    }
}
