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
use super::table::Entry;

/// Who gives back what is not spent. Another one may, when this one is gone.
struct Tending(Weak<Shared>);

/// What came of giving back.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Returned {
    /// How often cells could be given back.
    pub(super) given: usize,
    /// Whether cells are held still.
    is_holding: bool,
    /// Whether more are being fetched for some key.
    is_fetching: bool,
}

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

    /// Whether the caller, who tends and has found nothing held, has to go on. If not, it does not tend any more.
    async fn is_to_be_tended(&self) -> bool {
        // Who was told of cells before this has found somebody tending, and left it to the caller. What was there to be found
        // then is seen after this; and who comes later finds nobody.
        self.tended.swap(false, Ordering::AcqRel);
        let Some(holdings) = self.holdings() else {
            return false;
        };
        let (now, mut is_holding) = (self.now(), false);
        let look = |_, entry: &mut Entry| is_holding |= entry.lease.available(now) > 0;
        holdings.table.walk(look).await;
        is_holding && !self.is_tended()
    }

    /// Gives back the cells of such leases, as far as possible. Each call has as much time as `limit`; cells of one that gets
    /// no answer have to run off. What is held of keys for which more is being fetched stays here: behind that, it could not be
    /// given back. `None` if it all stays here, since nobody may ask but a probe.
    pub(super) async fn give_back(
        self: &Arc<Self>,
        limit: Duration,
        which: impl Fn(&Lease) -> bool,
    ) -> Option<Returned> {
        let mut returned = Returned::default();
        let Some(holdings) = &self.leases else {
            return Some(returned);
        };
        // Who closes has to wait for what another one has taken out and is giving back.
        let _turn = holdings.returning.lock().await;
        if self.breaker().is_probing(Instant::now()) {
            return None;
        }
        let now = self.now();
        let mut unspent = Vec::new();
        let take = |digest, entry: &mut Entry| {
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
            returned.is_fetching |= entry.fetching;
            returned.is_holding |= entry.lease.available(now) > 0;
        };
        holdings.table.walk(take).await;
        for cells in unspent.chunks(Self::RETURNS) {
            if let Some(together) = self.return_cells(limit, cells).await {
                returned.given += together;
                continue;
            }
            for cells in cells.chunks(1) {
                returned.given += self.return_cells(limit, cells).await.unwrap_or(0);
            }
        }
        Some(returned)
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
        let mut is_done = false;
        loop {
            // No request waits for it, so its time is the caller's. Of keys that nothing is fetched for, nothing comes any more.
            if !is_done && let Some(returned) = self.give_back(Duration::MAX, |_| true).await {
                given.fetch_add(returned.given, Ordering::Relaxed);
                is_done = !returned.is_fetching;
            }
            if is_done && self.courier.waiting() == 0 {
                return;
            }
            self.attend(None);
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Tending {
    async fn give_back(mut self) {
        loop {
            tokio::time::sleep(Lease::HOLD).await;
            let Some(shared) = self.0.upgrade() else {
                return;
            };
            let now = shared.now();
            let limit = shared.timeout;
            let returned = shared.give_back(limit, |lease| lease.is_stale(now)).await;
            // If nobody may ask, nobody has looked.
            if returned.is_none_or(|returned| returned.is_holding) {
                continue;
            }
            // Without a word: another task may tend meanwhile.
            self.0 = Weak::new();
            if !shared.is_to_be_tended().await {
                return;
            }
            self.0 = Arc::downgrade(&shared);
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gcra::Gcra;
    use crate::limiter::Limiter;
    use crate::quota::Quota;
    use crate::redis::lease::{Asked, Grant, Origin};
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
        assert!(!shared.is_to_be_tended().await);
        assert!(!shared.is_tended(), "free for the next");

        let (gcra, now) = (Gcra::new(quota).unwrap(), shared.now());
        let leased = shared
            .holdings()
            .unwrap()
            .table
            .place((7, 0), now, |entry| {
                let asked = Asked {
                    cost: 1,
                    extra: 5,
                    sent: now,
                };
                let grant = Grant {
                    debt: 5 * gcra.interval(),
                    leased: 5,
                    clock: 0,
                    limited: false,
                    origin: Origin::default(),
                };
                entry.lease.told(&gcra, asked, grant, now);
            });
        assert_eq!(leased, Some(()));
        assert!(shared.is_to_be_tended().await);
        assert!(shared.is_tended(), "somebody does");
        tokio::time::advance(Duration::from_secs(5)).await;
        // They have run off.
        assert!(!shared.is_to_be_tended().await);
        assert!(!shared.is_tended());
    }
}
