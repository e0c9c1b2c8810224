//! What is done about leases beside deciding: fetching ahead, and giving back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::held::Held;
use super::item::{Item, Items, questions};
use super::lease::Lease;
use super::permit::Permit;
use super::script::{Place, Return};
use super::shared::{Holdings, Shared};

/// Who gives back what is not spent. Another one may, when this one is gone.
struct Tending(Weak<Shared>);

impl Shared {
    /// How many leases are given back in one call.
    const RETURNS: usize = 128;

    /// Fetches more for those keys of which half is gone, so that the next request need not wait.
    pub(super) fn fetch_ahead(self: &Arc<Self>, holdings: &Holdings, items: &Items) {
        let now = self.now();
        let mut wanted = Items::new();
        for item in items {
            let Some(gcra) = item.rate() else { continue };
            let extra = holdings.table.known(item.charge.digest, |entry| {
                if entry.fetching || self.is_closed() || !entry.lease.is_half_gone(now) {
                    return 0;
                }
                let extra = entry.lease.extra(gcra, holdings.most, now);
                entry.fetching = extra > 0;
                extra
            });
            let Some(extra @ 1..) = extra else { continue };
            wanted.push(Item {
                known: None,
                lacking: 0,
                extra,
                ..*item
            });
        }
        if wanted.is_empty() {
            return;
        }
        let mut held = Held::new(Arc::clone(self));
        for item in &wanted {
            held.fetching(item.charge.digest);
        }
        let Some(permit) = Permit::of(self) else {
            return;
        };
        let shared = Arc::clone(self);
        tokio::spawn(async move {
            // Given back when it is over.
            let _held = held;
            let questions = questions(&wanted);
            let sent = shared.now();
            if let Some(answers) = permit.ask(shared.link.ask(&questions)).await {
                shared.hear(&mut wanted, &answers, sent);
            }
        });
    }

    /// Sees to it that cells which nobody spends are given back, for as long as there are any: where the connection lives, or
    /// else in the runtime that this is called in.
    pub(super) fn tend(self: &Arc<Self>) {
        let runtimes = [self.link.home(), Handle::try_current().ok()];
        for runtime in runtimes.into_iter().flatten() {
            // Asked each time: a runtime that is gone drops the task at once.
            if self.is_tended() {
                return;
            }
            let tending = Tending(Arc::downgrade(self));
            runtime.spawn(tending.give_back());
        }
    }

    /// Whether somebody tends; if not, the caller does from here on.
    fn is_tended(&self) -> bool {
        // Acquires and releases: see below.
        self.tended.swap(true, Ordering::AcqRel)
    }

    /// Whether the caller, who tends, has to go on.
    fn is_to_be_tended(&self) -> bool {
        let is_holding = || {
            let holdings = self.holdings();
            holdings.is_some_and(|holdings| holdings.held(self.now()) > 0)
        };
        if is_holding() {
            return true;
        }
        // Who was told of cells before this has found somebody tending, and left it to the caller. What was there to be found
        // then is seen after this; and who comes later finds nobody.
        self.tended.swap(false, Ordering::AcqRel);
        is_holding() && !self.is_tended()
    }

    /// Gives back the cells of such leases, as far as possible: of how many that was so. Each call has as much time as
    /// `limit`; cells of one that gets no answer have to run off. What is held of keys for which more is being fetched
    /// stays here: behind that, it could not be given back. `None` if it all stays here, since nobody may ask but a probe.
    pub(super) async fn give_back(
        self: &Arc<Self>,
        limit: Duration,
        which: impl Fn(&Lease) -> bool,
    ) -> Option<usize> {
        let Some(holdings) = &self.leases else {
            return Some(0);
        };
        // Who closes has to wait for what another one has taken out and is giving back.
        let _turn = holdings.returning.lock().await;
        if self.breaker().is_probing(Instant::now()) {
            return None;
        }
        let now = self.now();
        let mut unspent = Vec::new();
        holdings.table.each(|digest, entry| {
            if !entry.fetching && which(&entry.lease) {
                let place = Place {
                    policy: entry.policy.into(),
                    digest,
                };
                // The last ones first: those before them are the last ones then.
                while let Some(cells) = entry.lease.take_unspent(now) {
                    unspent.push(Return {
                        place,
                        end: cells.end,
                        start: cells.start,
                    });
                }
            }
        });
        let mut given = 0;
        for cells in unspent.chunks(Self::RETURNS) {
            if let Some(together) = self.return_cells(limit, cells).await {
                given += together;
                continue;
            }
            for cells in cells.chunks(1) {
                given += self.return_cells(limit, cells).await.unwrap_or(0);
            }
        }
        Some(given)
    }

    /// How many of these could be given back; `None` if they have to be one by one.
    async fn return_cells(self: &Arc<Self>, limit: Duration, cells: &[Return]) -> Option<usize> {
        let Some(permit) = Permit::of(self) else {
            return Some(0);
        };
        let answer = permit.ask_within(limit, self.link.give_back(cells));
        answer.await.unwrap_or(Some(0))
    }

    /// Leases nothing from here on, tells Redis what it is to be told, and gives back what is held.
    ///
    /// `given` counts how often cells could be given back.
    pub(super) async fn close(self: &Arc<Self>, given: &AtomicUsize) {
        /// How often to look whether what is under way has come to an end.
        const LOOK: Duration = Duration::from_millis(1);

        self.closed.store(true, Ordering::Relaxed);
        loop {
            // Asked first: what is fetched is there then.
            let is_fetching = self.holdings().is_some_and(Holdings::is_fetching);
            // No request waits for it, so its time is the caller's.
            let returned = self.give_back(Duration::MAX, |_| true).await;
            given.fetch_add(returned.unwrap_or(0), Ordering::Relaxed);
            if returned.is_some() && !is_fetching && self.courier.waiting() == 0 {
                return;
            }
            self.attend(None);
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Tending {
    async fn give_back(self) {
        loop {
            tokio::time::sleep(Lease::HOLD).await;
            let Some(shared) = self.0.upgrade() else {
                return;
            };
            let now = shared.now();
            let limit = shared.timeout;
            shared.give_back(limit, |lease| lease.is_stale(now)).await;
            if !shared.is_to_be_tended() {
                return self.cease();
            }
        }
    }

    /// Without a word: another task may tend by now.
    fn cease(mut self) {
        self.0 = Weak::new();
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.tended.store(false, Ordering::Release);
        }
    }
}

impl Holdings {
    /// For how many keys there are cells.
    pub(super) fn held(&self, now: u64) -> usize {
        let mut held = 0;
        self.table
            .each(|_, entry| held += usize::from(entry.lease.available(now) > 0));
        held
    }

    /// Whether cells are being fetched for some key.
    fn is_fetching(&self) -> bool {
        let mut fetching = false;
        self.table.each(|_, entry| fetching |= entry.fetching);
        fetching
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcra::Gcra;
    use crate::limiter::Limiter;
    use crate::quota::Quota;
    use crate::redis::lease::{Grant, Origin};
    use crate::redis::{Leases, RedisStore};

    /// Who stops says so, before somebody else relies on it; and who goes on does not.
    #[tokio::test(start_paused = true)]
    async fn who_tends_goes_on_as_long_as_there_are_cells() {
        let quota = Quota::per_second(1).burst(100);
        let store = RedisStore::new("redis://127.0.0.1:1", "tending", b"a secret of some length")
            .leases(Leases::up_to(20));
        let limiter = Limiter::builder().policy("p", quota);
        let limiter = limiter.build_shared(&store).unwrap();
        let shared = &limiter.shared;
        assert!(!shared.is_tended() && shared.is_tended());
        assert!(!shared.is_to_be_tended());
        assert!(!shared.is_tended(), "free for the next");

        let (gcra, now) = (Gcra::new(quota).unwrap(), shared.now());
        let leased = shared
            .holdings()
            .unwrap()
            .table
            .place((7, 0), now, |entry| {
                let grant = Grant {
                    debt: 5 * gcra.interval(),
                    leased: 5,
                    clock: 0,
                    limited: false,
                    origin: Origin::default(),
                };
                entry.lease.told(&gcra, grant, 5, now, now);
            });
        assert_eq!(leased, Some(()));
        assert!(shared.is_to_be_tended());
        assert!(shared.is_tended(), "somebody does");
        tokio::time::advance(Duration::from_secs(5)).await;
        // They have run off.
        assert!(!shared.is_to_be_tended());
        assert!(!shared.is_tended());
    }
}
