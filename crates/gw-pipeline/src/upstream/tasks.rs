//! The tasks that hyper wants to have run for an HTTP/2 connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task::AbortHandle;

use super::socket::Heard;
use super::usage::Usage;

/// How long a connection that nobody uses any more may take to say farewell.
const FAREWELL: Duration = Duration::from_millis(200);

/// Runs hyper's tasks for one connection, and ends them.
///
/// The first task owns the socket, and would wait for a peer that is gone for as long as TCP does. The others belong to
/// exchanges, and end with it at the latest.
#[derive(Debug, Clone)]
pub(super) struct Tasks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    first: OnceLock<AbortHandle>,
    usage: Arc<Usage>,
    heard: Heard,
}

impl Tasks {
    /// Those of a connection that is used as `usage` says, and to which so much has come.
    pub(super) fn of(usage: Arc<Usage>, heard: Heard) -> Self {
        let first = OnceLock::new();
        Self(Arc::new(Shared {
            first,
            usage,
            heard,
        }))
    }

    /// Ends what still runs, after a while in which it may end by itself.
    pub(super) async fn end(&self) {
        if let Some(first) = self.0.first.get()
            && !first.is_finished()
        {
            tokio::time::sleep(FAREWELL).await;
            first.abort();
        }
    }
}

impl<F> Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        // Once it is set, this is a look.
        if self.0.first.get().is_some() {
            tokio::spawn(task);
            return;
        }
        let shared = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let mut task = pin!(task);
            poll_fn(|cx| {
                let polled = task.as_mut().poll(cx);
                // The peer's settings are read here, and nobody else is woken for them.
                if shared.usage.asks() {
                    shared.usage.note(shared.heard.count());
                }
                polled
            })
            .await
        });
        self.0.first.get_or_init(|| task.abort_handle());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_task_does_not_outlive_its_connection() {
        let tasks = Tasks::of(Arc::new(Usage::new(Instant::now())), Heard::new());
        let (mut first, guard) = oneshot::channel::<()>();
        tasks.execute(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        tasks.execute(std::future::ready(()));
        tokio::task::yield_now().await;
        assert!(!first.is_closed());
        tasks.end().await;
        gw_testkit::within("the task to end", first.closed()).await;
    }
}
