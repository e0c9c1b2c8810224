//! The tasks that hyper wants to have run for an HTTP/2 connection.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task::AbortHandle;

/// How long a connection that nobody uses any more may take to say farewell.
const FAREWELL: Duration = Duration::from_millis(200);

/// Runs hyper's tasks for one connection, and ends them.
///
/// The first task owns the socket, and would wait for a peer that is gone for as long as TCP does. The others belong to
/// exchanges, and end with it at the latest.
#[derive(Debug, Clone, Default)]
pub(super) struct Tasks(Arc<OnceLock<AbortHandle>>);

impl Tasks {
    /// Ends what still runs, after a while in which it may end by itself.
    pub(super) async fn end(&self) {
        if let Some(first) = self.0.get()
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
        let task = tokio::spawn(task);
        // Once it is set, this is a look.
        self.0.get_or_init(|| task.abort_handle());
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_task_does_not_outlive_its_connection() {
        let tasks = Tasks::default();
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
