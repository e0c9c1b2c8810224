//! The thread that writes panics: whoever waits learns it, and nothing is promised any more. The one that reads panics: that
//! costs one record, until the next start, and so does a panic at the start itself.

use std::sync::Arc;
#[cfg(feature = "tracing")]
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[cfg(feature = "tracing")]
use gw_testkit::Listener;
#[cfg(all(feature = "metrics", feature = "tracing"))]
use gw_testkit::log_capture::LogCapture;
#[cfg(feature = "metrics")]
use gw_testkit::metrics_capture::MetricsCapture;
#[cfg(feature = "metrics")]
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::world::{ALL, batch, config};
use crate::batch::Batch;
use crate::fs::sim::{Loss, Op, SimFs};
use crate::queue::disk::engine::{Engine, FAILING};
use crate::queue::disk::log::{Gone, Log};
use crate::queue::disk::recovery::{self, Recovered};
#[cfg(feature = "metrics")]
use crate::queue::disk::{engine::Parts, reader};
use crate::queue::telemetry::QueueMetrics;
use crate::queue::{Durability, Leased, QueueState, Want};
use crate::telemetry::meter::QueueLabel;

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

/// A listener that panics once the flag is set.
#[cfg(feature = "tracing")]
fn fragile() -> (Listener, Arc<AtomicBool>) {
    let broken = Arc::<AtomicBool>::default();
    let asked = Arc::clone(&broken);
    let listener = Listener::new(move || assert!(!asked.load(Ordering::SeqCst), "it is broken"));
    (listener, broken)
}

/// Story: a layer that printed to a closed stream panicked when it was told of a failed write, and again when it was told of that
/// panic, which ended the process.
#[cfg(feature = "tracing")]
#[tokio::test]
async fn a_subscriber_that_panics_ends_storing_and_not_the_process() {
    let (subscriber, broken) = fragile();
    // With one alone, each place in the code would keep what the first thread there says of it.
    let _another = tracing::Dispatch::new(fragile().0);
    let dispatch = tracing::Dispatch::new(subscriber);
    let fs = SimFs::default();
    let parts = Engine::prepare(fs.clone(), &config()).unwrap();
    let engine = parts.engine;
    let thread = std::thread::spawn(move || {
        tracing::dispatcher::with_default(&dispatch, || parts.committer.run());
    });
    let first = in_time("append", engine.append(batch(0, 100))).await;
    assert_eq!(first, Ok(Durability::Host));

    broken.store(true, Ordering::SeqCst);
    fs.fail(Op::Write, 0, 1);
    let second = in_time("append", engine.append(batch(1, 100))).await;
    assert_eq!(second, Err(FAILING));
    in_time("shutdown", engine.shutdown()).await;
    assert!(thread.join().is_err());
    assert_eq!(engine.status().state, QueueState::Failing);
    // What was stored is delivered.
    let leased = engine.lease_now(ALL);
    assert_eq!(leased.len(), 1);
}

/// Story: a recorder that panicked when the queue was told to end kept those waiting who waited for its end. One that panics earlier
/// ends storing, which the log says all the same.
#[cfg(all(feature = "metrics", feature = "tracing"))]
#[tokio::test]
async fn a_recorder_that_panics_keeps_nobody_waiting() {
    for orderly in [true, false] {
        let (recorder, broken) = fragile();
        let log = LogCapture::new();
        let parts = Engine::prepare(SimFs::default(), &config()).unwrap();
        let engine = parts.engine;
        let logging = log.clone();
        let thread = std::thread::spawn(move || {
            let run = || logging.run(|| parts.committer.run());
            metrics::with_local_recorder(&recorder, run);
        });
        let first = in_time("append", engine.append(batch(0, 100))).await;
        assert_eq!(first, Ok(Durability::Host));
        engine
            .lease_now(ALL)
            .into_iter()
            .for_each(Leased::acknowledge);
        let leasing = engine.clone();
        let leasing = tokio::spawn(async move { leasing.lease(ALL).await });
        tokio::task::yield_now().await;

        broken.store(true, Ordering::SeqCst);
        if !orderly {
            let second = in_time("append", engine.append(batch(1, 100))).await;
            assert_eq!(second, Err(FAILING));
        }
        in_time("shutdown", engine.shutdown()).await;
        assert!(in_time("lease", leasing).await.unwrap().is_empty());
        assert_eq!(thread.join().is_ok(), orderly);
        let said = log.events_from("gw_logingest");
        let said = said
            .iter()
            .any(|event| event.message.contains("has panicked"));
        assert_eq!(said, !orderly);
    }
}

/// Story: a record whose reading panicked ended the thread, and nothing was delivered any more, with one line in the log.
#[tokio::test]
async fn a_panic_of_the_reader_keeps_one_record_back_and_no_other() {
    let fs = SimFs::default();
    let (engine, owner) = Engine::open(fs.clone(), config()).unwrap();
    for id in 0..3 {
        let stored = in_time("append", engine.append(batch(id, 100))).await;
        assert_eq!(stored, Ok(Durability::Host));
    }
    fs.panic(Op::Read);
    // Asked for alone, it does not look like a device that gives nothing, which would be waited for.
    let one = Want { events: 1, ..ALL };
    let mut delivered = Vec::new();
    for _ in 0..2 {
        for leased in in_time("lease", engine.lease(one)).await {
            delivered.push(leased.batch().id().as_u128());
            leased.acknowledge();
        }
    }
    assert_eq!(delivered, [1, 2]);
    // It goes on.
    let stored = in_time("append", engine.append(batch(3, 100))).await;
    assert_eq!(stored, Ok(Durability::Host));
    let leased = in_time("lease", engine.lease(ALL)).await;
    assert_eq!(leased[0].batch().id().as_u128(), 3);
    leased.into_iter().for_each(Leased::acknowledge);
    in_time("shutdown", engine.shutdown()).await;
    assert!(in_time("lease", engine.lease(ALL)).await.is_empty());
    drop((engine, owner));

    // What could not be read is there for the next start.
    fs.crash(Loss::Everything);
    let (engine, _owner) = Engine::open(fs, config()).unwrap();
    let leased = in_time("lease", engine.lease(ALL)).await;
    let [leased] = leased.as_slice() else {
        panic!("{leased:?}");
    };
    assert!(!delivered.contains(&leased.batch().id().as_u128()));
}

/// Starts where one record has poison in it, and finds the others.
fn start_with_poison(fs: &SimFs) -> (Log<SimFs>, Vec<Recovered>) {
    let metrics = Arc::new(QueueMetrics::new(QueueLabel::named(None)));
    let decode = |bytes| {
        let batch = Batch::decode(bytes)?;
        assert_ne!(batch.id().as_u128(), 1, "poison");
        Ok(batch)
    };
    let mut found = Vec::new();
    let log = recovery::open(fs.clone(), &config(), metrics, decode, |batch| {
        found.push(batch);
    });
    (log.unwrap(), found)
}

/// Three batches in a queue that has ended in order.
async fn three_stored() -> SimFs {
    let fs = SimFs::default();
    let (engine, _owner) = Engine::open(fs.clone(), config()).unwrap();
    for id in 0..3 {
        let stored = in_time("append", engine.append(batch(id, 100))).await;
        assert_eq!(stored, Ok(Durability::Host));
    }
    in_time("shutdown", engine.shutdown()).await;
    fs
}

/// Story: a record whose reading panicked kept the queue from opening, at each start anew.
#[tokio::test]
async fn a_panic_at_the_start_keeps_one_record_back_and_no_other() {
    let fs = three_stored().await;
    fs.kill();
    for _ in 0..2 {
        let (mut log, found) = start_with_poison(&fs);
        let ids: Vec<_> = found.iter().map(|one| one.batch.id().as_u128()).collect();
        assert_eq!(ids, [0, 2]);
        log.finish();
        drop(log);
        fs.kill();
    }
    // All others are delivered.
    let (mut log, found) = start_with_poison(&fs);
    let delivered = found
        .iter()
        .map(|one| (one.ticket, one.place, Gone::Delivered));
    log.forget(&delivered.collect::<Vec<_>>(), Instant::now());
    log.finish();
    drop(log);
    fs.crash(Loss::Everything);

    let (engine, _owner) = Engine::open(fs, config()).unwrap();
    let leased = in_time("lease", engine.lease(ALL)).await;
    let [leased] = leased.as_slice() else {
        panic!("{leased:?}");
    };
    assert_eq!(*leased.batch(), batch(1, 100));
}

#[cfg(feature = "metrics")]
#[tokio::test]
async fn a_panic_at_the_start_is_counted() {
    let fs = three_stored().await;
    fs.kill();
    let metrics = MetricsCapture::new();
    let scenario = async { drop(start_with_poison(&fs)) };
    metrics.scope(scenario).await;
    metrics.assert_counter("gateway_logingest_storage_failures_total", &[], 1);
    metrics.assert_counter("gateway_logingest_unreadable_batches_total", &[], 1);
}

#[cfg(feature = "metrics")]
#[tokio::test(start_paused = true)]
async fn a_panic_of_the_reader_is_counted() {
    let metrics = MetricsCapture::new();
    let scenario = async {
        let fs = SimFs::default();
        let Parts {
            engine,
            mut committer,
            requests,
        } = Engine::prepare(fs.clone(), &config()).unwrap();
        committer.start();
        for id in 0..2 {
            engine.submit(batch(id, 100), oneshot::channel().0).unwrap();
        }
        committer.turn(engine.take_work(&committer).unwrap());
        fs.panic(Op::Read);
        let lease = async {
            assert_eq!(engine.lease(ALL).await.len(), 1);
        };
        let read = async {
            // By now the request is there.
            reader::answer(requests.try_recv().unwrap(), &engine.metrics());
        };
        tokio::join!(biased; lease, read);
        committer.turn(engine.take_work(&committer).unwrap());
    };
    metrics.scope(scenario).await;
    metrics.assert_counter("gateway_logingest_storage_failures_total", &[], 1);
    metrics.assert_counter("gateway_logingest_unreadable_batches_total", &[], 1);
}
