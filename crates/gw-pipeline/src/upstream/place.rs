//! Who shares which HTTP/2 connection, and who makes another one.
//!
//! A runtime has one for each endpoint, and a further one where all that it has are full: with more requests than a peer allows,
//! hyper would hold them back, and nobody could tell them from those that the upstream does not answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use gw_core::attempt::Failure;
use tokio::time::{Instant, timeout_at};

use self::tries::{Failed, Tries, Try};
use super::error::{Error, ErrorKind};
use super::http1::Origin;
use super::http2::{Http2, Shared};
use super::limits::{Limits, later};
use super::socket::{SocketPermit, Sockets};
use super::usage::{Streams, Usage};

mod tries;

/// The place of one origin's connections.
#[derive(Debug)]
pub(super) struct Place {
    connections: Mutex<Vec<Shared>>,
    streams: Arc<Streams>,
    // Held while a connection is made: those who come meanwhile want the same one. Its waiters have slots, so they are
    // bounded, and each brings a timer.
    making: Arc<tokio::sync::Mutex<Failed>>,
    tries: Tries,
}

/// The places of all origins that have a connection, or are about to make one.
#[derive(Debug, Default)]
pub(super) struct Places(Mutex<Vec<(Origin, Arc<Place>)>>);

impl Places {
    /// How many connections there are that nobody uses.
    pub(super) fn idle(&self) -> usize {
        let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        places.iter().map(|(_, place)| place.idle()).sum()
    }

    /// Ends the connection that nobody has used for the longest time: another one needs its room. Rather one that is not the only
    /// one in its place.
    pub(super) fn end_idle(&self) {
        let oldest = || {
            let places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = places.iter().filter_map(|(_, place)| place.longest_idle());
            oldest.min_by_key(|(order, _)| *order)
        };
        while let Some((_, usage)) = oldest() {
            // It may have got an exchange meanwhile, and is not idle then.
            if usage.retire_unused() {
                return;
            }
        }
    }

    /// The place of `origin`. Places that nobody needs any more are removed on the way.
    pub(super) fn of(&self, origin: Origin) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, place)) = places.iter().find(|(of, _)| *of == origin) {
            return Arc::clone(place);
        }
        places.retain(|(_, place)| Arc::strong_count(place) > 1 || place.is_alive());
        let place = Arc::new(Place {
            connections: Mutex::default(),
            streams: Arc::default(),
            making: Arc::default(),
            tries: Tries::default(),
        });
        places.push((origin, Arc::clone(&place)));
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

    /// The connection that nobody has used for the longest time: whether it is the only one, and since when it is idle.
    fn longest_idle(&self) -> Option<((bool, Instant), Arc<Usage>)> {
        let connections = self.connections();
        let live = connections.iter().filter(|it| it.is_live());
        let only = live.clone().count() == 1;
        let idle = live.filter_map(|it| Some(((only, it.usage.idle_since()?), &it.usage)));
        let (order, usage) = idle.min_by_key(|(order, _)| *order)?;
        Some((order, Arc::clone(usage)))
    }

    /// Whether there is a connection that takes exchanges, or will as soon as one of its streams is free.
    pub(super) fn is_live(&self) -> bool {
        self.connections().iter().any(Shared::is_live)
    }

    fn has_room(&self) -> bool {
        self.connections().iter().any(Shared::has_room)
    }

    /// A share in a connection that is there and has room, if nobody waits for one.
    pub(super) fn try_share(&self) -> Option<Http2> {
        match self.streams.are_awaited() {
            true => None,
            false => self.share_in_turn(),
        }
    }

    fn share_in_turn(&self) -> Option<Http2> {
        let (shared, is_last) = {
            let connections = self.connections();
            let found = connections
                .iter()
                .find_map(|it| Some((it.try_share()?, it.usage.takes_more())));
            let (shared, takes_more) = found?;
            (shared, !takes_more)
        };
        if is_last {
            // Who waits for a share in this connection needs another one.
            self.streams.freed.notify_waiters();
        }
        Some(shared)
    }

    /// A share in a connection that is there, else in the one that `connect` makes once there is room for it, which `make_room`
    /// sees to: within `limits`, or for all who wait.
    ///
    /// Who waits for what another one is making waits in a queue as long as that one waits for room. From then on it is as if
    /// it were connecting itself: a try that fails fails for all who have waited for it. But where connections are there and
    /// full, all wait for `queue_timeout` at the most, for whatever comes first, and nothing of it is the upstream's failure.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what `connect` has begun, and the next in line begins anew. Where other connections are there, it
    /// goes on without.
    pub(super) async fn share<F>(
        self: &Arc<Self>,
        sockets: &Sockets,
        limits: &Limits,
        queue_timeout: Duration,
        make_room: impl Fn(),
        connect: impl Fn(SocketPermit, Arc<Streams>, Option<Limits>) -> F,
    ) -> Result<(Http2, bool), Error>
    where
        F: Future<Output = Result<(Shared, Http2), Error>> + Send + 'static,
    {
        let mut is_behind = self.streams.queued();
        let _queued = Queued(self);
        let mut making = pin!(self.make(sockets, limits, make_room, connect));
        let mut failed = None;
        let mut queue_end = None;
        let mut due = || {
            if !self.is_live() && self.tries.are_under_way() {
                return (limits.attempt_end, limits.connect_kind());
            }
            let begin = || later(Instant::now(), queue_timeout);
            limits.queue_due(*queue_end.get_or_insert_with(begin))
        };
        loop {
            // From here on it hears what happens.
            let freed = self.streams.freed.notified();
            if !is_behind && let Some(share) = self.share_in_turn() {
                return Ok((share, true));
            }
            // It is told when it is its turn.
            is_behind = false;
            let making = match failed.take() {
                None => Some(making.as_mut()),
                Some(error) if !self.is_live() => return Err(error),
                Some(error) => {
                    failed = Some(error);
                    None
                }
            };
            match timeout_at(due().0, unless(making, freed)).await {
                Ok(Some(Ok(share))) => return Ok(share),
                Ok(Some(Err(error))) => failed = Some(error),
                Ok(None) => {}
                // What is waited for may be something else by now.
                Err(_) => match due() {
                    (end, kind) if end <= Instant::now() => return Err(Error::new(kind)),
                    _ => {}
                },
            }
        }
    }

    /// A share in a connection that this makes, or in one that is there when its turn has come.
    ///
    /// One that is retired is still shared while there is no room for another: it may be slow, and no more than that.
    async fn make<F>(
        self: &Arc<Self>,
        sockets: &Sockets,
        limits: &Limits,
        make_room: impl Fn(),
        connect: impl Fn(SocketPermit, Arc<Streams>, Option<Limits>) -> F,
    ) -> Result<(Http2, bool), Error>
    where
        F: Future<Output = Result<(Shared, Http2), Error>> + Send + 'static,
    {
        let came = self.tries.now();
        loop {
            let turn = Arc::clone(&self.making).lock_owned().await;
            let mut room = pin!(async {
                if !sockets.has_room() {
                    make_room();
                }
                sockets.permit().await
            });
            let permit = loop {
                let freed = self.streams.freed.notified();
                if let Some(share) = self.share_in_turn().or_else(|| self.share_retired(sockets)) {
                    return Ok((share, true));
                }
                if let Some((number, kind)) = *turn
                    && number >= came
                {
                    return Err(Error::new(kind));
                }
                if let Some(permit) = unless(Some(room.as_mut()), freed).await {
                    break permit.map_err(|closed| Error::because(ErrorKind::Setup, closed))?;
                }
            };
            let mut this = Try::begin(self, turn);
            let streams = Arc::clone(&self.streams);
            if self.is_live() {
                tokio::spawn(this.further(connect(permit, streams, None)));
                continue;
            }
            let error = match connect(permit, streams, Some(*limits)).await {
                Ok((shared, share)) => {
                    this.made(shared);
                    return Ok((share, false));
                }
                Err(error) => error,
            };
            // Where it was this attempt's own time that ended it, others may have more.
            if Instant::now() < limits.attempt_end && error.kind().failure() == Failure::NotSent {
                this.failed(error.kind());
            }
            return Err(error);
        }
    }

    fn share_retired(&self, sockets: &Sockets) -> Option<Http2> {
        if sockets.has_room() {
            return None;
        }
        self.connections().iter().find_map(Shared::share_retired)
    }
}

/// A place in the queue for streams. Whoever leaves it wakes the next one there, if there is a stream for it: of two that come free,
/// one may wake nobody. Woken in vain, that one would stand behind all others.
#[derive(Debug)]
struct Queued<'a>(&'a Place);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        // First: who has seen it in the queue is told that it leaves.
        self.0.streams.unqueued();
        if self.0.has_room() {
            self.0.streams.freed.notify_one();
        }
    }
}

/// What `awaited` comes to, unless the other one is ready before it.
async fn unless<F: Future>(
    mut awaited: Option<Pin<&mut F>>,
    other: impl Future<Output = ()>,
) -> Option<F::Output> {
    let mut other = pin!(other);
    poll_fn(|cx| {
        if let Some(awaited) = &mut awaited
            && let Poll::Ready(output) = awaited.as_mut().poll(cx)
        {
            return Poll::Ready(Some(output));
        }
        other.as_mut().poll(cx).map(|()| None)
    })
    .await
}
