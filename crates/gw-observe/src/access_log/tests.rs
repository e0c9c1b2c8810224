use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use super::queue::Batch;
use super::*;

/// Of a log that nobody writes, with so small a buffer that a writer would not wait for more than a line.
pub(super) fn shared() -> Shared {
    Shared {
        queue: Queue::new(4),
        sampling: Sampling::new(Ratio::ALL, Ratio::ALL, Duration::from_secs(1), 1),
        counts: Counts::default(),
        health_paths: Box::default(),
        started: Instant::now(),
    }
}

fn unwritten() -> AccessLog {
    AccessLog {
        shared: Arc::new(shared()),
        flush_timeout: Duration::ZERO,
    }
}

const LINE: &[u8] = b"\n";

/// Story: what was written was read first, and what waits last; lines that were written in between were in neither.
#[test]
fn counts_add_up_while_lines_are_written() {
    let log = unwritten();
    let (pushed, ended) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut batch = Batch::default();
            for count in 1..=100_000 {
                log.shared.queue.push(LINE).unwrap();
                pushed.store(count, Ordering::Release);
                log.shared.queue.take(&mut batch);
                log.shared
                    .queue
                    .settle(|| log.shared.counts.add(Outcome::Written, batch.lines));
                batch.clear();
            }
            ended.store(true, Ordering::Release);
        });
        let handle = log.handle();
        while !ended.load(Ordering::Acquire) {
            let at_least = pushed.load(Ordering::Acquire);
            let counts = handle.counts();
            assert!(counts.requests() >= at_least, "{at_least}, {counts:?}");
        }
    });
}

/// Story: lines that were given up were nowhere until they were counted as lost.
#[test]
fn counts_add_up_while_the_log_is_closed() {
    let (opened, logs) = mpsc::channel::<AccessLogHandle>();
    let (seen, watched) = mpsc::channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            for handle in logs {
                seen.send(()).unwrap();
                loop {
                    let counts = handle.counts();
                    assert_eq!(counts.requests(), 1, "{counts:?}");
                    if counts.lost_closed == 1 {
                        break;
                    }
                }
            }
        });
        for _ in 0..5_000 {
            let log = unwritten();
            log.shared.queue.push(LINE).unwrap();
            opened.send(log.handle()).unwrap();
            watched.recv().unwrap();
            drop(log);
        }
        drop(opened);
    });
}
