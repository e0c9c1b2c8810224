//! HTTP/1 connections, and those of them that are idle.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::runtime;
use tokio::time::Instant;

use super::resend::Kept;
use super::socket::{Doubt, Heard};
use super::timer::Timer;
use super::upload::RequestBody;
use super::usage::Usage;

/// Where a connection leads, and which runtime drives it.
///
/// A connection is only used from its own runtime: a lane with threads of its own must not wait for another lane's. A
/// runtime that has ended takes its connections along, so the id may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) runtime: runtime::Id,
    pub(super) endpoint: usize,
}

/// A connection that serves one exchange at a time. Dropping it closes it at once.
#[derive(Debug)]
pub(super) struct Http1 {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) origin: Origin,
    pub(super) usage: Arc<Usage>,
    pub(super) doubt: Doubt,
    pub(super) heard: Heard,
    pub(super) kept: Kept,
    pub(super) timer: Timer,
    /// How many exchanges have ended on it since there was last a reason to look at it, and when the last one did.
    pub(super) served: u32,
    pub(super) idle_since: Instant,
}

/// How long a connection in steady use is not doubted.
///
/// An upstream that closes connections when it has answered does so after the first answer, or says so in the last one.
/// What else can close a connection is a timer, which does not run out right after an answer. To look would cost a
/// system call for each request.
const FRESH: Duration = Duration::from_millis(1);

/// How long connections stay of which there are too many idle ones. Load comes in bursts: who closes at the end of one what the
/// next one needs makes a connection for each request.
pub(super) const LINGERS: Duration = Duration::from_secs(1);

impl Http1 {
    fn is_proven(&self, now: Instant) -> bool {
        self.served > 1 && now.saturating_duration_since(self.idle_since) < FRESH
    }
}

impl Drop for Http1 {
    fn drop(&mut self) {
        self.usage.give_up();
    }
}

/// Idle connections, the longest idle one first.
///
/// The list is short as a rule, so looking through it costs less than an index would.
#[derive(Debug)]
pub(super) struct IdleList {
    connections: Mutex<VecDeque<Idle>>,
    max: usize,
}

#[derive(Debug)]
struct Idle {
    // Here as well: those of others are passed over without a look at them.
    origin: Origin,
    // Boxed, since they are moved in and out all the time.
    connection: Box<Http1>,
}

impl IdleList {
    pub(super) fn new(max: usize) -> Self {
        Self {
            connections: Mutex::new(VecDeque::new()),
            max,
        }
    }

    /// The most recently used connection that can take a request at once.
    pub(super) fn take_ready(&self, origin: Origin, now: Instant) -> Option<Box<Http1>> {
        self.take(origin, now, |idle| idle.sender.is_ready())
    }

    /// The most recently used connection, which may not have finished its last exchange.
    pub(super) fn take_any(&self, origin: Origin, now: Instant) -> Option<Box<Http1>> {
        self.take(origin, now, |_| true)
    }

    /// Whether there is one that somebody could take.
    pub(super) fn has(&self, origin: Origin) -> bool {
        let is_open = |idle: &Idle| idle.origin == origin && !idle.connection.sender.is_closed();
        self.lock().iter().rev().any(is_open)
    }

    fn take(
        &self,
        origin: Origin,
        now: Instant,
        fits: impl Fn(&Http1) -> bool,
    ) -> Option<Box<Http1>> {
        let connection = {
            let mut connections = self.lock();
            let fits = |idle: &Idle| idle.origin == origin && fits(&idle.connection);
            let index = connections.iter().rposition(fits)?;
            let connection = connections.remove(index)?.connection;
            // Under the lock: a connection that nobody uses may be given up.
            connection.usage.enter();
            connection
        };
        if !connection.is_proven(now) {
            connection.doubt.raise();
        }
        Some(connection)
    }

    /// Keeps `connection` for the next exchange. Above the bound the longest idle one is closed, if it has been idle for a while.
    pub(super) fn park(&self, mut connection: Box<Http1>, now: Instant) {
        connection.kept.shrink();
        connection.served = connection.served.saturating_add(1);
        connection.idle_since = now;
        connection.usage.leave(now);
        let surplus = {
            let mut connections = self.lock();
            connections.push_back(Idle {
                origin: connection.origin,
                connection,
            });
            let lingers = connections.front().is_some_and(|oldest| {
                let idle_since = oldest.connection.idle_since;
                self.max > 0 && now.saturating_duration_since(idle_since) < LINGERS
            });
            match connections.len() > self.max && !lingers {
                true => connections.pop_front(),
                false => None,
            }
        };
        // Outside of the lock: closing wakes the connection's task.
        drop(surplus);
    }

    /// Closes the longest idle connection, whatever its origin: another one needs its place.
    ///
    /// Those that a runtime took along when it ended have no socket any more, and do not count.
    pub(super) fn close_oldest(&self) {
        loop {
            let oldest = self.lock().pop_front();
            if oldest.is_none_or(|oldest| !oldest.connection.sender.is_closed()) {
                return;
            }
        }
    }

    /// How many there are. Those that a runtime took along when it ended do not count.
    pub(super) fn len(&self) -> usize {
        let connections = self.lock();
        let open = connections
            .iter()
            .filter(|idle| !idle.connection.sender.is_closed());
        open.count()
    }

    /// Removes a connection that has ended.
    pub(super) fn forget(&self, usage: &Arc<Usage>) {
        self.forget_above(0, usage);
    }

    /// Closes a connection that has been idle for a while, if there are too many.
    pub(super) fn forget_surplus(&self, usage: &Arc<Usage>) {
        self.forget_above(self.max, usage);
    }

    /// Removes a connection, if there are more than so many.
    fn forget_above(&self, number: usize, usage: &Arc<Usage>) {
        let forgotten = {
            let mut connections = self.lock();
            if connections.len() <= number {
                return;
            }
            let index = connections
                .iter()
                .position(|idle| Arc::ptr_eq(&idle.connection.usage, usage));
            index.and_then(|index| connections.remove(index))
        };
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Idle>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
