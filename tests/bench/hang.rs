//! Clients of a route that does not answer, or fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::Result;
use super::connection::Connection;

/// Clients that each wait for an answer which does not come. One that gets one, a refusal say, asks again after a pause, on
/// the same connection if it may. They run on a thread of their own, so that reading refusals delays no measured client.
///
/// Dropping it closes their connections.
#[derive(Debug)]
pub struct Hang {
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What such clients have been answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers {
    /// 200.
    pub answered: usize,
    /// 503: the gateway did not ask the upstream.
    pub refused: usize,
    /// 500, 502 or 504: it did, in vain.
    pub failed: usize,
    /// Any other status, and connections that ended.
    pub unexpected: usize,
}

impl Answers {
    /// All of them.
    pub const fn all(self) -> usize {
        self.answered + self.refused + self.failed + self.unexpected
    }
}

#[derive(Debug, Default)]
struct Counts {
    answered: AtomicUsize,
    refused: AtomicUsize,
    failed: AtomicUsize,
    unexpected: AtomicUsize,
}

impl Counts {
    fn of(&self, answer: &Result<u16>) -> &AtomicUsize {
        match answer {
            Ok(200) => &self.answered,
            Ok(503) => &self.refused,
            Ok(500 | 502 | 504) => &self.failed,
            Ok(_) | Err(_) => &self.unexpected,
        }
    }
}

impl Hang {
    /// Starts so many clients.
    ///
    /// # Errors
    ///
    /// If there is no thread for them.
    pub fn start(
        addr: SocketAddr,
        clients: usize,
        request: &Bytes,
        pause: Duration,
    ) -> Result<Self> {
        let counts = Arc::new(Counts::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (request, shared) = (request.clone(), Arc::clone(&counts));
        let all = async move {
            let mut tasks = JoinSet::new();
            for client in 0..clients {
                let (request, counts) = (request.clone(), Arc::clone(&shared));
                // Nothing makes real clients ask in step.
                let ahead = pause.mul_f64(client as f64 / clients as f64);
                tasks.spawn(async move {
                    sleep(ahead).await;
                    wait_in_vain(addr, &request, pause, &counts).await;
                });
            }
            // Sent or dropped, both mean the end; the tasks end with their set.
            let _ = stopped.await;
        };
        let thread = thread::Builder::new()
            .name("hang".to_owned())
            .spawn(move || runtime.block_on(all))?;
        Ok(Self {
            counts,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// What they have been answered so far.
    pub fn answers(&self) -> Answers {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Answers {
            answered: read(&self.counts.answered),
            refused: read(&self.counts.refused),
            failed: read(&self.counts.failed),
            unexpected: read(&self.counts.unexpected),
        }
    }
}

impl Drop for Hang {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has no result, and a panic in it has been printed.
            let _ = thread.join();
        }
    }
}

async fn wait_in_vain(addr: SocketAddr, request: &[u8], pause: Duration, counts: &Counts) {
    let mut open = None;
    loop {
        let answer = ask(&mut open, addr, request).await;
        counts.of(&answer).fetch_add(1, Ordering::Relaxed);
        sleep(pause).await;
    }
}

/// Asks once; the connection goes back into `open` only if another request may follow.
async fn ask(open: &mut Option<Connection>, addr: SocketAddr, request: &[u8]) -> Result<u16> {
    let mut connection = match open.take() {
        Some(connection) => connection,
        None => Connection::open(addr).await?,
    };
    let head = connection.exchange(request).await?;
    if !head.close {
        *open = Some(connection);
    }
    Ok(head.status)
}
