//! Tells Redis of late charges and refunds, in the background.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::runtime::Handle;

use super::account::Owed;
use super::lease::{Asked, Grant};
use super::permit::Permit;
use super::script::{Order, Seen, Settled};
use super::shared::Shared;
use crate::algorithm::Algorithm;

/// Requests whose late charges and refunds Redis is not told of yet, in line. Each is in it once for a policy, whatever
/// it was charged meanwhile.
#[derive(Debug, Default)]
pub(super) struct Courier(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Arc<Owed>>,
    /// Whether a task is about it, and of how many it is telling Redis just now.
    attended: bool,
    leaving: usize,
}

/// The task that is about it. Another one may be, when this one is gone.
struct Attending(Weak<Shared>);

impl Courier {
    /// The most that wait. Who comes then is turned away, and what it was to be charged is lost.
    pub(super) const MOST: usize = 4096;
    /// How many are told in one call.
    const BATCH: usize = 64;

    /// Of how many Redis has not answered yet.
    pub(super) fn waiting(&self) -> usize {
        let line = self.line();
        line.waiting.len() + line.leaving
    }

    /// Puts one in line, if there is room.
    fn push(&self, owed: &Arc<Owed>) -> bool {
        let mut line = self.line();
        let has_room = line.waiting.len() < Self::MOST;
        if has_room {
            line.waiting.push_back(Arc::clone(owed));
        }
        has_room
    }

    /// Whether somebody has to be found to attend, who then does.
    fn needs_attention(&self) -> bool {
        let mut line = self.line();
        !line.waiting.is_empty() && !std::mem::replace(&mut line.attended, true)
    }

    /// Those in front. If there are none, nobody attends from here on.
    fn next(&self) -> Vec<Arc<Owed>> {
        let mut line = self.line();
        let batch = line.waiting.len().min(Self::BATCH);
        line.attended = batch > 0;
        line.leaving = batch;
        line.waiting.drain(..batch).collect()
    }

    fn leave(&self) {
        let mut line = self.line();
        line.attended = false;
        line.leaving = 0;
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Puts one in line that is not in it; `false` if there is no room.
    pub(super) fn post(self: &Arc<Self>, owed: &Arc<Owed>, runtime: Option<&Handle>) -> bool {
        let has_room = self.courier.push(owed);
        self.attend(runtime);
        has_room
    }

    /// Sees to it that those in line are attended to: where the connection lives, or else in the runtime that this is called
    /// in, or else in this one. Without any they wait for the next who has one.
    pub(super) fn attend(self: &Arc<Self>, runtime: Option<&Handle>) {
        let runtimes = [
            self.link.home(),
            Handle::try_current().ok(),
            runtime.cloned(),
        ];
        for runtime in runtimes.into_iter().flatten() {
            // Asked each time: a runtime that is gone drops the task at once.
            if !self.courier.needs_attention() {
                return;
            }
            let attending = Attending(Arc::downgrade(self));
            runtime.spawn(async move { attending.deliver().await });
        }
    }

    /// Tells Redis of a batch.
    async fn settle(self: &Arc<Self>, batch: &[Arc<Owed>]) {
        let (mut orders, mut owing) = (Vec::new(), Vec::new());
        for owed in batch {
            owed.orders(&self.limiter, &mut orders);
            owing.resize(orders.len(), owed);
        }
        if orders.is_empty() {
            return;
        }
        // If nobody waits for it any more, all of it counts as lost.
        let unsettled = Unsettled {
            shared: self,
            orders: &orders,
            owing: &owing,
        };
        let Some(mut unsettled) = self.tell(unsettled).await else {
            return;
        };
        while let Some(one) = unsettled.next() {
            self.tell(one).await;
        }
    }

    /// Tells Redis of these together. They are handed back if they have to be told one by one.
    async fn tell<'a>(self: &Arc<Self>, unsettled: Unsettled<'a>) -> Option<Unsettled<'a>> {
        let Unsettled { orders, owing, .. } = unsettled;
        let permit = Permit::of(self)?;
        let sent = self.now();
        let Some(settled) = permit.ask(self.link.settle(orders)).await? else {
            return Some(unsettled);
        };
        unsettled.settle();
        for ((order, owed), settled) in orders.iter().zip(owing).zip(&settled) {
            owed.settled(&self.limiter, order, settled);
            self.note_change(order, settled, sent);
        }
        None
    }

    /// Tells Redis of one thing now: how many cells were charged or given back, and how the key stands. `None` if it does
    /// not answer; that is counted.
    pub(super) async fn settle_one(self: &Arc<Self>, order: &Order) -> Option<(u32, Seen)> {
        let lost = Unsettled {
            shared: self,
            orders: std::slice::from_ref(order),
            owing: &[],
        };
        let sent = self.now();
        let orders = std::slice::from_ref(order);
        let settled = Permit::of(self)?.ask(self.link.settle(orders)).await??;
        lost.settle();
        let settled = settled.first()?;
        self.note_change(order, settled, sent);
        Some((settled.cells, settled.seen))
    }

    /// Takes note of what is known of a key by now, so that who has leased cells of it goes by that.
    pub(super) fn note_change(&self, order: &Order, settled: &Settled, sent: u64) {
        let Seen::Rate { debt, origin, .. } = settled.seen else {
            return;
        };
        let (Some(holdings), Algorithm::Gcra(gcra)) = (self.holdings(), &order.algorithm) else {
            return;
        };
        let asked = Asked {
            cost: 0,
            extra: 0,
            sent,
        };
        let grant = Grant {
            debt,
            leased: 0,
            clock: settled.clock,
            limited: false,
            origin,
        };
        let now = self.now();
        holdings.table.known(order.place.digest, |entry| {
            entry.lease.told(gcra, asked, grant, now);
        });
    }
}

impl Attending {
    async fn deliver(mut self) {
        while let Some(shared) = self.0.upgrade() {
            let batch = shared.courier.next();
            if batch.is_empty() {
                // Another task may attend by now.
                self.0 = Weak::new();
                return;
            }
            shared.settle(&batch).await;
        }
    }
}

impl Drop for Attending {
    fn drop(&mut self) {
        if let Some(shared) = self.0.upgrade() {
            shared.courier.leave();
        }
    }
}

/// Orders that may not have come to anything.
struct Unsettled<'a> {
    shared: &'a Shared,
    orders: &'a [Order],
    /// Whose they are, if they are any request's.
    owing: &'a [&'a Arc<Owed>],
}

impl<'a> Unsettled<'a> {
    /// The first of them, which is no longer among these.
    fn next(&mut self) -> Option<Unsettled<'a>> {
        let (first, orders) = self.orders.split_at_checked(1)?;
        let (owed, owing) = self.owing.split_at_checked(1)?;
        (self.orders, self.owing) = (orders, owing);
        Some(Self {
            shared: self.shared,
            orders: first,
            owing: owed,
        })
    }

    /// They have.
    fn settle(mut self) {
        self.orders = &[];
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        let mut owing = self.owing.iter();
        for order in self.orders {
            if let Some(owed) = owing.next() {
                owed.lost(order);
            }
            self.shared.tally.undelivered(order.cells.into());
        }
    }
}
