//! Looking up the names of endpoints: those who wait for the same name wait for the same lookup.

use std::error::Error;
use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use std::vec;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::runtime::{self, Handle};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tower_service::Service;

/// What a lookup comes to, for all who wait for it.
type Answer = Result<Vec<SocketAddr>, LookupError>;

/// The resolver of one upstream. Clones have their lookups in common.
///
/// The system is asked on threads that all upstreams share, and goes on with a question when nobody wants to know any more. With one
/// for each connection that is made, a name that is answered slowly would take all of these threads, and other upstreams would seem
/// to be unreachable.
#[derive(Debug, Clone)]
pub(super) struct Resolver<L> {
    lookup: L,
    under_way: Arc<Mutex<Vec<Lookup>>>,
}

/// A lookup that has begun. It is over when its sender is gone.
#[derive(Debug)]
struct Lookup {
    name: Name,
    /// Which drives it: a lane with threads of its own must not wait for another lane's.
    runtime: runtime::Id,
    began: Instant,
    answer: Awaited,
}

/// Changes once.
type Awaited = watch::Receiver<Option<Answer>>;

/// Why a name is not known.
#[derive(Debug, Clone)]
pub(super) struct LookupError(Arc<io::Error>);

/// A lookup that takes longer has lost a packet, and its system waits for seconds before it asks again: another one may be faster.
const SLOW: Duration = Duration::from_secs(1);

/// So many lookups of one name are under way at most, on each runtime.
const MOST: usize = 4;

impl Lookup {
    fn is_under_way(&self) -> bool {
        self.answer.has_changed().is_ok()
    }
}

impl<L> Resolver<L> {
    pub(super) fn new(lookup: L) -> Self {
        Self {
            lookup,
            under_way: Arc::default(),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<Lookup>> {
        // Nothing under the lock can panic half-way, so a poisoned state is a sound one.
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L> Resolver<L>
where
    L: Service<Name, Response: Iterator<Item = SocketAddr> + Send, Error = io::Error>,
    L: Clone + Send + 'static,
    L::Future: Send,
{
    /// The lookup to wait for, and whether it began just now.
    fn join(&self, name: &Name) -> (Awaited, bool) {
        let now = Instant::now();
        let runtime = Handle::current().id();
        let mut under_way = self.under_way();
        under_way.retain(Lookup::is_under_way);
        let is_same = |it: &&Lookup| it.name == *name && it.runtime == runtime;
        let same = || under_way.iter().filter(is_same);
        if let Some(last) = same().next_back()
            && (now.saturating_duration_since(last.began) < SLOW || same().count() >= MOST)
        {
            return (last.answer.clone(), false);
        }
        let (sender, answer) = watch::channel(None);
        under_way.push(Lookup {
            name: name.clone(),
            runtime,
            began: now,
            answer: answer.clone(),
        });
        let looking = look_up(self.lookup.clone(), name.clone());
        // A task of its own: who began it may leave while others wait.
        tokio::spawn(async move { _ = sender.send(Some(looking.await)) });
        (answer, true)
    }

    async fn resolve(self, name: Name) -> Result<vec::IntoIter<SocketAddr>, LookupError> {
        let mut joined: Vec<(Awaited, bool)> = Vec::new();
        loop {
            let (answer, own) = self.join(&name);
            if !joined.iter().any(|(it, _)| it.same_channel(&answer)) {
                joined.push((answer, own));
            }
            // When one has turned out to be slow there may be another one, which those who wait already are to gain by as well.
            match timeout(SLOW, first(&joined)).await {
                Ok((_, Some(answer))) => return answer.map(Vec::into_iter),
                Ok((_, None)) if joined.iter().any(|(_, own)| *own) => {
                    return Err(io::Error::other("the lookup broke off").into());
                }
                // Another one's has: it is asked again.
                Ok((index, None)) => drop(joined.remove(index)),
                Err(_) => {}
            }
        }
    }
}

/// Which of them ends first, and with which answer; without one if the lookup has panicked.
async fn first(joined: &[(Awaited, bool)]) -> (usize, Option<Answer>) {
    let answers = joined.iter().map(|(answer, _)| {
        let mut answer = answer.clone();
        Box::pin(async move {
            let answered = answer.wait_for(Option::is_some).await;
            answered.ok().and_then(|answer| answer.clone())
        })
    });
    let mut answers: Vec<_> = answers.collect();
    poll_fn(|cx| {
        let polled = answers.iter_mut().map(|answer| answer.as_mut().poll(cx));
        let ended = polled.enumerate().find_map(|(index, polled)| match polled {
            Poll::Ready(answer) => Some((index, answer)),
            Poll::Pending => None,
        });
        ended.map_or(Poll::Pending, Poll::Ready)
    })
    .await
}

async fn look_up<L>(mut lookup: L, name: Name) -> Answer
where
    L: Service<Name, Response: Iterator<Item = SocketAddr>, Error = io::Error>,
{
    poll_fn(|cx| lookup.poll_ready(cx)).await?;
    Ok(lookup.call(name).await?.collect())
}

impl<L> Service<Name> for Resolver<L>
where
    L: Service<Name, Response: Iterator<Item = SocketAddr> + Send, Error = io::Error>,
    L: Clone + Send + 'static,
    L::Future: Send,
{
    type Response = vec::IntoIter<SocketAddr>;
    type Error = LookupError;
    // Boxed: it is there once for each connection that is made.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    /// # Cancel safety
    ///
    /// Dropping the future ends the wait. The lookup goes on, and who comes meanwhile waits for it.
    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(self.clone().resolve(name))
    }
}

impl From<io::Error> for LookupError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for LookupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name is not known")
    }
}

impl Error for LookupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

#[cfg(test)]
mod tests;
