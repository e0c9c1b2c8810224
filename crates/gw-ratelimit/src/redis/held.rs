//! What a request holds while it is being decided.

use std::sync::Arc;

use smallvec::SmallVec;

use super::lease::Spent;
use super::shared::Shared;

/// Cells taken out of leases, and keys for which cells are being fetched. Dropping it puts the cells back, and lets
/// others fetch.
#[derive(Debug)]
pub(super) struct Held {
    shared: Arc<Shared>,
    spent: SmallVec<[(u128, Spent); 4]>,
    fetching: SmallVec<[u128; 4]>,
}

impl Held {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            spent: SmallVec::new(),
            fetching: SmallVec::new(),
        }
    }

    pub(super) fn spent(&mut self, digest: u128, spent: Spent) {
        if spent.cells() > 0 {
            self.spent.push((digest, spent));
        }
    }

    pub(super) fn fetching(&mut self, digest: u128) {
        self.fetching.push(digest);
    }

    /// The request may pass: the cells are spent for good.
    pub(super) fn spend(&mut self) {
        self.spent.clear();
    }

    /// The same, at the end, for those keys that were charged. A policy that only watches may have been limited: then its
    /// key was not.
    pub(super) fn keep(mut self, charged: impl Fn(u128) -> bool) {
        self.spent.retain(|(digest, _)| !charged(*digest));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(holdings) = self.shared.holdings() else {
            return;
        };
        for (digest, spent) in self.spent.drain(..) {
            holdings
                .table
                .known(digest, |entry| entry.lease.put_back(spent));
        }
        for digest in self.fetching.drain(..) {
            holdings.table.known(digest, |entry| entry.fetching = false);
        }
    }
}
