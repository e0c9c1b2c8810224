//! HTTP/2 connections: one per runtime and endpoint, shared by all exchanges there.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::client::conn::http2::SendRequest;
use tokio::time::Instant;

use super::http1::Origin;
use super::socket::{Heard, Sockets};
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
    current: tokio::sync::Mutex<Option<Shared>>,
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
            current: tokio::sync::Mutex::new(None),
        });
        places.push(Arc::clone(&place));
        place
    }
}

impl Place {
    fn is_alive(&self) -> bool {
        let current = self.current.try_lock();
        current.is_ok_and(|current| current.as_ref().is_some_and(|it| !it.sender.is_closed()))
    }

    fn is_idle(&self) -> bool {
        // While it is made it is in use.
        let current = self.current.try_lock();
        let idle = |it: &Shared| !it.sender.is_closed() && it.usage.idle_since().is_some();
        current.is_ok_and(|current| current.as_ref().is_some_and(idle))
    }

    /// A share in the connection that is there, if nobody is making one.
    pub(super) fn try_share(&self) -> Option<Http2> {
        let current = self.current.try_lock().ok()?;
        current.as_ref()?.try_share()
    }

    /// A share in the connection that is there, else in the one that `connect` makes.
    ///
    /// One that is retired is still shared while there is no room for another: it may be slow, and no more than that.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops what `connect` has begun, and the next in line begins anew.
    pub(super) async fn share<F, E>(
        &self,
        sockets: &Sockets,
        connect: impl FnOnce() -> F,
    ) -> Result<(Http2, bool), E>
    where
        F: Future<Output = Result<Shared, E>>,
    {
        let mut current = self.current.lock().await;
        if let Some(shared) = &*current {
            let full = || !sockets.has_room();
            if let Some(share) = shared.try_share().or_else(|| shared.share_retired(full)) {
                return Ok((share, true));
            }
        }
        let shared = connect().await?;
        let share = shared.share();
        *current = Some(shared);
        Ok((share, false))
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
