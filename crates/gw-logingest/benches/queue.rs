//! Durable batches in a second, and how long one waits: the queue on disk beside a bare loop that does nothing but
//! write and sync what waits. 64 writers, each with one batch at a time. The figure to look at is the ratio.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_types,
    missing_docs,
    reason = "a bench"
)]

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use gw_logingest::queue::{DiskQueue, MemoryQueue};
use gw_logingest::{Batch, BatchId, Class, ClientId, Leased, Queue, Want};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const WRITERS: u64 = 64;
/// Of each side in each round.
const ROUND: Duration = Duration::from_secs(2);
const ROUNDS: usize = 5;

/// What a side did in one round.
struct Figures {
    per_second: f64,
    p50: Duration,
    p99: Duration,
}

fn batch(client: &ClientId, payload: &[u8]) -> Batch {
    let now = SystemTime::now();
    let mut builder = Batch::builder(BatchId::new(now), client.clone(), now);
    builder.push(None, Class::Normal, payload);
    builder.finish()
}

/// Runs the writers for one round; `store` resolves when the payload is durable.
fn measure<S, F>(runtime: &Runtime, store: S) -> Figures
where
    S: Fn(u64) -> F + Send + Sync + 'static,
    F: Future<Output = ()> + Send,
{
    let store = Arc::new(store);
    let start = Instant::now();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let store = Arc::clone(&store);
            runtime.spawn(async move {
                let mut times = Vec::new();
                while start.elapsed() < ROUND {
                    let before = Instant::now();
                    store(writer).await;
                    times.push(before.elapsed());
                }
                times
            })
        })
        .collect();
    let times = writers
        .into_iter()
        .flat_map(|writer| runtime.block_on(writer).unwrap());
    let mut times: Vec<_> = times.collect();
    let elapsed = start.elapsed();
    times.sort();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    Figures {
        per_second: times.len() as f64 / elapsed.as_secs_f64(),
        p50: at(0.5),
        p99: at(0.99),
    }
}

/// The queue, with or without a consumer that forgets all it gets.
fn ours(runtime: &Runtime, dir: &Path, payload: usize, consumed: bool) -> Figures {
    // Large enough for a round without a consumer.
    let queue = DiskQueue::builder(dir)
        .max_bytes(16 << 30)
        .client_share(1000.0)
        .open()
        .unwrap();
    let consumer = consumed.then(|| runtime.spawn(consume(queue.clone())));
    let payload = vec![b'x'; payload];
    let client = |n| ClientId::new(&format!("client-{n}")).unwrap();
    let batches: Arc<[_]> = (0..WRITERS).map(|n| batch(&client(n), &payload)).collect();
    let figures = measure(runtime, {
        let queue = queue.clone();
        move |writer| {
            let queue = queue.clone();
            let batch = batches[writer as usize].clone();
            async move {
                queue.append(batch).await.unwrap();
            }
        }
    });
    runtime.block_on(queue.shutdown());
    if let Some(consumer) = consumer {
        runtime.block_on(consumer).unwrap();
    }
    figures
}

async fn consume(queue: DiskQueue) {
    let want = Want {
        bytes: 8 << 20,
        events: 10_000,
    };
    loop {
        let leased = queue.lease(want).await;
        if leased.is_empty() {
            return;
        }
        leased.into_iter().for_each(Leased::acknowledge);
    }
}

type Waiting = (Arc<[u8]>, oneshot::Sender<()>);

/// Takes all that waits, writes it with its lengths, syncs, and tells the writers. A new file every 64 MiB, with its
/// space reserved, as the queue has it; the old one goes at once.
fn commit(dir: &Path, waiting: &Receiver<Waiting>) {
    const SEGMENT: u64 = 64 << 20;
    let mut file: Option<(File, u64)> = None;
    let mut files = 0;
    let mut buf = Vec::new();
    while let Ok(first) = waiting.recv() {
        let mut group = vec![first];
        group.extend(waiting.try_iter().take(1023));
        buf.clear();
        for (payload, _) in &group {
            buf.extend_from_slice(&(payload.len() as u64).to_le_bytes());
            buf.extend_from_slice(payload);
        }
        if file
            .as_ref()
            .is_none_or(|(_, at)| at + buf.len() as u64 > SEGMENT)
        {
            let path = dir.join(format!("bare-{files}"));
            files += 1;
            let fresh = OpenOptions::new()
                .create_new(true)
                .write(true)
                .open(&path)
                .unwrap();
            rustix::fs::fallocate(&fresh, rustix::fs::FallocateFlags::empty(), 0, SEGMENT).unwrap();
            fresh.sync_data().unwrap();
            std::fs::remove_file(path).unwrap();
            file = Some((fresh, 0));
        }
        let (file, at) = file.as_mut().unwrap();
        file.write_all_at(&buf, *at).unwrap();
        *at += buf.len() as u64;
        file.sync_data().unwrap();
        for (_, done) in group {
            let _ = done.send(());
        }
    }
}

fn bare(runtime: &Runtime, dir: &Path, payload: usize) -> Figures {
    let (sender, receiver): (SyncSender<Waiting>, _) = sync_channel(4096);
    let dir = dir.to_path_buf();
    let committer = thread::spawn(move || commit(&dir, &receiver));
    let payload: Arc<[u8]> = vec![b'x'; payload].into();
    let figures = measure(runtime, move |_| {
        let (sender, payload) = (sender.clone(), Arc::clone(&payload));
        async move {
            let (done, confirmed) = oneshot::channel();
            sender.send((payload, done)).unwrap();
            confirmed.await.unwrap();
        }
    });
    committer.join().unwrap();
    figures
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All in turn, so that what else the machine does hits each.
fn group_commit(_: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    // Beside the build, since a directory for temporary files may be in memory.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for payload in [1024, 16 * 1024] {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let dir = || TempDir::new_in(target).unwrap();
            rounds.push([
                bare(&runtime, dir().path(), payload),
                ours(&runtime, dir().path(), payload, false),
                ours(&runtime, dir().path(), payload, true),
            ]);
        }
        let kib = payload / 1024;
        println!("{kib} KiB batches, {WRITERS} writers, median of {ROUNDS} rounds of {ROUND:?}:");
        for (n, name) in ["bare loop", "queue", "queue, consumed"]
            .into_iter()
            .enumerate()
        {
            let of =
                |figure: &dyn Fn(&[Figures; 3]) -> f64| median(rounds.iter().map(figure).collect());
            println!(
                "  {name:<16} {:>7.0} durable batches/s, {:.2} of the bare loop; p50 {:>5.2} ms, p99 {:>5.2} ms",
                of(&|round| round[n].per_second),
                of(&|round| round[n].per_second / round[0].per_second),
                of(&|round| round[n].p50.as_secs_f64() * 1e3),
                of(&|round| round[n].p99.as_secs_f64() * 1e3),
            );
        }
    }
}

/// How long it takes to open a queue with a quarter of a gigabyte in it, which the kernel still has in memory.
fn reopen(c: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let builder = || DiskQueue::builder(dir.path()).client_share(1000.0);
    let payload = vec![b'x'; 16 * 1024];
    let batches: Vec<_> = (0..16 * 1024)
        .map(|n| {
            batch(
                &ClientId::new(&format!("client-{}", n % 100)).unwrap(),
                &payload,
            )
        })
        .collect();
    runtime.block_on(async {
        let queue = builder().open().unwrap();
        // More at once than may wait for the disk would be refused.
        for some in batches.chunks(1024) {
            let appends: Vec<_> = some
                .iter()
                .map(|batch| {
                    let (queue, batch) = (queue.clone(), batch.clone());
                    tokio::spawn(async move { queue.append(batch).await.unwrap() })
                })
                .collect();
            for append in appends {
                append.await.unwrap();
            }
        }
        queue.shutdown().await;
    });
    let mut group = c.benchmark_group("reopen");
    group.sample_size(10);
    group.bench_function("16384 batches of 16 KiB", |b| {
        b.iter_custom(|rounds| {
            let open = || {
                let before = Instant::now();
                let queue = builder().open().unwrap();
                let took = before.elapsed();
                assert_eq!(queue.status().batches, 16 * 1024);
                runtime.block_on(queue.shutdown());
                took
            };
            (0..rounds).map(|_| open()).sum()
        });
    });
    group.finish();
}

/// What the shared index costs, without a disk.
fn index(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let queue = MemoryQueue::builder().client_share(1000.0).build().unwrap();
    let batches: Mutex<Vec<_>> = Mutex::new(
        (0..100)
            .map(|n| {
                batch(
                    &ClientId::new(&format!("client-{n}")).unwrap(),
                    &[b'x'; 1024],
                )
            })
            .collect(),
    );
    let want = Want {
        bytes: 1 << 20,
        events: 1000,
    };
    c.bench_function(
        "append, lease and acknowledge 100 batches of 100 clients, in memory",
        |b| {
            b.iter(|| {
                runtime.block_on(async {
                    let batches = batches.lock().unwrap().clone();
                    for batch in batches {
                        queue.append(batch).await.unwrap();
                    }
                    queue
                        .lease(want)
                        .await
                        .into_iter()
                        .for_each(Leased::acknowledge);
                });
            });
        },
    );
}

criterion_group!(benches, group_commit, reopen, index);
criterion_main!(benches);
