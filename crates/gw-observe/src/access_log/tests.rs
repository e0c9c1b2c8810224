use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

#[cfg(any(feature = "metrics", feature = "tracing"))]
use gw_testkit::Listener;

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

/// A target that does this with each write.
struct Does<F>(F);

impl<F: FnMut(&[u8]) -> io::Result<usize> + Send> Write for Does<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Has a log of two lines written, which gets a third one meanwhile, by a thread that is to panic, and sees that it has ended.
fn ends(log: AccessLog, writes: fn(&[u8]) -> io::Result<usize>) -> LineCounts {
    for _ in 0..2 {
        log.shared.queue.push(LINE).unwrap();
    }
    let shared = log.shared();
    let mut third = Some(LINE);
    let target = Does(move |bytes: &[u8]| {
        if let Some(line) = third.take() {
            shared.queue.push(line).unwrap();
        }
        writes(bytes)
    });
    let sink = Target::Writer(Box::new(target)).open().unwrap();
    let shared = log.shared();
    #[cfg(feature = "tracing")]
    let run = || {
        // With one alone, each place in the code would keep what the first thread there says of it.
        let _another = tracing::Dispatch::new(Listener::panicking());
        tracing::subscriber::with_default(Listener::panicking(), || writer::run(&shared, sink));
    };
    #[cfg(not(feature = "tracing"))]
    let run = || writer::run(&shared, sink);
    thread::scope(|scope| assert!(scope.spawn(run).join().is_err()));

    let handle = log.handle();
    assert!(handle.flush(log.flush_timeout));
    assert_eq!(log.shared.queue.push(LINE), Err(Refused::Closed));
    let counts = handle.counts();
    assert_eq!((counts.requests(), counts.queued), (3, 0), "{counts:?}");
    drop(log);
    assert_eq!(handle.counts(), counts);
    counts
}

/// Story: the log's thread had ended by a panic, and nobody knew: lines waited in the buffer until it was full, and who waited for
/// them waited as long as it may.
#[test]
fn a_panic_of_the_thread_ends_the_log() {
    let log = || AccessLog {
        flush_timeout: Duration::from_secs(10),
        shared: Arc::new(shared()),
    };
    let counts = ends(log(), |_| panic!("the test asks for this"));
    assert_eq!(counts.lost_write, 3);

    #[cfg(feature = "tracing")]
    {
        let counts = ends(log(), |_| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(counts.lost_write, 3);
    }
    #[cfg(feature = "metrics")]
    {
        let log = log();
        metrics::with_local_recorder(&Listener::panicking(), || log.shared.counts.register());
        // It takes the first line, and not the second.
        let counts = ends(log, |bytes| match bytes.len() {
            2 => Ok(1),
            _ => Err(io::ErrorKind::StorageFull.into()),
        });
        assert_eq!((counts.written, counts.lost_write), (1, 2));
    }
}
