//! The cluster's view of the traffic, in numbers.

/// What the cluster was asked, in numbers since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requests {
    /// Bulk requests whose head has arrived.
    pub bulk: usize,
    /// All other requests.
    pub other: usize,
    /// Bulk requests that have arrived and are neither answered nor given up.
    pub in_flight: usize,
    /// The largest value of `in_flight`.
    pub peak_in_flight: usize,
    /// Bulk requests answered with another status than 200.
    pub refused: usize,
    /// Bytes of the bodies of bulk requests that were let in, after decompression.
    pub bytes: u64,
    /// Items of bulk requests that were understood.
    pub items: usize,
    /// Items that were carried out.
    pub succeeded: usize,
    /// Items answered with 409: the document was there.
    pub conflicts: usize,
    /// Items answered with 429 or 503: the client may try again.
    pub rejected: usize,
    /// Items that failed otherwise.
    pub failed: usize,
    /// Documents in the index.
    pub documents: usize,
}

impl Requests {
    pub(super) fn arrived(&mut self) {
        self.bulk += 1;
        self.in_flight += 1;
        self.peak_in_flight = self.peak_in_flight.max(self.in_flight);
    }

    pub(super) fn item(&mut self, status: u16) {
        self.items += 1;
        *match status {
            200..=299 => &mut self.succeeded,
            409 => &mut self.conflicts,
            429 | 503 => &mut self.rejected,
            _ => &mut self.failed,
        } += 1;
    }
}
