use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::sweep::Sweep;
use crate::batch::ClientId;

/// The bound on reports about failed uploads of one client: in each minute the greater of one and one percent of its
/// real events. What is beyond it is counted, and the count follows as one event that takes its place within the bound.
///
/// So however hard uploads fail, the reports about it stay a hundredth of the traffic, and nothing feeds itself. Pure: the
/// time is passed in.
#[derive(Debug, Clone)]
pub struct AmplificationGuard {
    window: Instant,
    real: u64,
    own: u64,
    collapsed: u64,
}

/// What becomes of the reports of one request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdict {
    /// So many are taken.
    pub admitted: u64,
    /// So many were collapsed since the last count, and one event that says so is due; zero if none is.
    pub report: u64,
}

impl AmplificationGuard {
    /// The length of a window.
    pub const WINDOW: Duration = Duration::from_secs(60);
    /// One report for so many real events.
    const SHARE: u64 = 100;

    /// A guard that has seen nothing.
    pub const fn new(now: Instant) -> Self {
        Self {
            window: now,
            real: 0,
            own: 0,
            collapsed: 0,
        }
    }

    /// Decides for a request with so many real events and reports.
    pub fn admit(&mut self, now: Instant, real: u64, own: u64) -> Verdict {
        if now.saturating_duration_since(self.window) >= Self::WINDOW {
            self.window = now;
            self.real = 0;
            self.own = 0;
        }
        self.real = self.real.saturating_add(real);
        let room = (self.real / Self::SHARE).max(1).saturating_sub(self.own);
        let due = self.collapsed > 0 && room > 0;
        let admitted = own.min(room - u64::from(due));
        self.own += admitted + u64::from(due);
        self.collapsed = self.collapsed.saturating_add(own - admitted);
        let report = if due {
            std::mem::take(&mut self.collapsed)
        } else {
            0
        };
        Verdict { admitted, report }
    }

    /// The reports that were collapsed and not yet counted in an event.
    pub const fn collapsed(&self) -> u64 {
        self.collapsed
    }
}

/// The guards of all clients. A client that finds no room shares a guard with all who find none.
#[derive(Debug)]
pub(super) struct Guards(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    clients: HashMap<ClientId, AmplificationGuard>,
    overflow: Option<AmplificationGuard>,
    sweep: Sweep,
}

/// A verdict that is taken back when it is dropped, unless the batch was or may have been stored.
#[derive(Debug)]
pub(super) struct Ticket {
    guards: Arc<Guards>,
    client: ClientId,
    before: AmplificationGuard,
    after: AmplificationGuard,
    kept: bool,
}

impl Guards {
    const MAX_CLIENTS: usize = 4096;

    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::default()))
    }

    pub(super) fn admit(
        self: &Arc<Self>,
        client: &ClientId,
        now: Instant,
        real: u64,
        own: u64,
    ) -> (Verdict, Ticket) {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = table.guard(client, now);
        let before = guard.clone();
        let verdict = guard.admit(now, real, own);
        let after = guard.clone();
        let ticket = Ticket {
            guards: Arc::clone(self),
            client: client.clone(),
            before,
            after,
            kept: false,
        };
        (verdict, ticket)
    }
}

impl Table {
    fn guard(&mut self, client: &ClientId, now: Instant) -> &mut AmplificationGuard {
        if self.clients.len() >= Guards::MAX_CLIENTS
            && !self.clients.contains_key(client)
            && self.sweep.is_due(now)
        {
            self.clients
                .retain(|_, guard| !Sweep::is_idle(guard.window, now));
        }
        let full = self.clients.len() >= Guards::MAX_CLIENTS;
        match self.clients.entry(client.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) if !full => entry.insert(AmplificationGuard::new(now)),
            Entry::Vacant(_) => self
                .overflow
                .get_or_insert_with(|| AmplificationGuard::new(now)),
        }
    }
}

impl Ticket {
    /// The batch is on its way to the queue: from now on the verdict stands, also if nobody waits for the answer.
    pub(super) const fn storing(&mut self) {
        self.kept = true;
    }

    /// The batch was not stored: the verdict is taken back.
    pub(super) fn take_back(mut self) {
        self.kept = false;
    }

    /// The batch was stored: the verdict stands.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut table = self.guards.0.lock().unwrap_or_else(PoisonError::into_inner);
        let guard = table.guard(&self.client, self.after.window);
        // Others may have been decided in between, so what this one added is subtracted, and no state is restored.
        if guard.window == self.after.window {
            let same = self.before.window == self.after.window;
            let (real, own) = if same {
                (self.before.real, self.before.own)
            } else {
                (0, 0)
            };
            guard.real = guard.real.saturating_sub(self.after.real - real);
            guard.own = guard.own.saturating_sub(self.after.own - own);
        }
        guard.collapsed = guard
            .collapsed
            .saturating_add(self.before.collapsed)
            .saturating_sub(self.after.collapsed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn client(n: usize) -> ClientId {
        ClientId::new(&format!("c{n}")).unwrap()
    }

    #[test]
    fn failures_of_uploads_do_not_breed() {
        // Story: each failed upload added one failure event to the next batch, so with a dead sink the intake saw one
        // report for each batch, for ever.
        let start = Instant::now();
        let mut guard = AmplificationGuard::new(start);
        let mut out = 0;
        for second in 0..60 {
            let verdict = guard.admit(start + Duration::from_secs(second), 1, 1);
            out += verdict.admitted + u64::from(verdict.report > 0);
        }
        assert_eq!((out, guard.collapsed()), (1, 59));
        let next = guard.admit(start + Duration::from_secs(60), 1, 1);
        assert_eq!(
            next,
            Verdict {
                admitted: 0,
                report: 60
            }
        );
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_nothing_is_lost(steps in vec((0..90_u64, 0..1000_u64, 0..50_u64), 1..60)) {
            let mut now = Instant::now();
            let mut guard = AmplificationGuard::new(now);
            let (mut window, mut real_in_window, mut out_in_window) = (now, 0, 0);
            let (mut offered, mut accounted) = (0, 0);
            for (seconds, real, own) in steps {
                now += Duration::from_secs(seconds);
                if now - window >= AmplificationGuard::WINDOW {
                    (window, real_in_window, out_in_window) = (now, 0, 0);
                }
                let verdict = guard.admit(now, real, own);
                real_in_window += real;
                out_in_window += verdict.admitted + u64::from(verdict.report > 0);
                prop_assert!(out_in_window <= (real_in_window / 100).max(1));
                offered += own;
                accounted += verdict.admitted + verdict.report;
                prop_assert_eq!(offered, accounted + guard.collapsed());
            }
        }

        #[test]
        fn what_is_taken_back_never_was(steps in vec((0..90_u64, 0..500_u64, 0..20_u64, any::<bool>()), 1..40)) {
            let guards = Guards::new();
            let mut now = Instant::now();
            let mut model = AmplificationGuard::new(now);
            guards.admit(&client(0), now, 0, 0).1.keep();
            for (seconds, real, own, stored) in steps {
                now += Duration::from_secs(seconds);
                let mut tried = model.clone();
                let expected = tried.admit(now, real, own);
                let (verdict, ticket) = guards.admit(&client(0), now, real, own);
                prop_assert_eq!(verdict, expected);
                if stored {
                    ticket.keep();
                    model = tried;
                } else {
                    drop(ticket);
                    // A window that a refused request began stays begun, empty.
                    if tried.window != model.window {
                        let collapsed = model.collapsed;
                        model = AmplificationGuard { collapsed, ..AmplificationGuard::new(tried.window) };
                    }
                }
            }
        }
    }

    #[test]
    fn clients_are_bounded() {
        let guards = Guards::new();
        let now = Instant::now();
        for n in 0..Guards::MAX_CLIENTS + 1000 {
            guards.admit(&client(n), now, 1, 1).1.keep();
        }
        assert_eq!(guards.0.lock().unwrap().clients.len(), Guards::MAX_CLIENTS);
        // The newcomers share one allowance.
        assert_eq!(guards.admit(&client(999_999), now, 0, 1).0.admitted, 0);
        let later = now + Sweep::FORGET_AFTER;
        assert_eq!(guards.admit(&client(999_999), later, 0, 1).0.admitted, 1);
        assert_eq!(guards.0.lock().unwrap().clients.len(), 1);
    }
}
