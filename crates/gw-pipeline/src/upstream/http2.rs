//! HTTP/2 connections: one per runtime and endpoint, shared by all exchanges there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gw_core::attempt::Failure;
use hyper::client::conn::http2::SendRequest;
use tokio::time::{Instant, timeout_at};

use super::error::{Error, ErrorKind};
use super::http1::Origin;
use super::limits::Limits;
use super::socket::{Heard, SocketPermit, Sockets};
use super::timer::Timer;
use super::upload::RequestBody;
use super::usage::Usage;

/// A share in a connection, in use until it is dropped.
#[derive(Debug)]
pub(super) struct Http2 {
    pub(super) sender: SendRequest<RequestBody>,
    usage: Arc<Usage>,
    heard: Heard,
    pub(super) timer: Timer,
}

/// The place of one origin's connection.
#[derive(Debug)]
pub(super) struct Place {
    origin: Origin,
    // Held while a connection is made: those who come meanwhile want the same one. Its waiters have slots, so they are
    // bounded, and each brings a timer.
    current: tokio::sync::Mutex<Current>,
    tries: Tries,
}

#[derive(Debug, Default)]
struct Current {
    shared: Option<Shared>,
    /// The last try that failed by the upstream's doing, and how.
    failed: Option<(u64, ErrorKind)>,
}

/// Tries to connect, by number: an odd one is under way, with room for its socket; an even one lies between two tries.
#[derive(Debug, Default)]
struct Tries(AtomicU64);

/// A try that is under way until this is dropped.
struct Trying<'a>(&'a Tries);

impl Tries {
    /// The current number. Whoever comes to hold the lock sees what its last holder has counted; others may see it late.
    fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn are_under_way(&self) -> bool {
        self.now() % 2 == 1
    }

    fn begin(&self) -> Trying<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Trying(self)
    }
}

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A connection as its place keeps it.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sender: SendRequest<RequestBody>,
    pub(super) usage: Arc<Usage>,
    pub(super) heard: Heard,
}

/// The places of all origins that have a connection, or are about to make one.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Vec<Arc<Place>>>);

impl Places {
    /// How many connections there are that nobody uses.
    pub(super) fn idle(&self) -> usize {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().filter(|place| place.is_idle()).count()
    }

    /// The place of `origin`. Places that nobody needs any more are removed on the way.
    pub(super) fn of(&self, origin: Origin) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.iter().find(|place| place.origin == origin) {
            return Arc::clone(place);
        }
        places.retain(|place| Arc::strong_count(place) > 1 || place.is_alive());
        let place = Arc::new(Place {
            origin,
            current: tokio::sync::Mutex::default(),
            tries: Tries::default(),
        });
        places.push(Arc::clone(&place));
        place
    }
}

impl Place {
    fn is_alive(&self) -> bool {
        let current = self.current.try_lock();
        let alive = |it: &Shared| !it.sender.is_closed();
        current.is_ok_and(|current| current.shared.as_ref().is_some_and(alive))
    }

    fn is_idle(&self) -> bool {
        // While it is made it is in use.
        let current = self.current.try_lock();
        let idle = |it: &Shared| !it.sender.is_closed() && it.usage.idle_since().is_some();
        current.is_ok_and(|current| current.shared.as_ref().is_some_and(idle))
    }

    /// A share in the connection that is there, if nobody is making one.
    pub(super) fn try_share(&self) -> Option<Http2> {
        let current = self.current.try_lock().ok()?;
        current.shared.as_ref()?.try_share()
    }

    /// A share in the connection that is there, else in the one that `connect` makes once there is `room`.
    ///
    /// One that is retired is still shared while there is no room for another: it may be slow, and no more than that.
    ///
    /// Who waits for what another one is making waits in a queue as long as that one waits for room. From then on it is as if
    /// it were connecting itself: a try that fails fails for all who have waited for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what `connect` has begun, and the next in line begins anew.
    pub(super) async fn share<F>(
        &self,
        sockets: &Sockets,
        limits: &Limits,
        room: impl Future<Output = Result<SocketPermit, Error>>,
        connect: impl FnOnce(SocketPermit) -> F,
    ) -> Result<(Http2, bool), Error>
    where
        F: Future<Output = Result<Shared, Error>>,
    {
        let came = self.tries.now();
        let (end, queued) = limits.queue_due(limits.attempt_end);
        let Ok(mut current) = timeout_at(end, self.current.lock()).await else {
            return Err(Error::new(match self.tries.are_under_way() {
                true => limits.connect_kind(),
                false => queued,
            }));
        };
        if let Some(shared) = &current.shared {
            let full = || !sockets.has_room();
            if let Some(share) = shared.try_share().or_else(|| shared.share_retired(full)) {
                return Ok((share, true));
            }
        }
        match current.failed {
            Some((number, kind)) if number >= came => return Err(Error::new(kind)),
            _ => {}
        }
        let permit = room.await?;
        let trying = self.tries.begin();
        let number = self.tries.now();
        let made = connect(permit).await;
        drop(trying);
        match made {
            Ok(shared) => {
                let share = shared.share();
                current.shared = Some(shared);
                Ok((share, false))
            }
            Err(error) => {
                // Where it was this attempt's own time that ended it, others may have more.
                let for_all = Instant::now() < limits.attempt_end
                    && error.kind().failure() == Failure::NotSent;
                current.failed = for_all.then_some((number, error.kind()));
                Err(error)
            }
        }
    }
}

impl Shared {
    fn try_share(&self) -> Option<Http2> {
        (!self.sender.is_closed() && self.usage.try_enter()).then(|| self.share())
    }

    fn share_retired(&self, so: impl FnOnce() -> bool) -> Option<Http2> {
        (!self.sender.is_closed() && so() && self.usage.enter_retired()).then(|| self.share())
    }

    /// A share whose user is counted already.
    fn share(&self) -> Http2 {
        Http2 {
            sender: self.sender.clone(),
            usage: Arc::clone(&self.usage),
            heard: self.heard.clone(),
            timer: Timer::default(),
        }
    }
}

impl Http2 {
    /// To be compared with later: see [`retire_if_silent`](Self::retire_if_silent).
    pub(super) fn heard(&self) -> u64 {
        self.heard.count()
    }

    /// An exchange has waited in vain: if nothing at all has come since, the peer may be gone without a word, and the
    /// next exchange gets another connection.
    pub(super) fn retire_if_silent(&self, since: u64) {
        if self.heard.count() == since {
            self.usage.retire();
        }
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.usage.leave(Instant::now());
    }
}
