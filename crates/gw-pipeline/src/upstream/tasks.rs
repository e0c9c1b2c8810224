//! The tasks that hyper wants to have run for an HTTP/2 connection.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Poll;
use std::time::Duration;

use hyper::rt::Executor;
use tokio::task::{AbortHandle, Id, try_id};

use super::socket::Heard;
use super::upload::Interest;
use super::usage::Usage;

/// How long a connection that nobody uses any more may take to say farewell.
const FAREWELL: Duration = Duration::from_millis(200);

/// Runs hyper's tasks for one connection, and ends them.
///
/// The first task owns the socket, and would wait for a peer that is gone for as long as TCP does. The others belong to
/// exchanges, and end with it at the latest. One that sends a request's body ends when the exchange is given up: hyper itself does
/// not look while the peer takes no more of the body, and as long as there is such a task the stream is not reset.
#[derive(Debug, Clone)]
pub(super) struct Tasks(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    first: OnceLock<AbortHandle>,
    /// The task in which requests are taken up, and tasks for them spawned.
    driver: OnceLock<Id>,
    usage: Arc<Usage>,
    heard: Heard,
    /// Of the body that the next task may be for.
    interest: Mutex<Option<Interest>>,
}

impl Shared {
    fn interest(&self) -> MutexGuard<'_, Option<Interest>> {
        // Nothing under the lock can panic half-way, so a poisoned state is a sound one.
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tasks {
    /// Those of a connection that is used as `usage` says, and to which so much has come.
    pub(super) fn of(usage: Arc<Usage>, heard: Heard) -> Self {
        Self(Arc::new(Shared {
            first: OnceLock::new(),
            driver: OnceLock::new(),
            usage,
            heard,
            interest: Mutex::default(),
        }))
    }

    /// How many bytes have come.
    pub(super) fn heard(&self) -> u64 {
        self.0.heard.count()
    }

    /// This task drives the connection.
    pub(super) fn are_spawned_here(&self) {
        if let Some(id) = try_id() {
            self.0.driver.get_or_init(|| id);
        }
    }

    /// A body is asked for the first time. hyper does so before it has a task for it, which it spawns at once, unless the body is
    /// done with by then. From elsewhere nothing is announced: the next task would be another request's.
    pub(super) fn announce(&self, interest: Interest) {
        if let Some(driver) = self.0.driver.get()
            && try_id() == Some(*driver)
        {
            *self.0.interest() = Some(interest);
        }
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
            let interest = self.0.interest().take();
            // Of a body that is done with: this is the task that waits for the answer.
            match interest.filter(|interest| !interest.is_over()) {
                Some(interest) => drop(tokio::spawn(while_wanted(task, interest))),
                None => drop(tokio::spawn(task)),
            }
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

/// Runs `task`, and drops it when there is no interest in it any more.
async fn while_wanted(task: impl Future<Output: Send>, interest: Interest) {
    let mut task = pin!(task);
    poll_fn(|cx| match interest.poll_lost(cx) {
        Poll::Ready(()) => Poll::Ready(()),
        Poll::Pending => task.as_mut().poll(cx).map(drop),
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Waker};

    use gw_core::Body;
    use gw_testkit::body::ScriptedBody;
    use http_body::Body as _;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    use super::super::upload::RequestBody;
    use super::*;

    /// A body of `tasks` is asked for the first time.
    fn ask(tasks: &Tasks) {
        let body = ScriptedBody::script().hold().data("late").build().0;
        let (mut body, _upload) =
            RequestBody::new(Body::new(body), Instant::now(), None, None, None);
        body.sent_by(tasks);
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut body).poll_frame(&mut cx).is_pending());
    }

    /// Or the task of another request would end with this one.
    #[tokio::test]
    async fn only_where_tasks_are_spawned_one_is_announced() {
        let tasks = Tasks::of(Arc::new(Usage::new(Instant::now())), Heard::new());
        ask(&tasks);
        assert!(tasks.0.interest().is_none());
        let driver = tokio::spawn({
            let tasks = tasks.clone();
            async move {
                tasks.are_spawned_here();
                ask(&tasks);
                assert!(tasks.0.interest().take().is_some());
            }
        });
        driver.await.unwrap();
        ask(&tasks);
        assert!(tasks.0.interest().is_none());
    }

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
