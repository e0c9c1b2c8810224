//! Threads that serve connections, each with a runtime of its own.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, ThreadId};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::time::Instant;

use super::activity::FAREWELL;

/// Threads that serve connections. A connection stays on the thread that it was given to, with all that its requests
/// do, and no request waits for another thread or wakes one.
///
/// On a runtime with several threads, work moves to whichever thread is free. That evens out long computations, which a
/// gateway has none of, and costs a wake of another thread for every few requests.
///
/// Clones are handles to the same threads, which end when the last one is dropped: connections that are still open are
/// cut then. [`Server::serve`](super::Server::serve) waits for them before. Dropping the last handle waits for the threads,
/// but for a second at most: one that a service blocks is left to itself.
#[derive(Debug, Clone)]
pub struct Workers {
    crew: Arc<Crew>,
}

#[derive(Debug)]
struct Crew {
    workers: Vec<Worker>,
    /// Dropped first: it ends the threads.
    stop: Option<watch::Sender<()>>,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
    thread: ThreadId,
    /// Nothing comes from here, and the other end is dropped when the thread has dropped its tasks. The lock makes it
    /// one that threads can share, and is never waited for.
    ended: Mutex<mpsc::Receiver<Infallible>>,
}

/// A worker that has been given a connection; dropping it takes the connection off its count.
#[derive(Debug)]
pub(super) struct Assigned {
    pub(super) handle: Handle,
    connections: Arc<AtomicUsize>,
}

impl Workers {
    /// The highest niceness of threads.
    pub const MAX_NICE: u8 = 19;

    /// Starts so many threads, at least one, named `name-0`, `name-1` and so on.
    ///
    /// # Errors
    ///
    /// If the system refuses threads or what their runtimes need.
    pub fn start(name: &str, threads: usize) -> io::Result<Self> {
        Self::start_nice(name, threads, 0)
    }

    /// As [`start`](Self::start), with so much niceness on top of what the process has, up to [`Workers::MAX_NICE`], where
    /// it ends in any case.
    ///
    /// When more threads want to run than there are processors, the kernel gives a nice one less time: at 10 about a tenth
    /// of what a thread at 0 has. While the others sleep it has all the time that it wants. So this is for listeners whose clients may wait
    /// so that those of others need not.
    ///
    /// It takes no privilege, and where the system refuses it nonetheless, the threads run without. Linux only: elsewhere
    /// niceness is the process's, and this is as [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start), and [`InvalidInput`](io::ErrorKind::InvalidInput) for more niceness than there is.
    pub fn start_nice(name: &str, threads: usize, nice: u8) -> io::Result<Self> {
        if nice > Self::MAX_NICE {
            let rule = "nice: must be at most 19";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, rule));
        }
        let (stop, stopping) = watch::channel(());
        let mut crew = Crew {
            workers: Vec::new(),
            stop: Some(stop),
        };
        for number in 0..threads.max(1) {
            let mut stopping = stopping.clone();
            let (running, ended) = mpsc::channel();
            let (give, given) = mpsc::channel::<Runtime>();
            let thread = thread::Builder::new().name(format!("{name}-{number}"));
            // The thread first: were it refused, its runtime would be dropped here, which inside async code is a panic.
            let thread = thread.spawn(move || {
                raise_niceness(nice);
                // An error: the system has refused the runtime.
                let Ok(runtime) = given.recv() else {
                    return;
                };
                // An error: the sender is gone.
                runtime.block_on(async { while stopping.changed().await.is_ok() {} });
                // All tasks are dropped here. Threads for blocking work may be busy for long, and are not waited for.
                runtime.shutdown_background();
                drop(running);
            })?;
            let runtime = Builder::new_current_thread().enable_all().build()?;
            crew.workers.push(Worker {
                handle: runtime.handle().clone(),
                connections: Arc::default(),
                thread: thread.thread().id(),
                ended: Mutex::new(ended),
            });
            // The thread waits for it.
            _ = give.send(runtime);
        }
        Ok(Self {
            crew: Arc::new(crew),
        })
    }

    /// The worker that has the fewest connections.
    pub(super) fn assign(&self) -> Option<Assigned> {
        // Relaxed: two that come together may choose the same one, which is no harm.
        let load = |worker: &&Worker| worker.connections.load(Ordering::Relaxed);
        let worker = self.crew.workers.iter().min_by_key(load)?;
        worker.connections.fetch_add(1, Ordering::Relaxed);
        Some(Assigned {
            handle: worker.handle.clone(),
            connections: Arc::clone(&worker.connections),
        })
    }
}

/// Makes the calling thread nicer: relative to what it inherits, since only going up takes no privilege.
#[cfg(target_os = "linux")]
fn raise_niceness(by: u8) {
    if by > 0 {
        // Of this thread alone: contrary to POSIX, Linux has one niceness for each. If the system refuses, then it is only
        // a priority that is missing.
        _ = rustix::process::nice(i32::from(by));
    }
}

#[cfg(not(target_os = "linux"))]
const fn raise_niceness(_by: u8) {}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stop = None;
        let me = thread::current().id();
        let latest = Instant::now() + FAREWELL;
        for worker in &mut self.workers {
            // The last handle may be dropped by a worker itself, by way of a service.
            if worker.thread != me {
                let left = latest.saturating_duration_since(Instant::now());
                let ended = worker.ended.get_mut();
                // An error either way: it has ended, or takes too long.
                _ = ended
                    .unwrap_or_else(PoisonError::into_inner)
                    .recv_timeout(left);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_go_where_the_fewest_are() {
        let workers = Workers::start("test", 2).unwrap();
        let ids = |assigned: &[Assigned]| -> Vec<_> {
            assigned.iter().map(|worker| worker.handle.id()).collect()
        };
        let mut assigned: Vec<_> = (0..4).filter_map(|_| workers.assign()).collect();
        let [a, b, c, d] = ids(&assigned)[..] else {
            unreachable!();
        };
        assert!(a != b && a == c && b == d);
        assigned.retain(|worker| worker.handle.id() == a);
        let next: Vec<_> = (0..2).filter_map(|_| workers.assign()).collect();
        assert_eq!(ids(&next), [b, b]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_are_as_nice_as_they_shall_be() {
        fn niceness() -> i32 {
            rustix::process::getpriority_process(None).unwrap()
        }
        // Of whoever starts the test, most often 0.
        let own = niceness();
        for (nice, threads) in [(0, 1), (7, 2), (Workers::MAX_NICE, 1)] {
            let workers = Workers::start_nice("test", threads, nice).unwrap();
            let (sender, receiver) = mpsc::channel();
            let assigned: Vec<_> = (0..threads).filter_map(|_| workers.assign()).collect();
            for worker in &assigned {
                let sender = sender.clone();
                worker.handle.spawn(async move {
                    _ = sender.send((thread::current().id(), niceness()));
                });
            }
            drop(sender);
            let said: std::collections::HashMap<_, _> = receiver.iter().collect();
            assert_eq!(said.len(), threads);
            let expected = (own + i32::from(nice)).min(19);
            assert!(said.values().all(|nice| *nice == expected), "{said:?}");
        }
        assert_eq!(niceness(), own, "the other threads stay as they were");
    }

    #[test]
    fn no_thread_is_nicer_than_possible() {
        let refused = Workers::start_nice("test", 1, 20).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        assert_eq!(refused.to_string(), "nice: must be at most 19");
    }

    #[test]
    fn threads_end_with_the_last_handle() {
        let workers = Workers::start("test", 1).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let assigned = workers.assign().unwrap();
        assigned.handle.spawn(async move {
            let _held = sender;
            std::future::pending::<()>().await;
        });
        drop((assigned, workers.clone()));
        drop(workers);
        assert!(receiver.recv().is_err(), "the task has been dropped");
    }

    /// Story: the end of the process waited for a thread that a service blocked, long after the grace was over.
    #[test]
    fn a_thread_that_is_blocked_is_not_waited_for() {
        let workers = Workers::start("test", 2).unwrap();
        let (release, (started, blocked)) = (Arc::new(()), mpsc::channel());
        let stuck = |started: mpsc::Sender<()>| {
            let until = Arc::downgrade(&release);
            move || {
                started.send(()).unwrap();
                while until.strong_count() > 0 {
                    thread::yield_now();
                }
            }
        };
        let (service, blocking_pool) = (stuck(started.clone()), stuck(started));
        let (one, other) = (workers.assign().unwrap(), workers.assign().unwrap());
        one.handle.spawn(async move { service() });
        other.handle.spawn_blocking(blocking_pool);
        blocked.recv().unwrap();
        blocked.recv().unwrap();
        let (done, dropped) = mpsc::channel();
        let dropping = thread::spawn(move || {
            drop((one, other, workers));
            done.send(()).unwrap();
        });
        let outcome = dropped.recv_timeout(gw_testkit::PATIENCE);
        drop(release);
        dropping.join().unwrap();
        outcome.unwrap();
    }
}
