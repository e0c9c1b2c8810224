//! What the connections of one simulator share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::behaviour::{Behaviour, Manner};
use super::config::Config;
use super::counters::Requests;
use super::store::{Gatekeeper, Store};
use super::write_queue::WriteQueue;
use crate::signal::Signal;

#[derive(Debug)]
pub(super) struct State {
    pub(super) config: Config,
    store: Mutex<Store>,
    conduct: Mutex<Conduct>,
    /// Counts the calls of `behave`, so that hung requests notice.
    behaved: watch::Sender<u64>,
    changes: Signal,
}

#[derive(Debug, Default)]
struct Conduct {
    script: VecDeque<Behaviour>,
    standing: Behaviour,
    queue: Option<WriteQueue>,
}

/// A bulk request between arrival and answer.
#[derive(Debug)]
pub(super) struct InFlight(Arc<State>);

impl State {
    pub(super) fn new(config: Config) -> Self {
        Self {
            store: Mutex::new(Store::new(config.clone())),
            conduct: Mutex::default(),
            behaved: watch::Sender::new(0),
            changes: Signal::default(),
            config,
        }
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        let mut conduct = self.conduct();
        conduct.queue = behaviour.queue();
        conduct.standing = behaviour;
        drop(conduct);
        self.behaved.send_modify(|count| *count += 1);
    }

    pub(super) fn script(&self, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.conduct().script.extend(behaviours);
    }

    pub(super) fn requests(&self) -> Requests {
        self.store().requests
    }

    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store
            .lock()
            .expect("no code panics while it holds the store")
    }

    pub(super) async fn until(&self, so: impl Fn(&Requests) -> bool) {
        let look = || so(&self.requests()).then_some(());
        self.changes.until(look).await;
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Requests)) {
        change(&mut self.store().requests);
        self.changes.changed();
    }

    /// A bulk request has arrived.
    pub(super) fn arrived(self: &Arc<Self>) -> InFlight {
        self.count(Requests::arrived);
        InFlight(self.clone())
    }

    /// The behaviour that a bulk request meets; does not return while that is to hang.
    pub(super) async fn behaviour(&self) -> Behaviour {
        let mut behaved = self.behaved.subscribe();
        loop {
            behaved.mark_unchanged();
            let behaviour = {
                let mut conduct = self.conduct();
                let scripted = conduct.script.pop_front();
                scripted.unwrap_or_else(|| conduct.standing.clone())
            };
            if behaviour.manner != Manner::Hung {
                return behaviour;
            }
            if behaved.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Which of so many items a behaviour lets through, and how long they take.
    pub(super) fn gatekeeper(&self, behaviour: &Behaviour, items: usize) -> (Gatekeeper, Duration) {
        match behaviour.manner {
            Manner::FailingItems(lottery) => (Gatekeeper::Lottery(lottery), Duration::ZERO),
            Manner::Saturated { .. } => {
                let mut conduct = self.conduct();
                let mut own = None;
                let queue = conduct.queue.as_mut();
                let queue = queue.or_else(|| {
                    own = behaviour.queue();
                    own.as_mut()
                });
                queue.map_or((Gatekeeper::All, Duration::ZERO), |queue| {
                    let (taken, wait) = queue.offer(items, Instant::now());
                    (Gatekeeper::First(taken), wait)
                })
            }
            Manner::Healthy | Manner::Hung | Manner::Refusing(_) | Manner::RefusingText(_) => {
                (Gatekeeper::All, Duration::ZERO)
            }
        }
    }

    fn conduct(&self) -> MutexGuard<'_, Conduct> {
        self.conduct
            .lock()
            .expect("no code panics while it holds the conduct")
    }
}

impl Behaviour {
    fn queue(&self) -> Option<WriteQueue> {
        match self.manner {
            Manner::Saturated {
                documents,
                per_second,
            } => Some(WriteQueue::new(documents, per_second, Instant::now())),
            _ => None,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.count(|requests| requests.in_flight -= 1);
    }
}
