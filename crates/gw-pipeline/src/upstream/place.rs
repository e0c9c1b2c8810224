//! Who shares which HTTP/2 connection, and who makes another one.
//!
//! A runtime has one for each endpoint, and a further one where all that it has are full: with more requests than a peer allows,
//! hyper would hold them back, and nobody could tell them from those that the upstream does not answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use gw_core::attempt::Failure;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::error::{Error, ErrorKind};
use super::http1::Origin;
use super::http2::{Http2, Shared};
use super::limits::{Limits, later};
use super::socket::{SocketPermit, Sockets};
use super::usage::Streams;

/// The place of one origin's connections.
#[derive(Debug)]
pub(super) struct Place {
    origin: Origin,
    connections: Mutex<Vec<Shared>>,
    streams: Arc<Streams>,
    // Held while a connection is made: those who come meanwhile want the same one. Its waiters have slots, so they are
    // bounded, and each brings a timer.
    making: tokio::sync::Mutex<Failed>,
    tries: Tries,
}

/// The last try to connect that failed by the upstream's doing, and how.
type Failed = Option<(u64, ErrorKind)>;

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

/// Whose turn it is to make a connection, unless it has been spared that.
enum Turn<'a> {
    Mine(tokio::sync::MutexGuard<'a, Failed>),
    Spared(Http2),
}

/// Whoever leaves the queue wakes the next one there: of two streams that come free, one may wake nobody.
struct Next<'a>(&'a Notify);

impl Drop for Next<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

/// The places of all origins that have a connection, or are about to make one.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Vec<Arc<Place>>>);

impl Places {
    /// How many connections there are that nobody uses.
    pub(super) fn idle(&self) -> usize {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().map(|place| place.idle()).sum()
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
            connections: Mutex::default(),
            streams: Arc::default(),
            making: tokio::sync::Mutex::default(),
            tries: Tries::default(),
        });
        places.push(Arc::clone(&place));
        place
    }
}

impl Place {
    fn connections(&self) -> MutexGuard<'_, Vec<Shared>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn is_alive(&self) -> bool {
        let alive = |it: &Shared| !it.sender.is_closed();
        self.connections().iter().any(alive)
    }

    fn idle(&self) -> usize {
        let idle = |it: &&Shared| !it.sender.is_closed() && it.usage.idle_since().is_some();
        self.connections().iter().filter(idle).count()
    }

    /// Whether there is a connection that takes exchanges, or will as soon as one of its streams is free.
    fn is_live(&self) -> bool {
        self.connections().iter().any(Shared::is_live)
    }

    /// A share in a connection that is there and has room.
    pub(super) fn try_share(&self) -> Option<Http2> {
        self.connections().iter().find_map(Shared::try_share)
    }

    /// A share in a connection that is there, else in the one that `connect` makes once there is `room`.
    ///
    /// One that is retired is still shared while there is no room for another: it may be slow, and no more than that.
    ///
    /// Who waits for what another one is making waits in a queue as long as that one waits for room. From then on it is as if
    /// it were connecting itself: a try that fails fails for all who have waited for it. But where connections are there and
    /// full, all wait for `queue_timeout` at the most, for whatever comes first, and nothing of it is the upstream's failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what `connect` has begun, and the next in line begins anew.
    pub(super) async fn share<F>(
        &self,
        sockets: &Sockets,
        limits: &Limits,
        queue_timeout: Duration,
        room: impl Future<Output = Result<SocketPermit, Error>>,
        connect: impl FnOnce(SocketPermit, Arc<Streams>) -> F,
    ) -> Result<(Http2, bool), Error>
    where
        F: Future<Output = Result<Shared, Error>>,
    {
        let came = self.tries.now();
        let _next = Next(&self.streams.freed);
        let mut failed = match self.turn(limits, queue_timeout).await? {
            Turn::Mine(failed) => failed,
            Turn::Spared(share) => return Ok((share, true)),
        };
        let mut room = pin!(room);
        let permit = loop {
            if let Some(share) = self.try_share().or_else(|| self.share_retired(sockets)) {
                return Ok((share, true));
            }
            match *failed {
                Some((number, kind)) if number >= came => {
                    drop(failed);
                    return self.freed(limits, queue_timeout, kind).await;
                }
                _ => {}
            }
            if let Some(permit) = unless(room.as_mut(), self.streams.freed.notified()).await {
                break permit?;
            }
        };
        let trying = self.tries.begin();
        let number = self.tries.now();
        let made = connect(permit, Arc::clone(&self.streams)).await;
        drop(trying);
        match made {
            Ok(shared) => {
                let share = shared.share();
                let mut connections = self.connections();
                connections.retain(Shared::is_live);
                connections.push(shared);
                Ok((share, false))
            }
            Err(error) => {
                // Where it was this attempt's own time that ended it, others may have more.
                let for_all = Instant::now() < limits.attempt_end
                    && error.kind().failure() == Failure::NotSent;
                *failed = for_all.then_some((number, error.kind()));
                drop(failed);
                match for_all && self.is_live() {
                    true => self.freed(limits, queue_timeout, error.kind()).await,
                    false => Err(error),
                }
            }
        }
    }

    fn share_retired(&self, sockets: &Sockets) -> Option<Http2> {
        if sockets.has_room() {
            return None;
        }
        self.connections().iter().find_map(Shared::share_retired)
    }

    /// Waits for the turn to make a connection, or for room in one that is there.
    async fn turn(&self, limits: &Limits, queue_timeout: Duration) -> Result<Turn<'_>, Error> {
        let mut turn = pin!(self.making.lock());
        let mut queue_end = None;
        loop {
            if let Some(share) = self.try_share() {
                return Ok(Turn::Spared(share));
            }
            let live = self.is_live();
            let (end, queued) = limits.queue_due(match live {
                true => *queue_end.get_or_insert_with(|| later(Instant::now(), queue_timeout)),
                false => limits.attempt_end,
            });
            match timeout_at(end, unless(turn.as_mut(), self.streams.freed.notified())).await {
                Ok(Some(failed)) => return Ok(Turn::Mine(failed)),
                Ok(None) => {}
                Err(_) => {
                    return Err(Error::new(match !live && self.tries.are_under_way() {
                        true => limits.connect_kind(),
                        false => queued,
                    }));
                }
            }
        }
    }

    /// A share in a connection that is there, once one of its streams is free. As long as one is there: else it is as if this
    /// had tried to make one, which has `failed`.
    async fn freed(
        &self,
        limits: &Limits,
        queue_timeout: Duration,
        failed: ErrorKind,
    ) -> Result<(Http2, bool), Error> {
        let (end, queued) = limits.queue_due(later(Instant::now(), queue_timeout));
        loop {
            if let Some(share) = self.try_share() {
                return Ok((share, true));
            }
            if !self.is_live() {
                return Err(Error::new(failed));
            }
            let freed = timeout_at(end, self.streams.freed.notified());
            freed.await.map_err(|_| Error::new(queued))?;
        }
    }
}

/// What `awaited` comes to, unless the other one is ready before it.
async fn unless<F: Future>(
    mut awaited: Pin<&mut F>,
    other: impl Future<Output = ()>,
) -> Option<F::Output> {
    let mut other = pin!(other);
    poll_fn(|cx| match awaited.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => other.as_mut().poll(cx).map(|()| None),
    })
    .await
}
