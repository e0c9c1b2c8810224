//! An HTTP/1.1 upstream on a loopback socket that does what the test asks, below HTTP too.
//!
//! An [`Upstream`] asks its script, a function from [`Received`] to [`Reply`], once per request, as soon as the
//! head is there. [`always`], [`by_path`] and [`in_order`] make the usual scripts. It records what it receives
//! and counts connections and requests, so that a test waits for facts ([`Upstream::arrived`]) instead of time.

mod connection;
mod ledger;
mod plan;
mod received;
mod reply;
mod script;

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::task::{JoinHandle, JoinSet};

pub use self::ledger::Connections;
pub use self::received::{Progress, Received};
pub use self::reply::{At, Framing, ReadBody, Reply};
pub use self::script::{always, by_path, in_order};

use self::connection::serve;
use self::ledger::{Counts, Ledger};
use self::script::Script;
use crate::patience::within;

/// How long accepting rests after an error.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running upstream. It stops when it is dropped.
///
/// # Panics
///
/// Dropping it panics if the script has panicked, so that such a test cannot pass; a test that panics already
/// is left alone.
pub struct Upstream {
    addr: SocketAddr,
    ledger: Arc<Ledger>,
    accepting: JoinHandle<()>,
}

impl Upstream {
    /// Listens on a free port of 127.0.0.1 and serves in a task of the current runtime.
    ///
    /// # Panics
    ///
    /// If no port can be bound, or outside a tokio runtime.
    pub async fn start<F>(script: F) -> Self
    where
        F: Fn(&Received) -> Reply + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free loopback port");
        let addr = listener
            .local_addr()
            .expect("a bound listener has an address");
        let ledger = Arc::new(Ledger::default());
        let accepting = tokio::spawn(accept(listener, Arc::new(script), ledger.clone()));
        Self {
            addr,
            ledger,
            accepting,
        }
    }

    /// The address it listens on.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// `http://127.0.0.1:<port>`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// What it has received so far, in the order of arrival, each as it stands now.
    ///
    /// The first 65,536 requests are kept; later ones are only counted.
    pub fn requests(&self) -> Vec<Received> {
        self.ledger.requests()
    }

    /// The connections seen so far.
    pub fn connections(&self) -> Connections {
        self.ledger.counts().connections
    }

    /// Requests whose head has arrived and whose answer has not ended.
    pub fn in_flight(&self) -> usize {
        self.ledger.counts().in_flight
    }

    /// The largest value of [`in_flight`](Self::in_flight) so far.
    pub fn peak_in_flight(&self) -> usize {
        self.ledger.counts().peak_in_flight
    }

    /// What came in that was no HTTP/1.1 request, one sentence for each connection.
    pub fn malformed(&self) -> Vec<String> {
        self.ledger.malformed()
    }

    /// Waits until the heads of `count` requests have arrived, counted from the start.
    ///
    /// # Panics
    ///
    /// When that does not happen within [`PATIENCE`](crate::PATIENCE), or if the script has panicked.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future changes nothing.
    #[track_caller]
    pub fn arrived(&self, count: usize) -> impl Future<Output = ()> {
        self.until(&format!("{count} requests to arrive"), move |counts| {
            counts.arrived >= count
        })
    }

    /// Waits until `count` requests have ended, however they did, counted from the start.
    ///
    /// Panics and cancel safety are those of [`arrived`](Self::arrived).
    #[track_caller]
    pub fn ended(&self, count: usize) -> impl Future<Output = ()> {
        let ended = move |counts: &Counts| counts.arrived - counts.in_flight >= count;
        self.until(&format!("{count} requests to end"), ended)
    }

    /// Waits until exactly `count` connections are open.
    ///
    /// Panics and cancel safety are those of [`arrived`](Self::arrived).
    #[track_caller]
    pub fn open_connections(&self, count: usize) -> impl Future<Output = ()> {
        let open = move |counts: &Counts| counts.connections.open == count;
        self.until(&format!("{count} open connections"), open)
    }

    /// Closes the listener and all connections; later attempts to connect are refused, until the process ends: nobody else
    /// is given the port.
    ///
    /// # Panics
    ///
    /// If the script has panicked.
    pub async fn stop(mut self) {
        self.accepting.abort();
        // The task ends with "cancelled"; awaiting it makes sure that the listener is closed. It aborts the
        // connections as it goes, which end a little later.
        let _cancelled = (&mut self.accepting).await;
        keep(self.addr);
        self.open_connections(0).await;
    }

    #[track_caller]
    fn until<F>(&self, what: &str, so: F) -> impl Future<Output = ()> + use<F>
    where
        F: Fn(&Counts) -> bool,
    {
        let ledger = self.ledger.clone();
        within(what, async move { ledger.until(so).await })
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
        if !std::thread::panicking() {
            self.ledger.fail_if_script_panicked();
        }
    }
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("addr", &self.addr)
            .field("counts", &self.ledger.counts())
            .finish_non_exhaustive()
    }
}

/// Binds without listening, for the rest of the process: the port was one that the kernel hands out to whoever asks for any,
/// and might be the next test's.
fn keep(addr: SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    // Closed connections of the same port may linger.
    socket.set_reuseaddr(true).expect("a socket option");
    // Another process may have been quicker.
    if socket.bind(addr).is_ok() {
        std::mem::forget(socket);
    }
}

/// Accepts until it is aborted, which drops the set and with it all connections.
async fn accept(listener: TcpListener, script: Arc<Script>, ledger: Arc<Ledger>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(serve(stream, script.clone(), ledger.clone()));
                    }
                    // Out of descriptors, usually: without a pause this would spin.
                    Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
