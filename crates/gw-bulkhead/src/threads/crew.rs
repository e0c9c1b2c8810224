use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::thread;

use gw_core::ConfigError;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::niceness;
use crate::config;
use crate::lane::LaneConfig;
use crate::lanes::{LaneId, Lanes};
use crate::upgrade::KeepsThreads;

/// Runs the requests of lanes with threads there, and those of other lanes where they come from.
///
/// It asks of the service, its futures and bodies what moving them to another thread takes: `Send + 'static`.
#[derive(Debug, Clone)]
pub struct Threads(Arc<Crew>);

/// The threads of all lanes. Dropping it tells them to end, and does not wait for it: it may well be dropped inside
/// async code, and even on one of them.
#[derive(Debug)]
pub(super) struct Crew {
    lanes: Vec<LaneThreads>,
}

#[derive(Default)]
struct LaneThreads {
    threads: Vec<LaneThread>,
    next: AtomicUsize,
    /// The threads end when these are dropped.
    _running: Vec<oneshot::Sender<()>>,
}

/// Where a request runs.
pub(super) struct LaneThread {
    runtime: Handle,
    /// How many tasks it has.
    tasks: Arc<watch::Sender<usize>>,
    /// How many of them have not sent a head yet.
    unanswered: Arc<AtomicUsize>,
}

/// One task of a thread: until it is dropped, the thread does not end of itself.
#[derive(Debug)]
struct Running(Arc<watch::Sender<usize>>);

/// One request that a thread has still to answer, until it is dropped. A body that is being sent, or an upgraded connection, mostly
/// waits, and says nothing of how much the thread has to do.
#[derive(Debug)]
pub(super) struct Unanswered(Arc<AtomicUsize>);

/// Keeps a thread running for tasks of which it knows nothing: those that handlers spawn.
#[derive(Debug)]
pub(super) struct Kept {
    _running: Running,
    _crew: Arc<Crew>,
}

impl KeepsThreads for Kept {}

impl Threads {
    /// Starts the threads.
    pub(crate) fn start(lanes: &Lanes) -> Result<Self, ConfigError> {
        let start = |lane| LaneThreads::start(lane, lanes);
        let lanes = lanes.configs().map(start).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Crew { lanes })))
    }

    /// The thread for the next request of `lane`, if the lane has any.
    pub(super) fn thread(&self, lane: LaneId) -> Option<&LaneThread> {
        self.0.lanes.get(lane.place())?.next()
    }

    /// Whether a lane has threads of its own.
    pub(super) fn has_threads(&self, lane: LaneId) -> bool {
        let threads = self.0.lanes.get(lane.place());
        threads.is_some_and(|lane| !lane.threads.is_empty())
    }

    /// Keeps the threads running.
    pub(super) fn crew(&self) -> Arc<Crew> {
        Arc::clone(&self.0)
    }
}

impl LaneThreads {
    fn start(lane: &LaneConfig, lanes: &Lanes) -> Result<Self, ConfigError> {
        let mut threads = Self::default();
        for number in 0..lane.threads {
            let refused = |_| config::of_lane(lane, "threads", "the system refused a thread");
            let (running, stop) = oneshot::channel();
            let (tasks, mut idle) = watch::channel(0);
            let drained = lanes.drained();
            let done = async move {
                drained.await;
                // Nobody comes any more, but who gave its place back at the head may still send its body. An error means
                // that nobody is left who could.
                _ = idle.wait_for(|tasks| *tasks == 0).await;
            };
            let (name, nice) = (lane.name.clone(), lane.nice);
            let (give, given) = mpsc::channel();
            // The thread first: were it refused, its runtime would be dropped here, which inside async code is a panic.
            thread::Builder::new()
                .name(format!("gw-lane-{}-{number}", lane.name()))
                .spawn(move || {
                    niceness::raise(name.as_str(), nice);
                    // An error: the system has refused the runtime.
                    if let Ok(runtime) = given.recv() {
                        run(runtime, stop, done);
                    }
                })
                .map_err(refused)?;
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(refused)?;
            threads.threads.push(LaneThread {
                runtime: runtime.handle().clone(),
                tasks: Arc::new(tasks),
                unanswered: Arc::default(),
            });
            threads._running.push(running);
            // The thread waits for it.
            _ = give.send(runtime);
        }
        Ok(threads)
    }

    /// The thread that has the fewest requests to answer: one that a handler blocks gets no more while others are free. Those that
    /// have as few take turns.
    fn next(&self) -> Option<&LaneThread> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let turn = turn.checked_rem(self.threads.len())?;
        let (later, sooner) = self.threads.split_at_checked(turn)?;
        let in_turn = sooner.iter().chain(later);
        // Relaxed: a guess, which may be wrong by those who choose at the same time.
        in_turn.min_by_key(|thread| thread.unanswered.load(Ordering::Relaxed))
    }
}

impl LaneThread {
    /// Runs `task` to its end, which the thread waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        // Counted here and not when it is first polled: it must be seen by who sees the place that it will give back.
        let running = self.running();
        self.runtime.spawn(async move {
            let _running = running;
            task.await;
        })
    }

    /// Keeps the thread, which is one of `crew`.
    pub(super) fn keep(&self, crew: Arc<Crew>) -> Kept {
        Kept {
            _running: self.running(),
            _crew: crew,
        }
    }

    /// Counts a request that it is to answer.
    pub(super) fn to_answer(&self) -> Unanswered {
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        Unanswered(Arc::clone(&self.unanswered))
    }

    fn running(&self) -> Running {
        self.tasks.send_modify(|tasks| *tasks += 1);
        Running(Arc::clone(&self.tasks))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.send_modify(|tasks| *tasks -= 1);
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs tasks until told to stop or done.
fn run(runtime: Runtime, stop: oneshot::Receiver<()>, done: impl Future<Output = ()>) {
    runtime.block_on(async {
        let (mut stop, mut done) = (pin!(stop), pin!(done));
        poll_fn(|cx| {
            if stop.as_mut().poll(cx).is_ready() || done.as_mut().poll(cx).is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    });
    // Not for `spawn_blocking` either: what blocks may do so for ever.
    runtime.shutdown_background();
}

impl fmt::Debug for LaneThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LaneThreads")
            .field("threads", &self.threads.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: the threads took strict turns. With one of four blocked by a handler that computed, each fourth request waited
    /// for it while three threads were free.
    #[test]
    fn a_thread_with_less_to_do_comes_first() {
        let config = LaneConfig::new("core").threads(3);
        let lanes = Lanes::new(10, [config.clone()]).unwrap();
        let lane = LaneThreads::start(&config, &lanes).unwrap();
        let next = || {
            let next = lane.next().unwrap();
            lane.threads
                .iter()
                .position(|thread| std::ptr::eq(thread, next))
        };
        let turns: Vec<_> = (0..6).filter_map(|_| next()).collect();
        assert_eq!(turns, [0, 1, 2, 0, 1, 2]);
        let _blocked = lane.threads[0].to_answer();
        let turns: Vec<_> = (0..6).filter_map(|_| next()).collect();
        assert_eq!(turns, [1, 1, 2, 1, 1, 2]);
        let _more = [1, 1, 2].map(|thread| lane.threads[thread].to_answer());
        let turns: Vec<_> = (0..6).filter_map(|_| next()).collect();
        assert_eq!(turns, [0, 2, 2, 0, 2, 2]);
    }
}
