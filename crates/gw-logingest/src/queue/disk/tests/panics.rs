//! The thread that writes panics: whoever waits learns it, and nothing is promised any more.

use std::time::Duration;

use tokio::time::timeout;

use super::world::{ALL, batch, config};
use crate::fs::sim::{Loss, Op, SimFs};
use crate::queue::disk::engine::{Engine, FAILING};
use crate::queue::{Durability, Leased, QueueState};

/// Real threads: only what hangs for good takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    let ended = timeout(PATIENCE, future).await;
    ended.unwrap_or_else(|_| panic!("{what}: hangs"))
}

#[tokio::test]
async fn a_panic_refuses_what_waits_and_what_comes() {
    for op in [Op::Write, Op::Sync] {
        let fs = SimFs::default();
        let (engine, owner) = Engine::open(fs.clone(), config()).unwrap();
        let first = in_time("append", engine.append(batch(0, 100))).await;
        assert_eq!(first, Ok(Durability::Host));
        assert_eq!(engine.status().state, QueueState::Serving);

        fs.panic(op);
        // Some of these are with the committer, others wait for it.
        let appends = (1..20).map(|id| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.append(batch(id, 100)).await })
        });
        for append in appends.collect::<Vec<_>>() {
            let answer = in_time("append", append).await.unwrap();
            assert_eq!(answer, Err(FAILING));
        }
        let later = in_time("append", engine.append(batch(20, 100))).await;
        assert_eq!(later, Err(FAILING));
        // The one that came later was refused for it, or answered at the thread's end: by now that is known.
        assert_eq!(engine.status().state, QueueState::Failing);

        // What was stored is delivered, and then who leases learns that there is no more.
        let leased = in_time("lease", engine.lease(ALL)).await;
        let ids: Vec<_> = leased
            .iter()
            .map(|leased| leased.batch().id().as_u128())
            .collect();
        assert_eq!(ids, [0]);
        leased.into_iter().for_each(Leased::acknowledge);
        assert!(in_time("lease", engine.lease(ALL)).await.is_empty());
        in_time("shutdown", engine.shutdown()).await;
        drop((engine, owner));

        // The directory is free, and the next process finds what was confirmed.
        fs.kill();
        fs.crash(Loss::Everything);
        let (engine, _owner) = Engine::open(fs, config()).unwrap();
        let leased = in_time("lease", engine.lease(ALL)).await;
        assert_eq!(leased[0].batch().id().as_u128(), 0);
        assert_eq!(engine.status().state, QueueState::Serving);
    }
}
