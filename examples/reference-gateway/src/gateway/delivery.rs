use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::assembly::Logs;

/// The delivery of logs, on a thread and a runtime of its own: neither the traffic nor a sink that is slow holds up the
/// other.
pub(super) struct Delivery {
    stop: oneshot::Sender<()>,
    thread: JoinHandle<()>,
}

impl Delivery {
    /// Begins to deliver. `grace` is for what a queue in memory still holds at the end.
    pub(super) fn start(logs: Logs, grace: Duration) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("gw-logs-io")
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let deliver = logs.deliver(async { drop(stopped.await) }, grace);
        let thread = Builder::new()
            .name("gw-logs".to_owned())
            .spawn(move || runtime.block_on(deliver))?;
        Ok(Self { stop, thread })
    }

    /// Waits until what was taken is stored, and the queue's directory is free. Called once the traffic has ended.
    pub(super) fn end(self) {
        let Self { stop, thread } = self;
        // Dropping the sender is the signal.
        drop(stop);
        // A panic over there has been printed, and must not become one here.
        _ = thread.join();
    }
}
