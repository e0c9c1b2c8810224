use std::future::Future;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;

/// For what the work leaves behind on threads that block: a write that is nearly done. A look-up of a name, or a disk that hangs, may
/// take as long as it likes.
const BLOCKED: Duration = Duration::from_millis(500);

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
        let thread = Builder::new().name(name.to_owned()).spawn(move || {
            runtime.block_on(work);
            // Dropped, it would wait for them to the end.
            runtime.shutdown_timeout(BLOCKED);
        })?;
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use gw_testkit::PATIENCE;

    use super::*;

    /// Story: the sink's name server did not answer. The delivery ended after its three seconds, and the stop hung for as long as the
    /// look-up, with the end of the access log unwritten.
    #[test]
    fn what_blocks_holds_up_no_stop() {
        let (release, released) = mpsc::channel::<()>();
        let (begin, begun) = mpsc::channel();
        let own = OwnThread::start("gw-test", |stopped| {
            Ok(async move {
                tokio::task::spawn_blocking(move || {
                    _ = begin.send(());
                    released.recv()
                });
                _ = stopped.await;
            })
        });
        begun.recv().unwrap();
        let (end, ended) = mpsc::channel();
        thread::spawn(move || {
            drop(own);
            end.send(())
        });
        ended.recv_timeout(PATIENCE).unwrap();
        drop(release);
    }
}
