use std::future::Future;
use std::io;
use std::thread::{Builder, JoinHandle};

use tokio::sync::oneshot;

/// Work with a thread and a runtime of its own, so that neither it nor the traffic holds up the other. It is told to end, and
/// waited for, when this is dropped.
#[derive(Debug)]
pub(super) struct OwnThread {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl OwnThread {
    /// Runs what `work` makes on a thread called `name`. `work` is called within the runtime, and is given what ends when
    /// its future should.
    pub(super) fn start<F>(
        name: &str,
        work: impl FnOnce(oneshot::Receiver<()>) -> io::Result<F>,
    ) -> io::Result<Self>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name(format!("{name}-io"))
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let work = {
            let _in_runtime = runtime.enter();
            work(stopped)?
        };
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(work))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl OwnThread {
    /// Tells it to end, and does not wait for that.
    pub(super) fn stop(&mut self) {
        // Dropping the sender is the signal.
        self.stop = None;
    }
}

impl Drop for OwnThread {
    fn drop(&mut self) {
        self.stop();
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed, and must not become one here.
            _ = thread.join();
        }
    }
}
