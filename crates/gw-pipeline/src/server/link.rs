//! What the parts of one connection share: its task, its socket, its requests, and the server.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use tokio::time::Instant;

use super::activity::{Activity, Leaving};
use super::closed::CloseReason;
use super::config::Timers;
use super::resets::Resets;
use super::stream::Turns;
use crate::waker::{remember, wake};

/// One connection, as seen by all who deal with it.
///
/// The lock is held for a few instructions only, and no other lock is taken under it. It has one user at a time in all
/// but rare cases, since socket, requests and timers of an HTTP/1 connection live on one task.
#[derive(Debug)]
pub(super) struct Link {
    inner: Mutex<Inner>,
    /// Copies of facts for those who need nothing else. All only ever rise, and whoever misses one sees it on the next
    /// look.
    flags: AtomicU8,
    /// Bytes came, and nobody has looked at the clock since: the next look does, unless they turn out to belong to a whole
    /// request, as nearly all do.
    received: AtomicBool,
}

const LEAVING: u8 = 1;
const UPGRADABLE: u8 = 2;
const MULTIPLEXED: u8 = 4;
const LAST_ANSWERS: u8 = 8;
const SWITCHED: u8 = 16;
const HEARD: u8 = 32;

#[derive(Debug)]
struct Inner {
    activity: Activity,
    resets: Resets,
    order: Order,
    /// When the server first wanted the connection gone, and why.
    leaving: Option<(Instant, CloseReason)>,
    /// The socket must end with a reset, and whoever still holds it gets errors.
    killed: bool,
    /// The socket has been dropped.
    closed: bool,
    /// The client's side has ended or failed.
    peer_gone: bool,
    reason: Option<CloseReason>,
    /// The connection's task.
    task: Option<Waker>,
    /// Who waits on the socket once it is upgraded; it is not the connection's task then.
    tunnel: [Option<Waker>; 2],
    /// The request that hyper is about to spawn a task for.
    next_stream: Option<Arc<Turns>>,
}

/// What the server wants of a connection. Only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Nothing.
    Serve,
    /// Finish what is under way, then leave.
    Drain,
    /// Leave at once if there is no request.
    Evict,
    /// Leave at once, with a goodbye: the client resets what it asks for.
    Expel,
    /// Leave at once.
    Cut,
}

/// What a connection's task has to know each time it wakes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    pub(super) order: Order,
    pub(super) quiet: bool,
    pub(super) awaits_head: bool,
}

/// What a connection would lose if it were cut.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InFlight {
    pub(super) requests: u32,
    pub(super) tunnel: bool,
}

/// The outcome of a try to evict a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Eviction {
    /// It will go. It must be woken by [`Link::wake`].
    Ordered,
    /// It has been quiet only since then.
    QuietSince(Instant),
    /// It has a request.
    Busy,
}

/// Which way a tunnel waits for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    Read,
    Write,
}

impl Link {
    pub(super) const fn new(accepted: Instant) -> Self {
        Self {
            inner: Mutex::new(Inner {
                activity: Activity::new(accepted),
                resets: Resets::new(),
                order: Order::Serve,
                leaving: None,
                killed: false,
                closed: false,
                peer_gone: false,
                reason: None,
                task: None,
                tunnel: [None, None],
                next_stream: None,
            }),
            flags: AtomicU8::new(0),
            received: AtomicBool::new(false),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing under the lock can panic half-way, so a poisoned state is a sound one.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // From the server.

    /// Gives an order, and wakes the connection's task.
    pub(super) fn order(&self, order: Order) {
        let mut inner = self.lock();
        inner.raise(order, CloseReason::Shutdown, &self.flags);
        drop(inner);
        self.wake();
    }

    /// From now on each answer over HTTP/1 says that it is the last one.
    pub(super) fn announce_close(&self) {
        self.flags.fetch_or(LAST_ANSWERS, Ordering::Relaxed);
    }

    /// Orders the connection to leave if it has been quiet since `since`, without waking it.
    pub(super) fn evict_if_quiet_since(&self, since: Instant) -> Eviction {
        let mut inner = self.lock();
        match inner.activity.quiet_since() {
            Some(at) if at <= since => {
                inner.raise(Order::Evict, CloseReason::Evicted, &self.flags);
                Eviction::Ordered
            }
            Some(at) => Eviction::QuietSince(at),
            None => Eviction::Busy,
        }
    }

    pub(super) fn wake(&self) {
        // It stays: the task does not look again who is to be woken as long as it is the same one.
        let task = self.lock().task.clone();
        wake(task);
    }

    pub(super) fn in_flight(&self) -> InFlight {
        let inner = self.lock();
        InFlight {
            requests: inner.activity.unfinished(),
            tunnel: inner.activity.is_tunnel() && !inner.closed,
        }
    }

    // From the connection's task.

    /// What there is to know. The task of `cx` is woken by the next order.
    pub(super) fn look(&self, cx: &Context<'_>) -> Look {
        let mut inner = self.lock();
        let replaced = remember(&mut inner.task, cx);
        if self.take_received() {
            inner.activity.received(Instant::now());
        }
        let look = Look {
            order: inner.order,
            quiet: inner.activity.quiet_since().is_some(),
            awaits_head: inner.activity.awaits_head(),
        };
        drop(inner);
        drop(replaced);
        look
    }

    /// Whether a [look](Self::look) may tell more than the last one, by the same task, has told.
    pub(super) fn has_news(&self) -> bool {
        self.is_leaving() || self.received.load(Ordering::Relaxed)
    }

    /// When the connection must end if nothing changes, and why.
    pub(super) fn due(&self, timers: &Timers) -> Option<(Instant, CloseReason)> {
        let heard = self.flags.load(Ordering::Relaxed) & HEARD != 0;
        let inner = self.lock();
        let leaving = inner.leaving.map(|(since, reason)| Leaving {
            since,
            reason,
            heard,
        });
        inner.activity.due(timers, leaving)
    }

    /// Its time is up. Where that is not the end, the connection is ordered to leave, for this `reason`.
    pub(super) fn time_is_up(&self, reason: CloseReason) {
        let mut inner = self.lock();
        if inner.activity.takes_leave(reason) {
            inner.raise(Order::Drain, reason, &self.flags);
        }
    }

    pub(super) fn multiplex(&self) {
        self.flags.fetch_or(MULTIPLEXED, Ordering::Relaxed);
        self.lock().activity.multiplex();
    }

    fn is_multiplexed(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & MULTIPLEXED != 0
    }

    pub(super) fn tunnel(&self) {
        self.lock().activity.tunnel();
    }

    /// The reason that the connection will be counted under. The last one stands.
    pub(super) fn close_as(&self, reason: CloseReason) {
        self.lock().reason = Some(reason);
    }

    /// From now on the socket gives errors, and ends with a reset.
    pub(super) fn kill(&self) {
        let mut inner = self.lock();
        inner.killed = true;
        let tunnel = std::mem::take(&mut inner.tunnel);
        drop(inner);
        tunnel.into_iter().flatten().for_each(Waker::wake);
    }

    /// Whether a request is being served.
    pub(super) fn has_request(&self) -> bool {
        self.lock().activity.open() > 0
    }

    pub(super) fn owes_head(&self) -> bool {
        self.lock().activity.owes_head()
    }

    pub(super) fn may_be_uploading(&self) -> bool {
        self.lock().activity.may_be_uploading()
    }

    pub(super) fn is_peer_gone(&self) -> bool {
        self.lock().peer_gone
    }

    /// Whether an answer has turned the connection into a tunnel.
    pub(super) fn has_switched(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & SWITCHED != 0
    }

    /// Why the server wants the connection gone, if it does.
    pub(super) fn leaves_for(&self) -> Option<CloseReason> {
        self.lock().leaving.map(|(_, reason)| reason)
    }

    /// Whether the server wants the connection gone.
    pub(super) fn is_leaving(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & LEAVING != 0
    }

    /// Whether an answer over HTTP/1 is to be the last one on its connection.
    pub(super) fn closes_after_answer(&self) -> bool {
        self.flags.load(Ordering::Relaxed) & (LEAVING | LAST_ANSWERS) != 0
    }

    // From its requests.

    /// A request starts. It may turn the connection into a tunnel if it is `upgradable`.
    ///
    /// Returns when, where it matters: over HTTP/2.
    pub(super) fn started(&self, bodiless: bool, upgradable: bool) -> Option<Instant> {
        if upgradable {
            // Before the request is handed out, so that the socket knows before anybody can hold it.
            self.flags.fetch_or(UPGRADABLE, Ordering::Release);
        }
        let mut inner = self.lock();
        // They were its head.
        self.take_received();
        inner.activity.started(bodiless);
        drop(inner);
        self.is_multiplexed().then(Instant::now)
    }

    /// A request has ended that [started](Self::started) at `started`, and was `answered` or given up before that.
    pub(super) fn ended(&self, started: Option<Instant>, answered: bool) {
        let mut inner = self.lock();
        // They came before the end, so that they are not told apart from the request's.
        self.take_received();
        let now = Instant::now();
        inner.activity.ended(now);
        if started.is_some_and(|at| inner.resets.too_many(at, now, answered)) {
            inner.raise(Order::Expel, CloseReason::RapidReset, &self.flags);
            drop(inner);
            self.wake();
        }
    }

    /// Its answer turns the connection into a tunnel.
    pub(super) fn switched(&self) {
        self.flags.fetch_or(SWITCHED, Ordering::Relaxed);
        // Already here: who takes the upgraded socket may be done with it before the connection's task is.
        self.close_as(CloseReason::Done);
    }

    /// Leaves `turns` for the task that hyper spawns next.
    pub(super) fn announce_stream(&self, turns: Arc<Turns>) {
        self.lock().next_stream = Some(turns);
    }

    pub(super) fn take_stream(&self) -> Option<Arc<Turns>> {
        self.lock().next_stream.take()
    }

    // From its socket.

    /// Bytes came. To be called by the connection's task, which looks before it sleeps. After an upgrade another one calls it,
    /// and with HTTP/2 several look: a mark may be lost then, and nobody waits for bytes any more.
    pub(super) fn received(&self) {
        // Relaxed: the same task reads it. Others only see it late, which they may.
        self.received.store(true, Ordering::Relaxed);
        if self.is_leaving() {
            self.flags.fetch_or(HEARD, Ordering::Relaxed);
        }
    }

    fn take_received(&self) -> bool {
        let received = self.received.load(Ordering::Relaxed);
        if received {
            self.received.store(false, Ordering::Relaxed);
        }
        received
    }

    pub(super) fn peer_gone(&self) {
        self.lock().peer_gone = true;
    }

    pub(super) fn write_blocked(&self) {
        self.lock().activity.write_blocked(Instant::now());
    }

    /// Bytes were written; `waited` tells whether they had been [blocked](Self::write_blocked).
    pub(super) fn wrote(&self, waited: bool) {
        // Nearly all are written at once, and then it only matters for HTTP/2.
        if waited || self.is_multiplexed() {
            self.lock().activity.wrote(Instant::now);
        }
    }

    pub(super) fn may_be_tunnel(&self) -> bool {
        self.flags.load(Ordering::Acquire) & UPGRADABLE != 0
    }

    /// Fails if the connection was killed, else wakes the task of `cx` when it is.
    pub(super) fn wait_in_tunnel(&self, way: Way, cx: &Context<'_>) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.killed {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let [read, write] = &mut inner.tunnel;
        let waker = match way {
            Way::Read => read,
            Way::Write => write,
        };
        let replaced = remember(waker, cx);
        drop(inner);
        drop(replaced);
        Ok(())
    }

    /// Whether the socket is to end with a reset: it was killed, or nobody came to say why it ends.
    pub(super) fn ends_with_reset(&self) -> bool {
        let inner = self.lock();
        inner.killed || inner.reason.is_none()
    }

    /// The socket has been dropped: what to count it under.
    pub(super) fn closed(&self) -> CloseReason {
        let mut inner = self.lock();
        inner.closed = true;
        // Without a reason the task never got so far as to give one: it panicked, or its runtime is gone.
        inner.reason.unwrap_or(CloseReason::Failed)
    }
}

impl Inner {
    fn raise(&mut self, order: Order, reason: CloseReason, flags: &AtomicU8) {
        if order > self.order {
            self.order = order;
            self.leaving.get_or_insert_with(|| (Instant::now(), reason));
            flags.fetch_or(LEAVING, Ordering::Relaxed);
        }
    }
}
