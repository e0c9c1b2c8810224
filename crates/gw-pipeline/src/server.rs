//! A bounded HTTP/1 and HTTP/2 server for a pipeline, or for any other tower service that answers every request.
//!
//! It is hyper under limits. The protocol of a connection is told by its first bytes: HTTP/2 with prior knowledge, or
//! HTTP/1. There is no TLS here.
//!
//! # What is bounded
//!
//! | what | bound | at the bound |
//! |---|---|---|
//! | connections | [`max_connections`] | the one longest without a request is closed; if there is none, the newcomer |
//! | connections of one address | [`max_connections_per_ip`] | the newcomer is closed |
//! | head of a request | [`max_header_bytes`], [`max_headers`], [`http2_max_header_list_bytes`] | 431 |
//! | time for a head | [`header_timeout`] | [408](Server::on_slow_head) on HTTP/1 if part of it has come, then closed |
//! | time between requests | [`keep_alive_timeout`] | closed, on HTTP/2 after a goodbye |
//! | time in which a client takes nothing of its answer | [`write_stall_timeout`] | the connection (HTTP/2: the stream) is reset |
//! | requests at a time on HTTP/2 | [`http2_max_concurrent_streams`] | further streams are refused |
//! | resets by an HTTP/2 client | [`http2_max_pending_resets`] of requests that are not begun yet | the connection ends |
//! | requests that an HTTP/2 client gives up before their answers | 900, unless as many are answered meanwhile | the connection ends |
//! | resets for faults of an HTTP/2 client | 900 | the connection ends |
//! | what has come of uploads over HTTP/2 and is not read | 64 KiB of one, 1 MiB on a connection | the client has to wait |
//! | what waits for an HTTP/2 stream's client | 64 KiB in the connection, 32 KiB in its task, and the body's last frame | the body is not polled |
//! | what waits there when the request does not count any more | 1 KiB | the request counts |
//! | time to finish after shutdown | [`shutdown_grace`] | cut |
//! | lingering after an early answer | 10 s, 1 s of silence | closed |
//!
//! How slowly a request's body may come is not decided here: that needs the route, and so is a stage's task.
//!
//! [`max_connections`]: ServerConfigBuilder::max_connections
//! [`max_connections_per_ip`]: ServerConfigBuilder::max_connections_per_ip
//! [`max_header_bytes`]: ServerConfigBuilder::max_header_bytes
//! [`max_headers`]: ServerConfigBuilder::max_headers
//! [`http2_max_header_list_bytes`]: ServerConfigBuilder::http2_max_header_list_bytes
//! [`header_timeout`]: ServerConfigBuilder::header_timeout
//! [`keep_alive_timeout`]: ServerConfigBuilder::keep_alive_timeout
//! [`write_stall_timeout`]: ServerConfigBuilder::write_stall_timeout
//! [`http2_max_concurrent_streams`]: ServerConfigBuilder::http2_max_concurrent_streams
//! [`http2_max_pending_resets`]: ServerConfigBuilder::http2_max_pending_resets
//! [`shutdown_grace`]: ServerConfigBuilder::shutdown_grace
//!
//! # The listener
//!
//! What `bind` makes, tokio's and that of the standard library, lets 128 connections wait to be accepted. More than that come at once when
//! clients come over from another instance, and those beyond are dropped by the kernel: they come again after a second, then three, and
//! no counter here tells of them. So ask for more room; Linux gives no more than `net.core.somaxconn`, which is 4096 by default.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let socket = tokio::net::TcpSocket::new_v4()?;
//! socket.set_reuseaddr(true)?; // as `bind` does on Unix
//! socket.bind(([127, 0, 0, 1], 0).into())?;
//! let listener = socket.listen(4096)?;
//! # drop(listener);
//! # Ok(())
//! # }
//! ```
//!
//! # Requests
//!
//! Each request carries the client's address as [`PeerAddr`](gw_core::context::PeerAddr) in its extensions. The
//! service is cloned once a connection, and asked for readiness before each call. If it is not ready, the request waits
//! for that instance, and a clone of it serves those that follow; so it does after an answer with a [`Rejection`](gw_core::Rejection) in
//! its extensions, so that nothing stays reserved in services that were not called. Its future and the answer's body are dropped as soon
//! as the client is found to have left, which on HTTP/1 includes closing only its sending side. A panic ends its
//! connection, on HTTP/2 its stream, and nothing else; the connection's other streams go on with the same instance.
//!
//! A request counts until the last frame of its answer is handed out. On HTTP/2 it counts until the client has taken the answer;
//! if that is of 1 KiB or less, until the client has room for its beginning. On HTTP/1, bytes that come after that are taken
//! for the next head: a service that goes on reading the request's body then has the header timeout left for it.
//!
//! # Shutdown
//!
//! When the signal given to [`serve`](Server::serve) comes, the connections that the kernel has already accepted are
//! taken, and the listener is closed. Every connection is told: idle ones close, those with a request finish it, its
//! uploads and its streaming answer included, with `connection: close` or GOAWAY. A connection that has not
//! sent its first byte yet gets one second to do so, and one whose head has come in part gets the header timeout, so
//! that no request is lost that was sent before the stop. An HTTP/2 client has the write stall timeout to take the end of its last
//! answer; if that is of 1 KiB or less, one that does not answer the goodbye has a second. An idle HTTP/1 connection can only be
//! closed; to have clients leave before, call [`ServerHandle::announce_close`] some time ahead. Upgraded connections are left
//! alone. What remains after [`shutdown_grace`] is cut.

mod accept;
mod activity;
mod body;
mod closed;
mod config;
mod connection;
mod farewell;
mod handle;
mod incoming;
mod io;
mod lent;
mod link;
mod registry;
mod resets;
mod service;
mod shutdown;
mod stream;
mod supervisor;
mod telemetry;
mod workers;

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use gw_core::BoxError;
use http::{Request, Response};
use http_body::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tower_service::Service;

pub use self::closed::{CloseReason, Closed};
pub use self::config::{ServerConfig, ServerConfigBuilder};
pub use self::handle::{ListenerSnapshot, ServerHandle, Snapshot};
#[cfg(feature = "upstream")]
pub(crate) use self::incoming::BrokeOff;
pub use self::incoming::Incoming;
pub use self::shutdown::Drained;
#[cfg(feature = "metrics")]
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
pub use self::telemetry::describe;
pub use self::workers::Workers;

use self::accept::{Backoff, Spare, backlog, is_about_one_connection, unless};
use self::closed::Counters;
use self::farewell::SlowHead;
use self::io::Io;
use self::registry::{Listener, Registry};
use self::shutdown::Connections;

/// A bounded server. Clones share all limits and counts, so one server may serve several listeners.
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
///
/// use gw_pipeline::Body;
/// use gw_pipeline::server::{Server, ServerConfig};
/// use http::{Request, Response};
/// use tokio::net::TcpListener;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let config = ServerConfig::builder().max_connections(1000).build()?;
/// let server = Server::new(config);
/// let hello = tower::service_fn(|_: Request<_>| async {
///     Ok::<_, Infallible>(Response::new(Body::from("hello")))
/// });
/// let listener = TcpListener::bind("127.0.0.1:0").await?;
/// // A signal that comes at once; usually it is that of the operating system.
/// let drained = server.serve(listener, hello, async {}).await;
/// assert!(drained.is_clean());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Server {
    registry: Arc<Registry>,
    workers: Option<Workers>,
    slow_head: SlowHead,
}

impl Server {
    /// A server under these limits. It does nothing until [`serve`](Self::serve).
    pub fn new(config: ServerConfig) -> Self {
        Self {
            registry: Arc::new(Registry::new(config)),
            workers: None,
            slow_head: SlowHead::default(),
        }
    }

    /// Serves connections on these threads. Without it: on the runtime that [`serve`](Self::serve) runs on.
    #[must_use]
    pub fn workers(mut self, workers: Workers) -> Self {
        self.workers = Some(workers);
        self
    }

    /// Answers a head that took too long by what `answer` makes. Without it: 408 with the envelope, and no more.
    ///
    /// No service sees such a request, so what layers add to all answers is added here: an id, say, and what
    /// [`ResponseHeaders::apply`](crate::outbound::ResponseHeaders::apply) does. The server sees to date, length and the
    /// end of the connection.
    #[must_use]
    pub fn on_slow_head(
        mut self,
        answer: impl Fn() -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        self.slow_head = SlowHead::new(answer);
        self
    }

    /// Reads the server's numbers.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle::new(Arc::clone(&self.registry))
    }

    /// Serves a listener until `shutdown` has come and its connections have ended; see the
    /// [module](self#shutdown). Must run on a tokio runtime, on which it spawns a task for each connection unless there
    /// are [`workers`](Self::workers).
    ///
    /// Accepting never fails for good. When descriptors run out it closes the connection that has been
    /// longest without a request, waits (5 ms, doubling up to 1 s), and tries again. Where all have a request for longer than a
    /// second, it closes those that wait to be accepted, with a descriptor that it holds for that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and cuts its connections.
    pub async fn serve<S, B>(
        &self,
        listener: TcpListener,
        service: S,
        shutdown: impl Future<Output = ()>,
    ) -> Drained
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>
            + Clone
            + Send
            + 'static,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let own = self.registry.listen(listener.local_addr().ok());
        let connections = Connections::new(Arc::clone(&self.registry), own);
        let own = &connections.listener;
        let mut shutdown = pin!(shutdown);
        let mut backoff = Backoff::new();
        let mut short_since = None;
        let mut spare = Spare::new();
        while let Some(accepted) = unless(shutdown.as_mut(), listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => {
                    backoff.reset();
                    short_since = None;
                    self.admit(own, stream, peer, &service);
                }
                Err(error) => {
                    Counters::count(&self.registry.counters.accept_errors);
                    if is_about_one_connection(&error) {
                        continue;
                    }
                    let now = Instant::now();
                    let since = *short_since.get_or_insert(now);
                    if !self.registry.makes_room(since, now)
                        && backoff.is_at_its_longest()
                        && spare.turn_away(&listener).await
                    {
                        self.registry.refuse(own, CloseReason::NoDescriptors);
                        continue;
                    }
                    if unless(shutdown.as_mut(), sleep(backoff.wait()))
                        .await
                        .is_none()
                    {
                        break;
                    }
                }
            }
        }
        for (stream, peer) in backlog(listener) {
            self.admit(own, stream, peer, &service);
        }
        // Nothing new comes from here on, and a service may hold what others wait for.
        drop(service);
        connections.drain(self.registry.config.shutdown_grace).await
    }

    /// Starts a connection's task, if there is a place for it; else closes the connection.
    fn admit<S, B>(
        &self,
        listener: &Arc<Listener>,
        stream: TcpStream,
        peer: SocketAddr,
        service: &S,
    ) where
        S: connection::Serve<B>,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let Ok(slot) = self.registry.admit(listener, peer, Instant::now()) else {
            return;
        };
        // Answers are written whole; waiting for more would only delay them. Without it they come all the same.
        _ = stream.set_nodelay(true);
        let (registry, service) = (Arc::clone(&self.registry), service.clone());
        let slow_head = self.slow_head.clone();
        let Some(worker) = self.workers.as_ref().and_then(Workers::assign) else {
            tokio::spawn(connection::run(
                Io::new(stream, slot),
                registry,
                peer,
                service,
                slow_head,
            ));
            return;
        };
        // The socket leaves the reactor of this runtime, and joins that of the worker's.
        let Ok(stream) = stream.into_std() else {
            return;
        };
        let handle = worker.handle.clone();
        handle.spawn(async move {
            if let Ok(stream) = TcpStream::from_std(stream) {
                let io = Io::new(stream, slot);
                connection::run(io, registry, peer, service, slow_head).await;
            }
            drop(worker);
        });
    }
}
