//! Since when an attempt waits for its upstream.

use gw_core::awaited::Awaited;
use http::Extensions;
use tokio::time::Instant;

use crate::admission::Ticket;
use crate::config::LatencyFrom;

/// Since when the upstream is waited for; of a stream since when it has been going on.
#[derive(Debug)]
pub(crate) enum Clock {
    /// Latency does not matter, or is known; nor is it known how long the stream has been going on.
    Stopped,
    Since(Instant),
    /// Who sends the request says whom it waits for, also behind the head: an answer may begin before the request was sent. Boxed,
    /// since an attempt is moved several times a request.
    Told(Box<Told>),
}

#[derive(Debug)]
pub(crate) struct Told {
    awaited: Awaited,
    since: Option<Instant>,
}

impl Clock {
    /// It is asked only where latency matters, or a deadline that the client may use up.
    #[inline]
    pub(crate) fn start(
        latency_from: LatencyFrom,
        ticket: &mut Ticket,
        extensions: &mut Extensions,
    ) -> Self {
        let now = Instant::now();
        match latency_from {
            LatencyFrom::Call => Self::Since(now),
            LatencyFrom::Sent => Self::ask(now, ticket, extensions),
        }
    }

    #[inline(never)]
    fn ask(now: Instant, ticket: &mut Ticket, extensions: &mut Extensions) -> Self {
        // A breaker further out has asked already. One answer is for both: who sends the request finds one `Awaited`, and writes into
        // that.
        let awaited = match extensions.get::<Awaited>() {
            Some(asked) => {
                asked.starts(now);
                asked.clone()
            }
            None => {
                let awaited = Awaited::new(now);
                extensions.insert(awaited.clone());
                awaited
            }
        };
        ticket.follow(&awaited);
        let since = Some(now);
        Self::Told(Box::new(Told { awaited, since }))
    }

    /// Runs since then, or not any more.
    pub(crate) fn set(&mut self, since: Option<Instant>) {
        match (self, since) {
            (Self::Told(told), since) => told.since = since,
            (clock, Some(since)) => *clock = Self::Since(since),
            (clock, None) => *clock = Self::Stopped,
        }
    }

    /// Since when it runs, whoever is waited for.
    pub(crate) fn runs_since(&self) -> Option<Instant> {
        match self {
            Self::Stopped => None,
            Self::Since(since) => Some(*since),
            Self::Told(told) => told.since,
        }
    }

    /// Since when the upstream is waited for, if it runs and who sends the request does not say otherwise.
    pub(crate) fn since(&self) -> Option<Instant> {
        let since = self.runs_since()?;
        match self {
            Self::Told(told) => told.awaited.since().map(|told| told.max(since)),
            Self::Stopped | Self::Since(_) => Some(since),
        }
    }

    /// Whether somebody says that it is not the upstream that is waited for.
    pub(crate) fn is_paused(&self) -> bool {
        matches!(self, Self::Told(told) if told.awaited.since().is_none())
    }
}
