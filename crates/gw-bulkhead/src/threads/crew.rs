use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::thread;

use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::oneshot;

use crate::config::ConfigError;
use crate::lane::LaneConfig;
use crate::lanes::{LaneId, Lanes};

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
    runtimes: Vec<Handle>,
    next: AtomicUsize,
    /// The threads end when these are dropped.
    _running: Vec<oneshot::Sender<()>>,
}

impl Threads {
    /// Starts the threads.
    pub(crate) fn start(lanes: &Lanes) -> Result<Self, ConfigError> {
        let start = |lane| LaneThreads::start(lane, lanes);
        let lanes = lanes.configs().map(start).collect::<Result<_, _>>()?;
        Ok(Self(Arc::new(Crew { lanes })))
    }

    /// The runtime for the next request of `lane`, if the lane has threads.
    pub(super) fn runtime(&self, lane: LaneId) -> Option<&Handle> {
        self.0.lanes.get(lane.index())?.next()
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
            let refused = |_| ConfigError::of_lane(lane, "threads", "the system refused a thread");
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(refused)?;
            let (running, stop) = oneshot::channel();
            threads.runtimes.push(runtime.handle().clone());
            threads._running.push(running);
            let drained = lanes.drained();
            thread::Builder::new()
                .name(format!("gw-lane-{}-{number}", lane.name()))
                .spawn(move || run(runtime, stop, drained))
                .map_err(refused)?;
        }
        Ok(threads)
    }

    /// The threads take turns.
    fn next(&self) -> Option<&Handle> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.runtimes.get(turn.checked_rem(self.runtimes.len())?)
    }
}

/// Runs tasks until told to stop or drained. A thread of its own has to do it: a runtime must not be dropped inside
/// async code.
fn run(runtime: Runtime, stop: oneshot::Receiver<()>, drained: impl Future<Output = ()>) {
    runtime.block_on(async {
        let (mut stop, mut drained) = (pin!(stop), pin!(drained));
        poll_fn(|cx| {
            if stop.as_mut().poll(cx).is_ready() || drained.as_mut().poll(cx).is_ready() {
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
            .field("threads", &self.runtimes.len())
            .finish()
    }
}
