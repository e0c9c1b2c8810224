//! Clients of a route that does not answer.

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

/// Clients that each wait for an answer which does not come. One that is refused with a 503 asks again after a pause, on
/// the same connection if it may. They run on a thread of their own, so that reading refusals delays no measured client.
///
/// Dropping it closes their connections.
#[derive(Debug)]
pub struct Hang {
    counts: Arc<Counts>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    refused: AtomicUsize,
    unexpected: AtomicUsize,
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

    /// Refusals so far.
    pub fn refused(&self) -> usize {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Answers other than refusals, and connections that ended, so far.
    pub fn unexpected(&self) -> usize {
        self.counts.unexpected.load(Ordering::Relaxed)
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
        match ask(&mut open, addr, request).await {
            Ok(503) => counts.refused.fetch_add(1, Ordering::Relaxed),
            Ok(_) | Err(_) => counts.unexpected.fetch_add(1, Ordering::Relaxed),
        };
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
