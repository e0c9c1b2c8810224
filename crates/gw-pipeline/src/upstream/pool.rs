//! One upstream's connections: who gets which, and when a new one is made.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gw_core::context::UpstreamName;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tower_service::Service as _;

use super::config::{Protocol, Settings};
use super::connector::{Connector, connector};
use super::error::{Error, ErrorKind};
use super::http1::{Http1, IdleList, LINGERS, Origin};
use super::http2::{Http2, Shared, counting, http2_builder};
use super::lease::Stopwatch;
use super::limits::{Limits, later};
use super::place::Places;
use super::report::Watcher;
use super::resend::Kept;
use super::slots::Slots;
use super::socket::{Socket, SocketPermit, Sockets};
use super::target::Endpoint;
use super::tasks::Tasks;
use super::telemetry::Meters;
use super::timer::Timer;
use super::usage::{Streams, Usage, drive, idle_for, idle_for_or_crowding};

/// The head of an answer may have so many bytes, its fields together over HTTP/2.
pub(super) const MAX_HEAD: u32 = 64 * 1024;

/// How long an exchange that finds no other connection waits for one whose last request is still on its way.
const UNFINISHED: Duration = Duration::from_millis(100);

/// Of so many turns of endpoints for which a connection would have to be closed, one is not given to another one.
const STRAIGHT: usize = 8;

/// All that the clones of an [`Upstream`](super::Upstream) share.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: UpstreamName,
    pub(super) settings: Settings,
    pub(super) slots: Slots,
    pub(super) sockets: Sockets,
    /// Requests that ask for a tunnel, and tunnels.
    pub(super) tunnels: AtomicUsize,
    pub(super) meters: Meters,
    pub(super) watcher: Watcher,
    endpoints: Vec<Endpoint>,
    turn: AtomicUsize,
    /// So many turns were to be another endpoint's for want of a connection.
    diverted: AtomicUsize,
    idle: IdleList,
    places: Places,
    connector: Connector,
    http1: http1::Builder,
}

/// A connection for one exchange.
#[derive(Debug)]
pub(super) enum Connection {
    Http1(Box<Http1>),
    Http2(Http2),
}

impl Connection {
    /// What the exchange on it waits with.
    pub(super) const fn timer(&mut self) -> &mut Timer {
        match self {
            Self::Http1(http1) => &mut http1.timer,
            Self::Http2(http2) => &mut http2.timer,
        }
    }
}

/// A connection, and whether it served another exchange before.
#[derive(Debug)]
pub(super) struct Checkout {
    pub(super) connection: Connection,
    pub(super) reused: bool,
}

impl Pool {
    pub(super) fn new(
        name: UpstreamName,
        endpoints: Vec<Endpoint>,
        settings: Settings,
        watcher: Watcher,
    ) -> Self {
        let mut http1 = http1::Builder::new();
        http1.max_header_size(MAX_HEAD as usize);
        Self {
            meters: Meters::new(&name),
            name,
            slots: Slots::new(settings.pool),
            sockets: Sockets::new(settings.pool.max_connections),
            tunnels: AtomicUsize::new(0),
            watcher,
            endpoints,
            turn: AtomicUsize::new(0),
            diverted: AtomicUsize::new(0),
            idle: IdleList::new(settings.pool.max_idle),
            places: Places::default(),
            connector: connector(settings.protocol),
            http1,
            settings,
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        self.settings.protocol == Protocol::Http2
    }

    pub(super) fn endpoint_count(&self) -> usize {
        self.endpoints.len()
    }

    /// The connections that no exchange uses.
    pub(super) fn idle_connections(&self) -> usize {
        match self.is_http2() {
            true => self.places.idle(),
            false => self.idle.len(),
        }
    }

    /// The endpoint whose turn it is, with its number; another one if that is not fit for use or was `tried`, and there is one
    /// that is. Where there is no room for a connection, rather one that is at hand.
    pub(super) fn endpoint(
        &self,
        tried: Option<usize>,
        now: Instant,
    ) -> Result<(usize, &Endpoint), Error> {
        // There is no turn to take, which all threads would count.
        if let [only] = &*self.endpoints {
            return Ok((0, only));
        }
        // Relaxed: any order of turns is a fair one.
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.endpoints.len();
        let mut number = turn.checked_rem(count).unwrap_or_default();
        let is_usable = |number: &usize| self.watcher.is_usable(*number, now);
        let is_fit = |number: &usize| tried != Some(*number) && is_usable(number);
        if !is_fit(&number) {
            let fit = (0..count).filter(is_fit);
            // Not always the next one, which would have all of its turns: another one each round.
            let round = turn.checked_div(count).unwrap_or_default();
            let nth = round.wrapping_add(number).checked_rem(fit.clone().count());
            let other = nth.and_then(|nth| fit.clone().nth(nth));
            // Who is asked about endpoints need not know how many there are.
            let again = tried.filter(|number| *number < count && is_usable(number));
            number = other.or(again).unwrap_or(number);
        }
        if !self.is_http2() && !self.sockets.has_room() {
            let offset = turn.checked_div(count).unwrap_or_default();
            let offset = offset.checked_rem(count).unwrap_or_default();
            let others = (0..count).cycle().skip(offset).take(count).filter(is_fit);
            number = self.at_hand(number, others).unwrap_or(number);
        }
        let endpoint = self.endpoints.get(number);
        // The builder refuses an upstream without endpoints.
        Ok((number, endpoint.ok_or(Error::new(ErrorKind::Setup))?))
    }

    /// One of `others` that has an idle connection on the current runtime, where `number` has none.
    ///
    /// Who goes where there is none closes another one's. Now and then that must be, or an endpoint would never get the connections
    /// that its turns take.
    fn at_hand(&self, number: usize, mut others: impl Iterator<Item = usize>) -> Option<usize> {
        let (_, origin) = origin(number).ok()?;
        let is_at_hand = |endpoint: &usize| {
            let endpoint = *endpoint;
            self.idle.has(Origin { endpoint, ..origin })
        };
        if is_at_hand(&number) {
            return None;
        }
        let other = others.find(is_at_hand)?;
        // Relaxed: any order of turns is a fair one.
        let diverted = self
            .diverted
            .fetch_add(1, Ordering::Relaxed)
            .wrapping_add(1);
        (!diverted.is_multiple_of(STRAIGHT)).then_some(other)
    }

    /// A connection to the endpoint on the current runtime, if one is at hand. The caller has a slot.
    pub(super) fn try_checkout(
        &self,
        endpoint: usize,
        now: Instant,
    ) -> Result<Option<Checkout>, Error> {
        let (_, origin) = origin(endpoint)?;
        let connection = if self.is_http2() {
            self.places.of(origin).try_share().map(Connection::Http2)
        } else {
            self.idle.take_ready(origin, now).map(Connection::Http1)
        };
        Ok(connection.map(|connection| Checkout {
            connection,
            reused: true,
        }))
    }

    /// A connection to the endpoint on the current runtime. The caller has a slot.
    ///
    /// Each wait of it ends with the attempt at the latest. Only the making of a connection says something about the upstream, and it is
    /// what `watch` is started for. Over HTTP/2 it begins earlier where there is no connection: with the wait for room, or for who is
    /// making one.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what it has opened so far, unless that is a further connection beside others: it is for all who
    /// wait for one.
    pub(super) async fn checkout(
        self: &Arc<Self>,
        endpoint: usize,
        limits: &Limits,
        watch: &mut Stopwatch,
    ) -> Result<Checkout, Error> {
        let (handle, origin) = origin(endpoint)?;
        if self.is_http2() {
            let place = self.places.of(origin);
            if !place.is_live() {
                watch.start_at(Instant::now());
            }
            let queue_timeout = self.settings.pool.queue_timeout;
            let connect = |permit, streams, limits: Option<Limits>| {
                let (pool, handle) = (Arc::clone(self), handle.clone());
                async move {
                    let connecting =
                        pool.connect_http2(&handle, endpoint, permit, streams, limits.as_ref());
                    connecting.await
                }
            };
            let make_room = || self.places.end_idle();
            let sharing = place.share(&self.sockets, limits, queue_timeout, make_room, connect);
            let (share, reused) = sharing.await?;
            return Ok(Checkout {
                connection: Connection::Http2(share),
                reused,
            });
        }
        let (connection, reused) = self.wait_http1(&handle, origin, limits, watch).await?;
        Ok(Checkout {
            connection: Connection::Http1(connection),
            reused,
        })
    }

    /// An idle connection of the same runtime, else a new one within the cap, else the next that comes free.
    ///
    /// Each exchange has a slot, and there are as many slots as sockets. So if all sockets are taken, one of them is
    /// idle, about to be, or about to close. It closes when its runtime gets round to it; the wait for that is
    /// bounded.
    async fn wait_http1(
        self: &Arc<Self>,
        handle: &Handle,
        origin: Origin,
        limits: &Limits,
        watch: &mut Stopwatch,
    ) -> Result<(Box<Http1>, bool), Error> {
        loop {
            if let Some(ready) = self.idle.take_ready(origin, Instant::now()) {
                return Ok((ready, true));
            }
            let permit = match self.sockets.try_permit() {
                Some(permit) => permit,
                None => {
                    // Mostly a matter of microseconds: the answer has ended, the connection's task has not noticed yet.
                    if let Some(mut unfinished) = self.idle.take_any(origin, Instant::now()) {
                        let (end, kind) = limits.queue_due(later(Instant::now(), UNFINISHED));
                        match timeout_at(end, unfinished.sender.ready()).await {
                            Ok(Ok(())) => return Ok((unfinished, true)),
                            Err(_) if limits.attempt_end <= end => return Err(Error::new(kind)),
                            Ok(Err(_)) | Err(_) => continue,
                        }
                    }
                    self.make_room(limits).await?
                }
            };
            let connecting = self.connect_http1(handle, origin, permit, limits, watch);
            let connection = connecting.await?;
            return Ok((connection, false));
        }
    }

    /// A connection over HTTP/1 that nobody has used. The caller has a slot.
    ///
    /// Waits and is dropped as [`checkout`](Self::checkout) does and is.
    pub(super) async fn new_http1(
        self: &Arc<Self>,
        endpoint: usize,
        limits: &Limits,
        watch: &mut Stopwatch,
    ) -> Result<Checkout, Error> {
        let (handle, origin) = origin(endpoint)?;
        let permit = match self.sockets.try_permit() {
            Some(permit) => permit,
            None => self.make_room(limits).await?,
        };
        let connecting = self.connect_http1(&handle, origin, permit, limits, watch);
        let connection = connecting.await?;
        Ok(Checkout {
            connection: Connection::Http1(connection),
            reused: false,
        })
    }

    /// The place of the longest idle connection, or of another one that closes.
    async fn make_room(&self, limits: &Limits) -> Result<SocketPermit, Error> {
        self.idle.close_oldest();
        self.socket_permit(limits).await
    }

    /// The wait for room is one in the queue: whatever ends it says nothing about the upstream.
    async fn socket_permit(&self, limits: &Limits) -> Result<SocketPermit, Error> {
        let (end, kind) = limits.queue_due(later(Instant::now(), self.settings.pool.queue_timeout));
        match timeout_at(end, self.sockets.permit()).await {
            Ok(permit) => permit.map_err(|closed| Error::because(ErrorKind::Setup, closed)),
            Err(_) => Err(Error::new(kind)),
        }
    }

    async fn connect_http1(
        self: &Arc<Self>,
        handle: &Handle,
        origin: Origin,
        permit: SocketPermit,
        limits: &Limits,
        watch: &mut Stopwatch,
    ) -> Result<Box<Http1>, Error> {
        watch.start_at(Instant::now());
        let connecting = async {
            let socket = self.connect(origin.endpoint, permit).await?;
            let (doubt, heard) = (socket.doubt(), socket.heard());
            match self.http1.handshake(TokioIo::new(socket)).await {
                Ok((sender, connection)) => Ok((sender, connection, doubt, heard)),
                Err(error) => Err(Error::because(ErrorKind::Connect, error)),
            }
        };
        let (sender, connection, doubt, heard) = self.in_time(connecting, Some(limits)).await?;
        let now = Instant::now();
        let usage = Arc::new(Usage::new(now));
        let idle_timeout = self.settings.pool.idle_timeout;
        let (pool, driven) = (Arc::downgrade(self), Arc::clone(&usage));
        handle.spawn(async move {
            let crowds = || {
                if let Some(pool) = pool.upgrade() {
                    pool.idle.forget_surplus(&driven);
                }
            };
            let next_look = idle_for_or_crowding(idle_timeout, LINGERS, crowds);
            drive(connection.with_upgrades(), &driven, next_look).await;
            if let Some(pool) = pool.upgrade() {
                pool.idle.forget(&driven);
            }
        });
        Ok(Box::new(Http1 {
            sender,
            origin,
            usage,
            doubt,
            heard,
            kept: Kept::default(),
            timer: Timer::default(),
            served: 0,
            idle_since: now,
        }))
    }

    async fn connect_http2(
        &self,
        handle: &Handle,
        endpoint: usize,
        permit: SocketPermit,
        streams: Arc<Streams>,
        limits: Option<&Limits>,
    ) -> Result<(Shared, Http2), Error> {
        let allowed = streams.allowed();
        let usage = Arc::new(Usage::shared(Instant::now(), streams));
        let (greeted, greeting) = oneshot::channel();
        let connecting = async {
            let socket = self.connect(endpoint, permit).await?;
            let tasks = Tasks::of(Arc::clone(&usage), socket.heard());
            let http2 = http2_builder(tasks.clone(), allowed, &self.settings);
            let handshake = http2.handshake(TokioIo::new(socket)).await;
            let (sender, connection) =
                handshake.map_err(|error| Error::because(ErrorKind::Connect, error))?;
            let shared = Shared {
                sender,
                usage: Arc::clone(&usage),
                tasks: tasks.clone(),
            };
            let (driven, idle_timeout) = (usage, self.settings.pool.idle_timeout);
            handle.spawn(async move {
                tasks.are_spawned_here();
                let counting = counting(connection, &driven, greeted);
                drive(counting, &driven, idle_for(idle_timeout)).await;
                // It takes no more exchanges. Those under way may go on: each has its timers.
                driven.retire();
                driven.given_up().await;
                tasks.end().await;
            });
            // Counted already. The connection ends if it is dropped with `shared`.
            let first = shared.share();
            // Who takes a further connection and closes it at once must not get a request that others can serve.
            if limits.is_none() {
                greeting
                    .await
                    .map_err(|ended| Error::because(ErrorKind::Connect, ended))?;
            }
            Ok((shared, first))
        };
        self.in_time(connecting, limits).await
    }

    async fn connect(&self, endpoint: usize, permit: SocketPermit) -> Result<Socket, Error> {
        let endpoint = self.endpoints.get(endpoint);
        let endpoint = endpoint.ok_or(Error::new(ErrorKind::Setup))?;
        // The connector is always ready; a clone is a reference count.
        let connecting = self.connector.clone().call(endpoint.uri.clone());
        match connecting.await {
            Ok(io) => {
                let protocol = self.settings.protocol;
                Ok(Socket::new(io.into_inner(), protocol, permit))
            }
            Err(error) => Err(Error::of_connecting(error)),
        }
    }

    /// What `connecting` comes to, within the limits of the one that waits for it. If there is one.
    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, Error>>,
        limits: Option<&Limits>,
    ) -> Result<T, Error> {
        let end = later(Instant::now(), self.settings.connect_timeout);
        let (end, kind) = match limits {
            Some(limits) if limits.attempt_end < end => (limits.attempt_end, limits.connect_kind()),
            _ => (end, ErrorKind::ConnectTimeout),
        };
        match timeout_at(end, connecting).await {
            Ok(connected) => connected,
            Err(_) => Err(Error::new(kind)),
        }
    }

    /// Takes back a connection whose exchange has come to its end, `now` or a moment ago. The runtime that has an idle one then.
    pub(super) fn give_back(&self, connection: Box<Http1>, now: Instant) -> Option<runtime::Id> {
        if connection.sender.is_closed() {
            return None;
        }
        let runtime = connection.origin.runtime;
        self.idle.park(connection, now);
        (self.settings.pool.max_idle > 0).then_some(runtime)
    }
}

/// The current runtime, and the origin of its connections to an endpoint.
fn origin(endpoint: usize) -> Result<(Handle, Origin), Error> {
    let handle = Handle::try_current().map_err(|e| Error::because(ErrorKind::Setup, e))?;
    let runtime = handle.id();
    Ok((handle, Origin { runtime, endpoint }))
}

#[cfg(test)]
mod tests;
