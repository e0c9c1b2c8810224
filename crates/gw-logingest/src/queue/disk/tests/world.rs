//! A queue on a simulated disk, and a ledger of what was sent, confirmed and acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::batch::{Batch, BatchId, Class, ClientId};
use crate::fs::sim::{Loss, SimFs};
use crate::queue::clients::Shares;
use crate::queue::disk::committer::{Committer, Work};
use crate::queue::disk::config::Config;
use crate::queue::disk::engine::{BEHIND, Engine, Parts};
use crate::queue::{AppendError, Durability, Leased, QueueStatus, Want};

pub(super) const ALL: Want = Want {
    bytes: usize::MAX,
    events: usize::MAX,
};

pub(super) const SEGMENT: u64 = 8 * 1024;

/// The queue as it is now; gone while the power is off.
struct Running {
    engine: Engine<SimFs>,
    committer: Committer<SimFs>,
}

pub(super) struct World {
    pub(super) fs: SimFs,
    pub(super) config: Config,
    running: Option<Running>,
    leased: Vec<Leased>,
    next_id: u128,
    pub(super) ledger: Ledger,
    /// Its clock is paused.
    runtime: Runtime,
}

#[derive(Debug, Default, Clone)]
pub(super) struct Ledger {
    pub(super) sent: BTreeMap<u128, Batch>,
    pub(super) confirmed: BTreeSet<u128>,
    pub(super) acknowledged: BTreeSet<u128>,
}

pub(super) fn config() -> Config {
    let shares = Shares {
        share: 1000.0,
        ..Shares::DEFAULT
    };
    Config {
        dir: "logs".into(),
        name: None,
        segment_bytes: SEGMENT,
        max_delay: Duration::ZERO,
        limits: shares.limits(14 * SEGMENT).unwrap(),
    }
}

/// A batch with about so many bytes.
pub(super) fn batch(id: u128, bytes: usize) -> Batch {
    let client = ClientId::new(["a", "b", "c"][(id % 3) as usize]).unwrap();
    let mut builder = Batch::builder(BatchId::from_u128(id), client, UNIX_EPOCH);
    builder.push(
        None,
        Class::Normal,
        format!("{{\"message\":\"{id:->bytes$}\"}}").as_bytes(),
    );
    builder.finish()
}

impl World {
    pub(super) fn new(fs: SimFs) -> Self {
        Self::with(fs, config())
    }

    pub(super) fn with(fs: SimFs, config: Config) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let mut world = Self {
            fs,
            config,
            running: None,
            leased: Vec::new(),
            next_id: 0,
            ledger: Ledger::default(),
            runtime,
        };
        world.open();
        world
    }

    /// Opens the queue. It may fail only while the power is off.
    pub(super) fn open(&mut self) {
        let _clock = self.runtime.enter();
        let Ok(Parts {
            engine,
            mut committer,
            ..
        }) = Engine::prepare(self.fs.clone(), &self.config)
        else {
            return;
        };
        committer.start();
        self.running = Some(Running { engine, committer });
    }

    /// Lets the committer do all that there is to do.
    fn work(&mut self) {
        let _clock = self.runtime.enter();
        if let Some(running) = &mut self.running {
            running.committer.turn(Work::default());
            while let Some(work) = running.engine.take_work(&running.committer) {
                running.committer.turn(work);
            }
        }
    }

    /// Sends batches of these sizes, to be committed together.
    pub(super) fn append(&mut self, sizes: &[usize]) -> Vec<Result<Durability, AppendError>> {
        let clock = self.runtime.enter();
        let Some(running) = &mut self.running else {
            return Vec::new();
        };
        let mut waiting = Vec::new();
        for size in sizes {
            let batch = batch(self.next_id, *size);
            let (done, answer) = oneshot::channel();
            let (client, bytes) = (batch.client(), batch.encoded().len());
            let asked = running.engine.has_room(client, bytes);
            let submitted = running.engine.submit(batch.clone(), done);
            if submitted != Err(BEHIND) {
                assert_eq!(asked, submitted);
            }
            self.ledger.sent.insert(self.next_id, batch);
            waiting.push((self.next_id, submitted, answer));
            self.next_id += 1;
        }
        drop(clock);
        self.work();
        let mut answers = Vec::new();
        for (id, submitted, mut answer) in waiting {
            let answer = submitted.and_then(|()| answer.try_recv().unwrap());
            if answer.is_ok() {
                self.ledger.confirmed.insert(id);
            }
            answers.push(answer);
        }
        answers
    }

    pub(super) fn lease(&mut self, batches: usize) -> usize {
        let _clock = self.runtime.enter();
        let Some(running) = &self.running else {
            return 0;
        };
        let want = Want {
            bytes: usize::MAX,
            events: batches,
        };
        let leased = running.engine.lease_now(want);
        let count = leased.len();
        self.leased.extend(leased);
        count
    }

    /// Acknowledges one of the leased batches.
    pub(super) fn acknowledge(&mut self, place: usize) {
        if self.leased.is_empty() {
            return;
        }
        let leased = self.leased.swap_remove(place % self.leased.len());
        self.ledger
            .acknowledged
            .insert(leased.batch().id().as_u128());
        {
            let _clock = self.runtime.enter();
            leased.acknowledge();
        }
        self.work();
    }

    pub(super) fn acknowledge_all(&mut self) {
        while !self.leased.is_empty() {
            self.acknowledge(0);
        }
    }

    pub(super) fn give_back(&mut self) {
        self.leased.clear();
    }

    /// Time passes, in which the committer looks around.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.runtime
            .block_on(tokio::time::advance(Duration::from_secs(seconds)));
        self.work();
    }

    pub(super) fn failing(&self) -> bool {
        let _clock = self.runtime.enter();
        let running = self.running.as_ref().unwrap();
        running.engine.status().state == crate::queue::QueueState::Failing
    }

    pub(super) fn used(&self) -> u64 {
        self.status().bytes
    }

    pub(super) fn status(&self) -> QueueStatus {
        let _clock = self.runtime.enter();
        self.running.as_ref().unwrap().engine.status()
    }

    /// The process ends in order.
    pub(super) fn finish(&mut self) {
        self.leased.clear();
        if let Some(mut running) = self.running.take() {
            running.committer.finish();
        }
    }

    /// The power goes and comes back; then the laws are checked.
    pub(super) fn crash(&mut self, loss: Loss) {
        // Nothing is done on the disk by these.
        self.leased.clear();
        self.running = None;
        self.fs.crash(loss);
        self.reopen();
    }

    /// The process is killed and starts again; then the laws are checked.
    pub(super) fn kill(&mut self) {
        self.leased.clear();
        self.running = None;
        self.fs.kill();
        self.reopen();
    }

    /// Opens what is there and checks the laws: all confirmed batches are there unless they were acknowledged, nothing
    /// is there that was not sent, in the order of sending, and opening once more finds the same.
    pub(super) fn reopen(&mut self) {
        self.running = None;
        self.open();
        let first = self.content();
        let found: BTreeSet<_> = first.iter().copied().collect();
        assert_eq!(found.len(), first.len(), "twice: {first:?}");
        let owed: Vec<_> = self
            .ledger
            .confirmed
            .difference(&self.ledger.acknowledged)
            .collect();
        let missing: Vec<_> = owed.into_iter().filter(|id| !found.contains(id)).collect();
        assert!(
            missing.is_empty(),
            "lost: {missing:?}, found {found:?}, files {:?}",
            self.fs.files()
        );
        self.running = None;
        self.open();
        assert_eq!(self.content(), first, "opened again");
    }

    /// The ids of all batches in the queue.
    pub(super) fn content(&mut self) -> Vec<u128> {
        let _clock = self.runtime.enter();
        let running = self.running.as_ref().expect("a queue that opens");
        let leased = running.engine.lease_now(ALL);
        let mut last = BTreeMap::new();
        for leased in &leased {
            let batch = leased.batch();
            let id = batch.id().as_u128();
            assert_eq!(self.ledger.sent.get(&id), Some(batch), "never sent");
            let before = last.insert(batch.client().clone(), id);
            assert!(
                before.is_none_or(|before| before < id),
                "{before:?} before {id}"
            );
        }
        leased
            .iter()
            .map(|leased| leased.batch().id().as_u128())
            .collect()
    }

    pub(super) fn path(&self, name: &str) -> std::path::PathBuf {
        Path::new("logs").join(name)
    }

    /// The names of the segments that are not set aside.
    pub(super) fn segments(&self) -> Vec<String> {
        let names = self.fs.files().into_iter().map(|(name, _)| name);
        names
            .filter(|name| name.starts_with("segment-") && !name.ends_with(".broken"))
            .collect()
    }

    pub(super) fn set_aside(&self) -> usize {
        self.fs
            .files()
            .iter()
            .filter(|(name, _)| name.ends_with(".broken"))
            .count()
    }
}
