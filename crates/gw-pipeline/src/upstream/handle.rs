use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use gw_core::context::UpstreamName;
use gw_core::{Body, BoxError, Rejection};
use http::{Request, Response};
use tower_service::Service;

use super::config::UpstreamBuilder;
use super::future::SendFuture;
use super::permit::UpstreamPermit;
use super::pool::Pool;
use super::transport::{Transport, erase};
use super::tunnel::TunnelPlace;
use crate::pipeline::{LayerDescription, UpstreamDescription};

/// A service that requests are sent on to: its endpoints, the connections to them, and the layers in front of it.
///
/// Clones are the same upstream, so one bound on connections and requests in flight holds for all of them, on whatever
/// runtime they are used. Idle connections stay with the runtime that made them.
#[derive(Clone)]
pub struct Upstream<S = Transport> {
    pool: Arc<Pool>,
    /// The layers, and the transport behind them.
    stack: S,
    /// What the layers are.
    layers: Arc<[LayerDescription]>,
}

/// How an upstream is used at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpstreamSnapshot {
    /// Its name.
    pub name: UpstreamName,
    /// Sockets that are open or being opened, idle ones and tunnels included.
    pub open_connections: usize,
    /// Connections that no request uses.
    pub idle_connections: usize,
    /// Requests that hold a slot.
    pub in_flight: usize,
    /// Requests that wait for a slot.
    pub queued: usize,
    /// Tunnels, and requests that ask for one.
    pub tunnels: usize,
}

impl Upstream {
    /// Builds the upstream `name`.
    pub fn builder(name: impl Into<UpstreamName>) -> UpstreamBuilder {
        UpstreamBuilder::new(name.into())
    }
}

impl<S> Upstream<S> {
    pub(super) const fn new(pool: Arc<Pool>, stack: S, layers: Arc<[LayerDescription]>) -> Self {
        Self {
            pool,
            stack,
            layers,
        }
    }

    /// Its name.
    pub fn name(&self) -> &UpstreamName {
        &self.pool.name
    }

    /// What it is made of: the layers, the endpoints and the connections.
    pub fn describe(&self) -> UpstreamDescription {
        UpstreamDescription {
            name: self.pool.name.clone(),
            layers: self.layers.to_vec(),
            endpoints: self.pool.endpoint_count(),
            has_endpoint_health: self.pool.watcher.0.is_some(),
            max_connections: self.pool.settings.pool.max_connections,
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.pool.is_http2()
    }

    /// How it is used now.
    pub fn snapshot(&self) -> UpstreamSnapshot {
        UpstreamSnapshot {
            name: self.pool.name.clone(),
            open_connections: self.pool.sockets.open(),
            idle_connections: self.pool.idle_connections(),
            in_flight: self.pool.slots.in_flight(),
            queued: self.pool.slots.queued(),
            tunnels: self.pool.tunnels.load(Ordering::Relaxed),
        }
    }

    /// Sets the gauges of this upstream to how it is used now. To be called when metrics are read, or at intervals:
    /// requests do not touch them. It does nothing without the feature `metrics`.
    pub fn record_gauges(&self) {
        self.pool.meters.set(&self.snapshot());
    }

    /// A place for one more tunnel.
    pub(super) fn tunnel(&self) -> Option<TunnelPlace> {
        TunnelPlace::take(&self.pool)
    }

    /// Sends one request, through the layers, to one of the endpoints, and waits for the head of its answer.
    ///
    /// Path and query go out byte for byte. The timers are those in the request's extensions
    /// ([`Timeouts`](crate::Timeouts), [`Deadline`](gw_core::context::Deadline)), or their defaults. Informational
    /// answers are read and left out. An answer 101 to what the request's `Upgrade` field asks for carries the upstream's side
    /// of the tunnel, which only [`Forward`](super::Forward) can open: dropped elsewhere, it closes its connection. Any other
    /// 101 is an error.
    ///
    /// Without a layer that tries again a request is only put on another connection if not a byte of it went out on the first; or
    /// if that was an HTTP/1 connection that had served before and ended before a byte of the answer came, and the request is a
    /// GET, HEAD, OPTIONS or TRACE without a body: then once more, on a new connection.
    ///
    /// # Errors
    ///
    /// The future fails with a [`Rejection`]: that of a layer, or one that has an [`Error`](super::Error) as its source:
    ///
    /// - `OVERLOADED` if no slot or connection came free in the time of the queue, if that is full, or if there is no file
    ///   descriptor for a connection,
    /// - `GATEWAY_TIMEOUT` if another timer expired, and `CLIENT_TIMEOUT` if it was the client that was waited for then,
    /// - `BAD_GATEWAY` if there was no connection, or no valid answer,
    /// - `MALFORMED_REQUEST` if the request's body failed on the client's side, or its host is not valid,
    /// - `INTERNAL` if the body failed within the gateway, or that is set up wrongly.
    ///
    /// A [`Fault`](crate::inbound::Fault) of the client's that was noted is the code in place of any of these.
    pub fn send<B, ResB>(&self, permit: UpstreamPermit, request: Request<B>) -> SendFuture<S>
    where
        S: Service<Request<Body>, Response = Response<ResB>, Error: Into<Rejection>> + Clone,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.send_erased(permit, &mut None, request.map(erase))
    }

    /// [`send`](Self::send) for a request whose body has its one type: one move of a large thing less.
    ///
    /// `stack` is what is left of an earlier request's way through the layers, and serves this one if it can: to clone it
    /// is to count references that all threads count.
    pub(super) fn send_erased<ResB>(
        &self,
        permit: UpstreamPermit,
        stack: &mut Option<S>,
        request: Request<Body>,
    ) -> SendFuture<S>
    where
        S: Service<Request<Body>, Response = Response<ResB>, Error: Into<Rejection>> + Clone,
    {
        permit.use_up();
        SendFuture::new(stack, || self.stack.clone(), request)
    }
}

impl<S> fmt::Debug for Upstream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream")
            .field("name", &self.pool.name.as_str())
            .finish_non_exhaustive()
    }
}
