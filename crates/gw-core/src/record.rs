//! The record of one request, shared by the stages that fill it and the observer that reads it.
//!
//! A request that is dropped has no response, so what stages put into response extensions would never reach the log.
//! The observer therefore puts a [`Record`] into the *request*, keeps a clone, and reads it when the exchange ends in
//! whatever way. Without an observer there is no record, and filling it costs one look-up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Extensions;
use tokio::time::Instant;

use crate::context::{ClientAddr, Identity, Lane, RequestId, RouteMatch, UpstreamName};
use crate::rejection::Code;

/// A handle to what is known of one exchange. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Record(Arc<Mutex<Exchange>>);

/// What is known of a request and its answer when they end. Fields that no stage filled are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exchange {
    /// When the observer saw the request's head.
    pub began: Option<Instant>,
    /// The request's id.
    pub request_id: Option<RequestId>,
    /// Who called.
    pub client: Option<ClientAddr>,
    /// What the request matched.
    pub route: Option<RouteMatch>,
    /// The lane it ran in.
    pub lane: Option<Lane>,
    /// Who the caller is.
    pub identity: Option<Identity>,
    /// Who served it.
    pub upstream: Option<UpstreamName>,
    /// How often the upstream was tried; 0 if it was not.
    pub attempts: u32,
    /// Which of the upstream's endpoints had the last try, by its number from 0: another try is better sent to another one.
    pub endpoint: Option<usize>,
    /// The time spent waiting for the upstream: for a connection to be made, and from the first byte sent to the last one
    /// received, but for what the client took to send and to read. What several attempts wait at the same time counts once.
    ///
    /// The wait for a place in the pool, or for a stream of connections that are full, is the gateway's. So is that for room to make
    /// a connection, except over HTTP/2 while there is no other.
    pub upstream_time: Option<Duration>,
    /// Since when attempts have been under way whose wait is not in `upstream_time` yet.
    ///
    /// Where a request runs on a thread of its own, it may outlive its observer by a moment: when the client leaves, this is
    /// all that is known of the wait.
    pub upstream_since: Option<Instant>,
    /// How many attempts that is.
    upstream_waits: u32,
    /// How long of the time since then the client was waited for, as far as it is in `upload_wait`.
    upload_meanwhile: Duration,
    /// The least that any rate-limit policy left to the caller.
    pub rate_limit_remaining: Option<u64>,
    /// How many bytes of the request's body have been read.
    pub request_size: u64,
    /// The time spent waiting for the request's body.
    pub upload_wait: Duration,
    /// Since when the request's body is waited for, if it is, which is not in `upload_wait` yet.
    ///
    /// The body may outlive its observer, with the task of the connection to the upstream: this is all that is known of the
    /// wait then.
    pub upload_since: Option<Instant>,
    /// Why the gateway refused or failed the request, or cut its answer, if it did.
    pub code: Option<&'static Code>,
    /// The stage that did so, by the name of its slot in lower snake case, such as `pre_auth_limit`.
    pub refused_by: Option<&'static str>,
    /// Which timer it was, or what else it was about the upstream, in one word such as `first_byte_timeout`, if that is why. For
    /// logs: a client is told the code alone.
    pub cause: Option<&'static str>,
}

impl Record {
    /// The record of a request whose head came at `now`.
    pub fn begun(now: Instant) -> Self {
        Self(Arc::new(Mutex::new(Exchange {
            began: Some(now),
            ..Exchange::default()
        })))
    }

    /// The record in a request's extensions, if an observer put one there.
    #[inline]
    pub fn of(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Fills in what a stage found out. `update` runs under a lock, and must be short.
    pub fn update(&self, update: impl FnOnce(&mut Exchange)) {
        // A panic while filling a field leaves the others whole, so a poisoned lock is still good.
        update(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Notes that the stage in `slot` refused or failed the request, or cut its answer, and why.
    pub fn refused(&self, slot: &'static str, code: &'static Code) {
        self.update(|exchange| {
            exchange.refused_by = Some(slot);
            exchange.code = Some(code);
        });
    }

    /// What is known so far.
    pub fn exchange(&self) -> Exchange {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Exchange {
    /// An attempt waits for the upstream from `now` on.
    pub fn upstream_wait_begins(&mut self, now: Instant) {
        self.upstream_waits += 1;
        self.upstream_since.get_or_insert(now);
    }

    /// An attempt waits no more at `now`, that began to at `began` and has `waited` so long since.
    ///
    /// Of attempts that overlap, as hedges do, it is taken that they waited without a pause until the first of them ended.
    pub fn upstream_wait_ends(&mut self, began: Instant, waited: Duration, now: Instant) {
        self.note_upload_meanwhile(now);
        self.upstream_waits = self.upstream_waits.saturating_sub(1);
        let since = self.upstream_since.take().unwrap_or(began);
        let further = if self.upstream_waits > 0 {
            self.upstream_since = Some(now);
            now.saturating_duration_since(since)
        } else {
            waited.saturating_sub(since.saturating_duration_since(began))
        };
        self.add_upstream_time(further);
    }

    /// The request's body is waited for from `now` on.
    pub fn upload_wait_begins(&mut self, now: Instant) {
        self.upload_since.get_or_insert(now);
    }

    /// The request's body is waited for no more at `now`. While it was, it was not the upstream that was waited for.
    pub fn upload_wait_ends(&mut self, now: Instant) {
        self.note_upload_meanwhile(now);
        if let Some(since) = self.upload_since.take() {
            self.upload_wait += now.saturating_duration_since(since);
        }
    }

    /// All waits end `now`, whoever has not told yet that they do: the exchange is over.
    pub fn waits_end(&mut self, now: Instant) {
        self.upload_wait_ends(now);
        if let Some(since) = self.upstream_since.take() {
            self.upstream_waits = 0;
            self.add_upstream_time(now.saturating_duration_since(since));
        }
    }

    fn add_upstream_time(&mut self, waited: Duration) {
        let by_client = std::mem::take(&mut self.upload_meanwhile);
        *self.upstream_time.get_or_insert_default() += waited.saturating_sub(by_client);
    }

    fn note_upload_meanwhile(&mut self, now: Instant) {
        if let (Some(upstream), Some(upload)) = (self.upstream_since, self.upload_since) {
            self.upload_meanwhile += now.saturating_duration_since(upstream.max(upload));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// They were added up, so that a request could wait longer for its upstream than it took; and with the one that lost, the
    /// other was taken to have ended.
    #[test]
    fn attempts_that_wait_at_the_same_time_are_counted_once() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        let mut exchange = Exchange::default();
        exchange.upstream_wait_begins(at(0));
        exchange.upstream_wait_begins(at(2));
        // The second has its head, and the first one is dropped.
        exchange.upstream_wait_ends(at(0), 5 * SECOND, at(5));
        assert_eq!(exchange.upstream_time, Some(5 * SECOND));
        assert_eq!(exchange.upstream_since, Some(at(5)));
        // Its body was waited for for one second more; the rest was the client's.
        exchange.upstream_wait_ends(at(2), 4 * SECOND, at(30));
        assert_eq!(exchange.upstream_time, Some(6 * SECOND));
        assert_eq!(exchange.upstream_since, None);
        // A retry, later.
        exchange.upstream_wait_begins(at(40));
        assert_eq!(exchange.upstream_since, Some(at(40)));
        exchange.upstream_wait_ends(at(40), SECOND, at(41));
        assert_eq!(exchange.upstream_time, Some(7 * SECOND));
    }

    #[test]
    fn the_one_that_began_first_may_be_the_last() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        let mut exchange = Exchange::default();
        exchange.upstream_wait_begins(at(0));
        exchange.upstream_wait_begins(at(2));
        exchange.upstream_wait_ends(at(2), SECOND, at(3));
        exchange.upstream_wait_ends(at(0), 9 * SECOND, at(9));
        assert_eq!(exchange.upstream_time, Some(9 * SECOND));
        assert_eq!(exchange.upstream_since, None);
    }

    /// Story: the upstream was charged with what the client took to send its request, and the gateway's own time went to it with
    /// that: a second in the queue, two for the upload, and one for the answer were two of the client's, and two of the upstream's.
    #[test]
    fn a_wait_for_the_client_is_none_for_the_upstream() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        // The upload, and how long of the attempt from 1 to 4 it leaves to the upstream.
        for (upload, upstream) in [
            (1..3, 1),
            (0..2, 2),
            (2..9, 1),
            (0..9, 0),
            (0..1, 3),
            (4..5, 3),
        ] {
            let mut exchange = Exchange::default();
            for second in 0..10 {
                if second == upload.start {
                    exchange.upload_wait_begins(at(second));
                }
                if second == upload.end {
                    exchange.upload_wait_ends(at(second));
                }
                match second {
                    1 => exchange.upstream_wait_begins(at(1)),
                    4 => exchange.upstream_wait_ends(at(1), 3 * SECOND, at(4)),
                    _ => {}
                }
            }
            assert_eq!(
                exchange.upstream_time,
                Some(upstream * SECOND),
                "{upload:?}"
            );
            assert_eq!(exchange.upload_wait, (upload.end - upload.start) * SECOND);
        }
    }

    /// Each wait for the client is left out of the wait of the attempts in which it was, once.
    #[test]
    fn attempts_wait_together_for_the_client_too() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        let mut exchange = Exchange::default();
        exchange.upstream_wait_begins(at(0));
        exchange.upstream_wait_begins(at(2));
        exchange.upload_wait_begins(at(3));
        exchange.upstream_wait_ends(at(0), 5 * SECOND, at(5));
        assert_eq!(exchange.upstream_time, Some(3 * SECOND));
        exchange.upload_wait_ends(at(6));
        exchange.upstream_wait_ends(at(2), 6 * SECOND, at(8));
        assert_eq!(exchange.upstream_time, Some(5 * SECOND));
        assert_eq!(exchange.upload_wait, 3 * SECOND);
    }

    /// The observer may be gone before those that wait: nobody tells any more that they do not.
    #[test]
    fn waits_end_with_the_exchange() {
        let start = Instant::now();
        let at = |seconds| start + seconds * SECOND;
        let mut exchange = Exchange::default();
        exchange.waits_end(at(0));
        assert_eq!(exchange, Exchange::default());
        exchange.upstream_wait_begins(at(1));
        exchange.upstream_wait_begins(at(2));
        exchange.upload_wait_begins(at(4));
        exchange.waits_end(at(9));
        assert_eq!(exchange.upstream_time, Some(3 * SECOND));
        assert_eq!(exchange.upload_wait, 5 * SECOND);
        assert_eq!(
            (exchange.upstream_since, exchange.upload_since),
            (None, None)
        );
    }

    #[test]
    fn clones_share_what_is_known() {
        let mut extensions = Extensions::new();
        assert!(Record::of(&extensions).is_none());
        let kept = Record::default();
        extensions.insert(kept.clone());
        Record::of(&extensions)
            .unwrap()
            .update(|exchange| exchange.attempts += 1);
        drop(extensions);
        assert_eq!(kept.exchange().attempts, 1);
    }

    #[test]
    fn a_refusal_has_a_stage_and_a_code() {
        const FULL: Code = Code::new(
            "OVERLOADED",
            http::StatusCode::SERVICE_UNAVAILABLE,
            "A test.",
            crate::GrpcStatus::Unavailable,
        );
        let record = Record::default();
        record.refused("admit", &FULL);
        let exchange = record.exchange();
        assert_eq!(exchange.refused_by, Some("admit"));
        assert_eq!(exchange.code, Some(&FULL));
    }
}
