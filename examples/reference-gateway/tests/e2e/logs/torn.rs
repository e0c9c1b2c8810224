//! A segment whose end a crash has torn.
//!
//! After a loss of power, what was written since the last sync may be there, missing, or garbage, each sector for itself.
//! `kill -9` does not lose what the kernel has, so the test tears it: never what was synced before the last answer that a
//! client has read, since that is what the answer says.

use std::fs;
use std::path::{Path, PathBuf};

use gw_testkit::client::Client;
use tempfile::TempDir;

use super::{AMPLE, Promises, cluster, config, event, to_cluster, upload};
use crate::gateway::Gateway;

const SECTOR: usize = 512;

#[derive(Debug, Clone, Copy)]
enum Tear {
    /// All that was not confirmed is gone, from some byte on.
    Cut,
    /// The same, but the file keeps its length.
    Zeros,
    /// Some sectors hold what was there before the file was made.
    Garbage,
    /// Some sectors were not written.
    Holes,
    /// Nothing of it is lost, and garbage follows.
    Behind,
}

const TEARS: [Tear; 5] = [
    Tear::Cut,
    Tear::Zeros,
    Tear::Garbage,
    Tear::Holes,
    Tear::Behind,
];

/// The segment that is written to.
fn newest(queue: &Path) -> PathBuf {
    let files = fs::read_dir(queue)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let segments = files.filter(|path| {
        let name = path.file_name().unwrap().to_str().unwrap();
        name.starts_with("segment-") && name.ends_with(".log")
    });
    segments.max().expect("a segment")
}

/// Behind the last byte that is not zero.
fn end(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1)
}

/// Changes nothing in front of `confirmed`.
fn tear(bytes: &mut Vec<u8>, confirmed: usize, how: Tear, random: &mut Random) {
    let written = end(bytes).max(confirmed);
    let at = confirmed + random.below(written - confirmed + 1);
    match how {
        Tear::Cut => bytes.truncate(at),
        Tear::Zeros => bytes[at..].fill(0),
        Tear::Garbage | Tear::Holes => {
            let mut start = confirmed;
            while start < written {
                // Sectors lie at multiples of their size; the first one is partly confirmed.
                let next = (start / SECTOR + 1) * SECTOR;
                let stop = next.min(bytes.len());
                if random.below(2) == 0 {
                    for byte in &mut bytes[start..stop] {
                        *byte = match how {
                            Tear::Garbage => random.below(256) as u8,
                            _ => 0,
                        };
                    }
                }
                start = next;
            }
        }
        Tear::Behind => {
            let stop = (written + 3 * SECTOR).min(bytes.len());
            for byte in &mut bytes[written..stop] {
                *byte = random.below(256) as u8;
            }
        }
    }
}

/// Numbers that are the same in each run: splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit as u64) as usize
    }
}

#[tokio::test]
async fn what_was_confirmed_survives_a_torn_end() {
    let cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let queue = folder.path().join("queue");
    let text = config("", &(to_cluster(&queue, &cluster, "8MiB") + AMPLE));
    let mut promises = Promises::default();
    let mut random = Random(7);
    let mut torn = 0;
    for number in 0..TEARS.len() * 3 {
        let how = TEARS[number % TEARS.len()];
        let gateway = Gateway::serve(&text).await;
        let mut connection = Client::connect(gateway.traffic).await;
        for n in 0..3 {
            let message = format!("round{number}-{n}");
            connection.send(&upload("app", &[event(&message)])).await;
            promises.add(&connection.read_answer().await, &[message]);
        }
        // Nobody writes now: whatever is in the file was synced before the last answer.
        let segment = newest(&queue);
        let confirmed = end(&fs::read(&segment).unwrap());
        // These are not waited for. They may become durable or not; nobody has read a 202 for them.
        let mut others = Vec::new();
        for n in 0..4 {
            let mut other = Client::connect(gateway.traffic).await;
            let filling = "x".repeat(1 + random.below(3000));
            let events = [event(&format!("round{number}-unread{n}-{filling}"))];
            other.send(&upload("app", &events)).await;
            others.push(other);
        }
        // At least one of them is on its way to the disk.
        let written = || fs::read(&segment).map_or(0, |bytes| end(&bytes));
        crate::command::until("bytes behind the confirmed ones", || async {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            (written() > confirmed).then_some(())
        })
        .await;
        gateway.kill().await;
        assert_eq!(newest(&queue), segment, "the segment has not changed");
        let mut bytes = fs::read(&segment).unwrap();
        let before = bytes.clone();
        tear(&mut bytes, confirmed, how, &mut random);
        assert_eq!(bytes[..confirmed], before[..confirmed]);
        torn += usize::from(bytes != before);
        fs::write(&segment, &bytes).unwrap();
    }
    assert!(torn > TEARS.len(), "only {torn} tears changed anything");
    let gateway = Gateway::serve(&text).await;
    promises.are_kept(&cluster).await;
    drop(gateway);
}
