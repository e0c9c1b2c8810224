//! What the callers and the two threads share: the index, what waits for the next commit, what has left.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io;
use std::pin::pin;
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep};

use super::committer::{Committer, ENOUGH_GONE};
use super::config::{Config, OpenError};
use super::log::{Gone, Unreadable};
use super::reader::{self, Job, Request};
use super::record::{Place, room};
use super::recovery;
use crate::batch::{Batch, ClientId};
use crate::fs::Fs;
use crate::queue::index::{Entry, Index, Promise};
use crate::queue::telemetry::{self, QueueMetrics};
use crate::queue::{
    AppendError, Claim, Durability, Leased, Outcome, QueueState, QueueStatus, Settle, Want,
};
use crate::telemetry::meter::QueueLabel;

/// What a client is told to wait while the device does not store.
pub(super) const FAILING: AppendError = AppendError::Failing {
    retry_after: Duration::from_secs(5),
};

/// What a client is told to wait while the device is slower than what comes.
pub(super) const BEHIND: AppendError = AppendError::Failing {
    retry_after: Duration::from_secs(1),
};

/// How long to wait when the device gives nothing at all of what was asked for, and how often until it is given up.
const OUTAGE: Duration = Duration::from_secs(1);
const OUTAGES: u32 = 60;

/// The caller's side of a queue on disk. Blocking calls are made by the threads alone.
#[derive(Debug)]
pub(super) struct Engine<F: Fs> {
    shared: Arc<Shared<F>>,
}

/// Ends the committer when it is dropped.
#[derive(Debug)]
pub(super) struct Owner<F: Fs> {
    shared: Arc<Shared<F>>,
}

/// A queue whose threads are still to be started.
#[derive(Debug)]
pub(super) struct Parts<F: Fs> {
    pub(super) engine: Engine<F>,
    pub(super) committer: Committer<F>,
    pub(super) requests: mpsc::Receiver<Request<F>>,
}

#[derive(Debug)]
pub(super) struct Shared<F: Fs> {
    state: Mutex<State<F>>,
    /// The committer waits here for work.
    pub(super) work: Condvar,
    /// Those who wait in `lease` and `shutdown`.
    pub(super) changed: Notify,
    pub(super) metrics: Arc<QueueMetrics>,
    reader: mpsc::Sender<Request<F>>,
    longest_batch: usize,
    most_pending: u64,
}

#[derive(Debug)]
pub(super) struct State<F: Fs> {
    pub(super) index: Index<Place>,
    /// In the order of acceptance.
    pub(super) pending: VecDeque<Pending>,
    /// What the committer has yet to take off the log.
    pub(super) gone: Vec<(u64, Place, Gone)>,
    /// The segments that can be read.
    pub(super) files: BTreeMap<u64, Arc<F::File>>,
    pub(super) failing: bool,
    pub(super) closed: bool,
    /// The committer is to end when nothing is left to do.
    pub(super) stop: bool,
    /// The committer has ended and the directory is free.
    pub(super) stopped: bool,
    /// It has ended by a panic.
    pub(super) panicked: bool,
}

/// A batch that waits to be made durable.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) batch: Batch,
    pub(super) promise: Promise,
    pub(super) done: oneshot::Sender<Result<Durability, AppendError>>,
}

/// What a look at the index gave to somebody who wants to lease.
enum Look<F: Fs> {
    Taken(Vec<(Claim, Job<F>)>),
    Nothing,
    /// And there never will be anything.
    Over,
}

impl<F: Fs> Engine<F> {
    /// Reads the directory and starts the threads.
    pub(super) fn open(fs: F, config: Config) -> Result<(Self, Owner<F>), OpenError> {
        let Parts {
            engine,
            committer,
            requests,
        } = Self::prepare(fs, &config)?;
        let threads = || -> io::Result<()> {
            let builder = |name: &str| thread::Builder::new().name(name.to_owned());
            let metrics = Arc::clone(&engine.shared.metrics);
            builder("gw-log-reader").spawn(move || reader::run(&requests, &metrics))?;
            builder("gw-log-commit").spawn(move || committer.run())?;
            Ok(())
        };
        let dir = config.dir;
        threads().map_err(|source| OpenError::Directory { dir, source })?;
        let owner = Owner {
            shared: Arc::clone(&engine.shared),
        };
        Ok((engine, owner))
    }

    /// Reads the directory.
    pub(super) fn prepare(fs: F, config: &Config) -> Result<Parts<F>, OpenError> {
        let mut index = Index::new(config.limits, Instant::now());
        let mut recovered = Vec::new();
        // Each name is kept once.
        let mut clients = HashSet::new();
        let measured = QueueLabel::named(config.name.as_deref());
        let metrics = Arc::new(QueueMetrics::new(measured));
        let mut log = recovery::open(fs, config, Arc::clone(&metrics), Batch::decode, |found| {
            let batch = found.batch;
            let client = clients.get(batch.client());
            let client = client.unwrap_or(batch.client()).clone();
            clients.insert(client.clone());
            recovered.push(Entry::new(
                client,
                found.ticket,
                found.place.room(),
                batch.len() as u64,
                batch.received(),
                found.place,
            ));
        })?;
        drop(clients);
        recovered.sort_unstable_by_key(|entry| entry.ticket);
        for entry in recovered {
            index.recover(entry);
        }
        index.stored(log.bytes());

        let (reader, requests) = mpsc::channel();
        let mut files = BTreeMap::new();
        log.show(&mut files);
        let state = State {
            index,
            pending: VecDeque::new(),
            gone: Vec::new(),
            files,
            failing: false,
            closed: false,
            stop: false,
            stopped: false,
            panicked: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            changed: Notify::new(),
            metrics,
            reader,
            longest_batch: config.longest_batch(),
            most_pending: config.most_pending(),
        });
        Ok(Parts {
            committer: Committer::new(log, Arc::clone(&shared), config.max_delay),
            engine: Self { shared },
            requests,
        })
    }

    pub(super) async fn append(&self, batch: Batch) -> Result<Durability, AppendError> {
        let (done, confirmed) = oneshot::channel();
        self.shared.submit(batch, done)?;
        self.shared.work.notify_one();
        // The committer answers each batch; it is gone without an answer only if it panicked.
        confirmed.await.unwrap_or(Err(FAILING))
    }

    pub(super) async fn lease(&self, want: Want) -> Vec<Leased> {
        let mut outages = 0;
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            // Before looking, so that a change in between is not missed.
            changed.as_mut().enable();
            match self.look(want) {
                Look::Taken(taken) => {
                    let given_up = outages == OUTAGES;
                    match self.read(taken, given_up).await {
                        Some(leased) if leased.is_empty() => outages = 0,
                        Some(leased) => return leased,
                        None => {
                            if outages == 0 {
                                telemetry::nothing_can_be_read();
                            }
                            outages += 1;
                            sleep(OUTAGE).await;
                        }
                    }
                }
                Look::Nothing => changed.await,
                Look::Over => return Vec::new(),
            }
        }
    }

    fn look(&self, want: Want) -> Look<F> {
        let mut state = self.shared.state();
        let taken = state.index.lease(want);
        if taken.is_empty() {
            return if state.closed && state.index.is_empty() {
                Look::Over
            } else {
                Look::Nothing
            };
        }
        let claim = |(ticket, place): (u64, Place)| {
            let settle: Arc<dyn Settle> = Arc::<Shared<F>>::clone(&self.shared);
            let file = state.files.get(&place.segment).cloned();
            (Claim::new(settle, ticket), Job { place, file })
        };
        Look::Taken(taken.into_iter().map(claim).collect())
    }

    /// Reads what was taken. Batches that cannot be read are forgotten, and until the next start those that the device cannot
    /// give or whose reading panicked. If the device gives nothing at all, that says nothing about the batches: unless it was `given_up`, all
    /// are given back, and there is no answer. Otherwise a short outage would cost the whole queue.
    ///
    /// If the future is dropped, the claims go with it and give everything back.
    async fn read(&self, taken: Vec<(Claim, Job<F>)>, given_up: bool) -> Option<Vec<Leased>> {
        let (claims, jobs): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
        let (done, read) = oneshot::channel();
        // The reader lives for as long as `shared`. Without an answer, the claims give everything back.
        drop(self.shared.reader.send(Request { jobs, done }));
        let batches = read.await.unwrap_or_default();
        let nothing = |batch: &_| matches!(batch, Err(Unreadable::Device));
        if batches.is_empty() || !given_up && batches.iter().all(nothing) {
            return None;
        }
        let mut leased = Vec::with_capacity(claims.len());
        for (claim, batch) in claims.into_iter().zip(batches) {
            match batch {
                Ok(batch) => leased.push(Leased::claimed(batch, claim)),
                Err(why) => self.shared.unreadable(claim.disarm(), why),
            }
        }
        Some(leased)
    }

    pub(super) fn has_room(&self, client: &ClientId, encoded: usize) -> Result<(), AppendError> {
        let state = self.shared.state();
        let bytes = self.shared.room_of(&state, encoded)?;
        state
            .index
            .room_for(client, bytes, Instant::now())
            .map(drop)
    }

    pub(super) fn status(&self) -> QueueStatus {
        self.shared.measure(&self.shared.state())
    }

    pub(super) fn name(&self) -> Option<&str> {
        self.shared.metrics.name()
    }

    pub(super) fn hold(&self, client: &ClientId) {
        self.shared.state().index.hold(client);
    }

    pub(super) fn release(&self, client: &ClientId) {
        self.shared.state().index.release(client);
        self.shared.changed.notify_waiters();
    }

    pub(super) fn close(&self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_waiters();
    }

    pub(super) async fn shutdown(&self) {
        self.shared.stop();
        loop {
            let mut changed = pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if self.shared.state().stopped {
                return;
            }
            changed.await;
        }
    }
}

impl<F: Fs> Clone for Engine<F> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<F: Fs> Drop for Owner<F> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl<F: Fs> State<F> {
    fn status(&self) -> QueueStatus {
        let mut status = self.index.status(SystemTime::now(), Instant::now());
        // A panic closes the queue, but nobody meant to.
        if self.closed && !self.panicked {
            status.state = QueueState::Closed;
        } else if self.failing || self.panicked {
            status.state = QueueState::Failing;
        }
        status
    }
}

impl<F: Fs> Shared<F> {
    pub(super) fn state(&self) -> MutexGuard<'_, State<F>> {
        // A panic while the lock is held leaves counts that are off by one batch at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How it stands, which the gauges show from now on. Whoever asks does this, and not the committer alone: it says nothing while
    /// the device hangs. Under the lock, so that what was looked at last is what they show.
    pub(super) fn measure(&self, state: &State<F>) -> QueueStatus {
        let status = state.status();
        self.metrics.status(&status);
        status
    }

    /// The room for a batch of so many bytes, if batches of that size are taken now.
    fn room_of(&self, state: &State<F>, encoded: usize) -> Result<u64, AppendError> {
        if encoded > self.longest_batch {
            return Err(AppendError::TooLarge {
                limit: self.longest_batch,
            });
        }
        if state.failing || state.panicked {
            return Err(FAILING);
        }
        if state.closed {
            return Err(AppendError::Closed);
        }
        let bytes = room(encoded);
        Ok(bytes)
    }

    /// Puts a batch before the committer.
    fn submit(
        &self,
        batch: Batch,
        done: oneshot::Sender<Result<Durability, AppendError>>,
    ) -> Result<(), AppendError> {
        let mut state = self.state();
        let bytes = self.room_of(&state, batch.encoded().len())?;
        // These are in memory, also those whose clients have given up: a disk that hangs must not fill it. Asked here alone: it is over in
        // a moment as a rule, and an upload is not to be sent again for that.
        let pending = state.index.promised_bytes();
        if pending > 0 && pending.saturating_add(bytes) > self.most_pending {
            return Err(BEHIND);
        }
        let promise = state.index.admit(batch.client(), bytes, Instant::now())?;
        state.pending.push_back(Pending {
            batch,
            promise,
            done,
        });
        Ok(())
    }

    fn stop(&self) {
        let mut state = self.state();
        state.closed = true;
        state.stop = true;
        drop(state);
        self.work.notify_one();
        self.changed.notify_waiters();
    }

    fn unreadable(&self, ticket: u64, why: Unreadable) {
        let mut state = self.state();
        if let Some(entry) = state.index.forget(ticket, Instant::now()) {
            state.left(ticket, entry.item, Gone::Unreadable(why));
        }
        drop(state);
        self.work.notify_one();
        self.changed.notify_waiters();
    }
}

impl<F: Fs> State<F> {
    /// For the committer, if there still is one.
    fn left(&mut self, ticket: u64, place: Place, how: Gone) {
        if !self.stopped {
            self.gone.push((ticket, place, how));
        }
    }
}

impl<F: Fs> Settle for Shared<F> {
    fn settle(&self, ticket: u64, outcome: Outcome) {
        let mut state = self.state();
        let mut changed = true;
        match outcome {
            Outcome::Acknowledged => {
                if let Some(entry) = state.index.acknowledge(ticket, Instant::now()) {
                    state.left(ticket, entry.item, Gone::Delivered);
                }
                // Those who wait to lease learn that nothing is left to wait for.
                changed = state.closed && state.index.is_empty();
            }
            Outcome::Returned => drop(state.index.give_back(ticket)),
        }
        // The committer lets more come together.
        let wake = matches!(state.gone.len(), 1 | ENOUGH_GONE);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        if changed {
            self.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
use super::committer::Work;

/// For tests that do what the threads do.
#[cfg(test)]
impl<F: Fs> Engine<F> {
    pub(super) fn submit(
        &self,
        batch: Batch,
        done: oneshot::Sender<Result<Durability, AppendError>>,
    ) -> Result<(), AppendError> {
        self.shared.submit(batch, done)
    }

    #[cfg(feature = "metrics")]
    pub(super) fn metrics(&self) -> Arc<QueueMetrics> {
        Arc::clone(&self.shared.metrics)
    }

    pub(super) fn take_work(&self, committer: &Committer<F>) -> Option<Work> {
        let mut state = self.shared.state();
        let work = !state.pending.is_empty() || !state.gone.is_empty();
        work.then(|| committer.take(&mut state))
    }

    pub(super) async fn lease_once(&self, want: Want, given_up: bool) -> Option<Vec<Leased>> {
        let Look::Taken(taken) = self.look(want) else {
            return Some(Vec::new());
        };
        self.read(taken, given_up).await
    }

    pub(super) fn lease_now(&self, want: Want) -> Vec<Leased> {
        let Look::Taken(taken) = self.look(want) else {
            return Vec::new();
        };
        let mut leased = Vec::new();
        for (claim, job) in taken {
            match reader::read(&job) {
                Ok(batch) => leased.push(Leased::claimed(batch, claim)),
                Err(why) => self.shared.unreadable(claim.disarm(), why),
            }
        }
        leased
    }
}
