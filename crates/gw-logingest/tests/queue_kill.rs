//! The process is killed while it writes and delivers, again and again on the same directory.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test"
)]

use std::collections::BTreeSet;
use std::env;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};
use std::time::SystemTime;

use gw_logingest::queue::DiskQueue;
use gw_logingest::{AppendError, Batch, BatchId, Class, ClientId, Leased, Queue, Want};
use tempfile::TempDir;

/// Where the process that is to be killed works, and with which number its batches begin.
const DIR: &str = "QUEUE_KILL_DIR";
const FIRST: &str = "QUEUE_KILL_FIRST";
const LIVES: u128 = 20;

fn open(dir: &Path) -> DiskQueue {
    DiskQueue::builder(dir)
        .segment_bytes(256 * 1024)
        .max_bytes(8 << 20)
        .client_share(1000.0)
        .open()
        .unwrap()
}

fn batch(id: u128) -> Batch {
    let client = ClientId::new(if id.is_multiple_of(2) { "even" } else { "odd" }).unwrap();
    let mut builder = Batch::builder(BatchId::from_u128(id), client, SystemTime::now());
    builder.push(
        None,
        Class::Normal,
        format!("{{\"message\":\"{id:->900}\"}}").as_bytes(),
    );
    builder.finish()
}

/// Writes from eight tasks and delivers from one, and says what it does. It says that a batch is stored after it was
/// told so, and that one is delivered before it tells so.
async fn live(dir: &Path, first: u128) {
    let queue = open(dir);
    for writer in 0..8 {
        let queue = queue.clone();
        tokio::spawn(async move {
            for n in 0.. {
                let id = first + n * 8 + writer;
                match queue.append(batch(id)).await {
                    Ok(_) => println!("stored {id}."),
                    Err(AppendError::Full { .. }) => tokio::task::yield_now().await,
                    Err(other) => {
                        // A panic would end this task alone, and nobody would know.
                        eprintln!("{other}");
                        exit(1);
                    }
                }
            }
        });
    }
    let want = Want {
        bytes: 64 * 1024,
        events: 50,
    };
    loop {
        for (n, leased) in queue.lease(want).await.into_iter().enumerate() {
            // Some stay behind, so that segments are kept by a few batches.
            if n % 10 == 0 {
                drop(leased);
            } else {
                println!("delivered {}.", leased.batch().id().as_u128());
                leased.acknowledge();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_confirmed_survives_twenty_kills() {
    if let Ok(dir) = env::var(DIR) {
        // On a machine with one core the test's name stands before what it prints first, which was lost with it: a batch that
        // the life before had left was delivered, and nobody knew.
        println!();
        let first = env::var(FIRST).unwrap().parse().unwrap();
        return live(&PathBuf::from(dir), first).await;
    }
    let dir = TempDir::new().unwrap();
    let (mut stored, mut delivered) = (BTreeSet::new(), BTreeSet::new());
    for life in 0..LIVES {
        let mut process = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "what_was_confirmed_survives_twenty_kills",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .env(FIRST, (life * 1_000_000).to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let mut lines = 0;
        for line in output.lines() {
            let line = line.unwrap();
            // The last line may have been cut.
            let Some((what, id)) = line.strip_suffix('.').and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            match (what, id.parse::<u128>()) {
                ("stored", Ok(id)) => drop(stored.insert(id)),
                ("delivered", Ok(id)) => drop(delivered.insert(id)),
                _ => continue,
            }
            lines += 1;
            if lines == 500 + 97 * life {
                process.kill().unwrap();
            }
        }
        // It ends by itself only if something is wrong.
        let ended = process.wait().unwrap();
        assert_eq!(ended.signal(), Some(9), "life {life}: {ended}");
    }
    let queue = open(dir.path());
    queue.close();
    let mut found = BTreeSet::new();
    let all = Want {
        bytes: usize::MAX,
        events: usize::MAX,
    };
    for leased in queue.lease(all).await {
        let id = leased.batch().id().as_u128();
        assert_eq!(
            leased.batch().events().next().unwrap().id(),
            format!("{id:032x}-0")
        );
        assert!(found.insert(id), "{id} twice");
        Leased::acknowledge(leased);
    }
    let lost: Vec<_> = stored
        .iter()
        .filter(|id| !delivered.contains(id) && !found.contains(id))
        .collect();
    assert!(lost.is_empty(), "{lost:?}");
    let again = found.intersection(&delivered).count();
    println!(
        "{} stored, {} delivered before, {} found, {again} again",
        stored.len(),
        delivered.len(),
        found.len()
    );
    assert!(stored.len() > 5_000);
    queue.shutdown().await;
}
