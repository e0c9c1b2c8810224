//! The queue in a real directory.
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test"
)]

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use gw_logingest::queue::{DiskQueue, DiskQueueBuilder};
use gw_logingest::{
    AppendError, Batch, BatchId, Class, ClientId, Durability, Leased, OpenError, Queue, QueueState,
    Want,
};
use tempfile::TempDir;

const ALL: Want = Want {
    bytes: usize::MAX,
    events: usize::MAX,
};

fn builder(dir: &Path) -> DiskQueueBuilder {
    DiskQueue::builder(dir)
        .segment_bytes(64 * 1024)
        .max_bytes(4 << 20)
        .client_share(1000.0)
}

fn batch(id: u128, bytes: usize) -> Batch {
    let client = ClientId::new(["a", "b", "c"][(id % 3) as usize]).unwrap();
    let mut builder = Batch::builder(BatchId::from_u128(id), client, SystemTime::now());
    let json = format!("{{\"message\":\"{}\"}}", "x".repeat(bytes));
    builder.push(None, Class::Normal, json.as_bytes());
    builder.finish()
}

/// The ids of all that waits; it waits again afterwards.
async fn content(queue: &DiskQueue) -> BTreeSet<u128> {
    if queue.status().batches == 0 {
        return BTreeSet::new();
    }
    let leased = queue.lease(ALL).await;
    leased
        .iter()
        .map(|leased| leased.batch().id().as_u128())
        .collect()
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = paths
        .filter(|path| path.to_str().unwrap().contains("segment-"))
        .collect();
    paths.sort();
    paths
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_confirmed_is_there_after_a_restart() {
    let dir = TempDir::new().unwrap();
    // Missing directories are made.
    let path = dir.path().join("some/where");
    let queue = builder(&path).open().unwrap();
    let appends: Vec<_> = (0..300)
        .map(|id| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.append(batch(id, 1000)).await })
        })
        .collect();
    for append in appends {
        assert_eq!(append.await.unwrap(), Ok(Durability::Host));
    }
    assert_eq!(
        (queue.status().batches, queue.status().state),
        (300, QueueState::Serving)
    );
    let mut acknowledged = BTreeSet::new();
    for leased in queue
        .lease(Want {
            bytes: 100_000,
            events: 1000,
        })
        .await
    {
        acknowledged.insert(leased.batch().id().as_u128());
        leased.acknowledge();
    }
    queue.shutdown().await;
    assert_eq!(queue.append(batch(999, 10)).await, Err(AppendError::Closed));
    let queue = builder(&path).open().unwrap();
    let expected: BTreeSet<_> = (0..300).filter(|id| !acknowledged.contains(id)).collect();
    assert!(acknowledged.len() > 50);
    assert_eq!(content(&queue).await, expected);
    queue
        .lease(ALL)
        .await
        .into_iter()
        .for_each(Leased::acknowledge);
    queue.close();
    assert!(queue.lease(ALL).await.is_empty());
    queue.shutdown().await;
    // Nothing but the segment of the last life may be left, and that goes at the next start.
    let queue = builder(&path).open().unwrap();
    assert_eq!(queue.status().batches, 0);
    queue.shutdown().await;
    assert!(segments(&path).len() <= 1, "{:?}", segments(&path));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_directory_belongs_to_one_queue() {
    let dir = TempDir::new().unwrap();
    let queue = builder(dir.path()).open().unwrap();
    let error = builder(dir.path()).open().unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error}");
    queue.shutdown().await;
    builder(dir.path()).open().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_clone_ends_the_queue() {
    let dir = TempDir::new().unwrap();
    let queue = builder(dir.path()).open().unwrap();
    let append = queue.append(batch(1, 100)).await;
    let leased = queue.clone().lease(ALL).await;
    drop(queue);
    assert_eq!(append, Ok(Durability::Host));
    // The threads end by themselves; the lease can still be read and dropped.
    let queue = loop {
        match builder(dir.path()).open() {
            Ok(queue) => break queue,
            Err(OpenError::InUse { .. }) => tokio::task::yield_now().await,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!(leased[0].batch().id().as_u128(), 1);
    leased.into_iter().for_each(Leased::acknowledge);
    assert_eq!(content(&queue).await, [1].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_tail_costs_only_what_it_hits() {
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..60 {
        let dir = TempDir::new().unwrap();
        let queue = builder(dir.path()).open().unwrap();
        for id in 0..20 {
            queue.append(batch(id, 300)).await.unwrap();
        }
        queue.shutdown().await;
        let last = segments(dir.path()).pop().unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&last)
            .unwrap();
        let len = file.metadata().unwrap().len();
        let at = random.u64(512..len);
        match round % 3 {
            // Cut off, replaced by zeros, or by garbage.
            0 => file.set_len(at).unwrap(),
            1 => {
                file.set_len(at).unwrap();
                file.set_len(len + 100_000).unwrap();
            }
            _ => {
                let garbage: Vec<_> = (at..len).map(|_| random.u8(..)).collect();
                file.write_all_at(&garbage, at).unwrap();
            }
        }
        let record = (len - 512) / 20;
        let whole = u128::from((at - 512) / record);
        for life in 0..2 {
            let queue = builder(dir.path()).open().unwrap();
            let expected: BTreeSet<_> = (0..whole).chain((life > 0).then_some(100)).collect();
            assert_eq!(
                content(&queue).await,
                expected,
                "round {round}, cut at {at} of {len}"
            );
            if life == 0 {
                queue.append(batch(100, 300)).await.unwrap();
            }
            queue.shutdown().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arbitrary_files_do_not_keep_the_queue_from_opening() {
    let mut random = fastrand::Rng::with_seed(9);
    for _ in 0..30 {
        let dir = TempDir::new().unwrap();
        for name in [
            "segment-0000000000000001.log",
            "segment-00000000000000ff.log",
            "acks-0000000000000003.log",
        ] {
            let bytes: Vec<_> = (0..random.usize(..5000)).map(|_| random.u8(..)).collect();
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        fs::write(dir.path().join("notes.txt"), "not ours").unwrap();
        fs::create_dir(dir.path().join("segment-0000000000000002.log")).unwrap();
        let queue = builder(dir.path()).open().unwrap();
        assert_eq!(queue.status().batches, 0);
        assert_eq!(queue.append(batch(1, 100)).await, Ok(Durability::Host));
        queue.shutdown().await;
        assert!(dir.path().join("notes.txt").exists());
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = TempDir::new().unwrap();
    // A file where the directory should be: refused whoever asks, unlike a mode that root may ignore.
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = builder(&path).open().unwrap_err();
        assert!(matches!(error, OpenError::Directory { .. }), "{error}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
        assert!(std::error::Error::source(&error).is_some());
    }
}

#[test]
fn settings_that_cannot_be_used_are_refused() {
    let dir = TempDir::new().unwrap();
    for (builder, message) in [
        (
            builder(dir.path()).segment_bytes(65_535),
            "segment_bytes: must be 65536 to 1073741824",
        ),
        (
            builder(dir.path()).max_bytes(3 * 65_536),
            "max_bytes: must be 4 to 512 segments",
        ),
        (
            builder(dir.path()).max_bytes(1 << 40),
            "max_bytes: must be 4 to 512 segments",
        ),
        (
            builder(dir.path()).max_memory((4 << 20) - 1),
            "max_memory: must be at least 4194304",
        ),
        (
            builder(dir.path()).max_delay(Duration::from_millis(6)),
            "max_delay: must be at most 5 ms",
        ),
        (
            builder(dir.path()).client_share(-1.0),
            "client_share: must be a number from 0.001 to 1000000",
        ),
    ] {
        assert_eq!(builder.open().unwrap_err().to_string(), message);
    }
    // Nothing was made.
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_fit_in_no_segment_are_refused_at_the_door() {
    let dir = TempDir::new().unwrap();
    let queue = builder(dir.path()).open().unwrap();
    let limit = 64 * 1024 - 512 - 24;
    let error = queue.append(batch(1, 70_000)).await.unwrap_err();
    assert_eq!(error, AppendError::TooLarge { limit });
    let overhead = batch(1, 1000).encoded().len() - 1000;
    let largest = batch(1, limit - overhead);
    assert_eq!(largest.encoded().len(), limit);
    for _ in 0..3 {
        assert_eq!(queue.append(largest.clone()).await, Ok(Durability::Host));
    }
    assert!(matches!(
        queue.append(batch(1, limit - overhead + 1)).await,
        Err(AppendError::TooLarge { .. })
    ));
}

/// Story: the client was told to come back, for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_beyond_what_one_client_may_ever_hold_is_too_large() {
    let dir = TempDir::new().unwrap();
    // Of two segments that are room for batches, one is always there, and a little to say what is done.
    let queue = builder(dir.path())
        .max_bytes(4 * 64 * 1024)
        .client_share(0.25)
        .open()
        .unwrap();
    // Records begin at multiples of eight bytes.
    let limit = ((64 - 8) * 1024 - 48) / 4 / 8 * 8 - 24;
    let overhead = batch(1, 1000).encoded().len() - 1000;
    let error = queue.append(batch(1, limit - overhead + 1)).await;
    assert_eq!(error, Err(AppendError::TooLarge { limit }));
    let stored = queue.append(batch(1, limit - overhead)).await;
    assert_eq!(stored, Ok(Durability::Host));
}

/// The consumer hangs: batches are confirmed up to the bound, then refused, and the files stay within it.
#[tokio::test(flavor = "multi_thread")]
async fn without_deliveries_the_queue_fills_and_then_refuses() {
    let dir = TempDir::new().unwrap();
    let queue = builder(dir.path())
        .max_delay(Duration::from_millis(1))
        .open()
        .unwrap();
    let queue = Arc::new(queue);
    let senders: Vec<_> = (0..16_u128)
        .map(|sender| {
            let queue = Arc::clone(&queue);
            tokio::spawn(async move {
                let mut confirmed = Vec::new();
                for n in 0.. {
                    match queue.append(batch(sender * 10_000 + n, 2000)).await {
                        Ok(_) => confirmed.push(sender * 10_000 + n),
                        Err(AppendError::Full { retry_after }) => {
                            assert!((1..=300).contains(&retry_after.as_secs()));
                            break;
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
                confirmed
            })
        })
        .collect();
    let mut confirmed = BTreeSet::new();
    for sender in senders {
        confirmed.extend(sender.await.unwrap());
    }
    let bytes: u64 = segments(dir.path())
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(bytes <= 4 << 20, "{bytes}");
    assert!(confirmed.len() > 1500, "{}", confirmed.len());
    assert_eq!(queue.status().batches, confirmed.len() as u64);
    queue.shutdown().await;
    drop(queue);
    let queue = builder(dir.path()).open().unwrap();
    assert_eq!(content(&queue).await, confirmed);
}

/// Half of the leases are given back, and still each batch is acknowledged once and the disk becomes empty.
#[tokio::test(flavor = "multi_thread")]
async fn senders_and_consumers_at_once_lose_and_repeat_nothing() {
    let dir = TempDir::new().unwrap();
    let queue = builder(dir.path()).open().unwrap();
    let senders: Vec<_> = (0..8_u128)
        .map(|sender| {
            let queue = queue.clone();
            tokio::spawn(async move {
                for n in 0..200 {
                    queue.append(batch(sender * 1000 + n, 900)).await.unwrap();
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..3)
        .map(|seed| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut random = fastrand::Rng::with_seed(seed);
                let mut delivered = Vec::new();
                loop {
                    let leased = queue
                        .lease(Want {
                            bytes: 20_000,
                            events: 10,
                        })
                        .await;
                    if leased.is_empty() {
                        return delivered;
                    }
                    for leased in leased {
                        if random.bool() {
                            delivered.push(leased.batch().id().as_u128());
                            leased.acknowledge();
                        }
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    queue.close();
    let mut delivered = Vec::new();
    for consumer in consumers {
        delivered.extend(consumer.await.unwrap());
    }
    let distinct: BTreeSet<_> = delivered.iter().copied().collect();
    assert_eq!((delivered.len(), distinct.len()), (1600, 1600));
    queue.shutdown().await;
    assert!(
        segments(dir.path()).is_empty(),
        "{:?}",
        segments(dir.path())
    );
}

static_assertions::assert_impl_all!(DiskQueue: Queue, Clone, Send, Sync);
static_assertions::assert_impl_all!(OpenError: std::error::Error, Send, Sync);

/// Queues hold what clients sent, and were made with whatever the umask left: readable by everybody in most places.
#[tokio::test(flavor = "multi_thread")]
async fn files_and_directory_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;

    let root = TempDir::new().unwrap();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let dir = root.path().join("above/queue");
    let queue = builder(&dir).open().unwrap();
    queue.append(batch(1, 10)).await.unwrap();
    queue.append(batch(2, 10)).await.unwrap();
    // A record of what is done is a file, too.
    queue.lease(ALL).await.remove(0).acknowledge();
    queue.shutdown().await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    // It holds nothing of ours, and others may have to pass.
    let sibling = root.path().join("sibling");
    fs::create_dir(&sibling).unwrap();
    assert_eq!(mode(&root.path().join("above")), mode(&sibling));
    let files: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(files.len() >= 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}
