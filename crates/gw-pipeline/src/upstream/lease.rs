//! What one exchange holds, from its request to the end of its answer.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use gw_core::Code;
use gw_core::awaited::Awaited;
use gw_core::record::Record;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::error::ErrorKind;
use super::limits::later;
use super::pool::Connection;
use super::slots::Slot;
use super::upload::{Ended, Upload};
use crate::pipeline::slot::{self, Slot as _};

/// A connection, the request that may still be on its way, and the slot.
///
/// Dropping it ends the exchange where it stands: an HTTP/1 connection is closed, an HTTP/2 stream reset.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) connection: Connection,
    pub(super) upload: Upload,
    /// Whether the connection may serve another exchange.
    pub(super) reusable: bool,
    // Last, so that the next exchange finds the connection.
    pub(super) slot: Slot,
}

/// How long a request may still be on its way after its answer has ended.
///
/// An upstream may answer before it has read all. What is left is of no use to most, and a client that sends it slowly
/// must not hold a slot for long, nor any while none is free: all that it is for is to save a connection.
const UPLOAD_GRACE: Duration = Duration::from_secs(5);

impl Lease {
    /// The answer has ended as it should.
    ///
    /// A request that is still on its way keeps all of this until it has been sent, for the grace or until the
    /// exchange's `deadline`, and only while other slots are free; then it is cut, and an HTTP/1 connection closed.
    ///
    /// The connection has been idle since `heard`, when the end of the answer came.
    pub(super) fn finish(self, deadline: Option<Instant>, heard: Instant) {
        match self.upload.ended() {
            Some(Ended::Sent) => self.release(heard),
            None if self.reusable => {
                let end = end_of_upload(Instant::now(), deadline);
                // Without a runtime there is no connection to keep.
                if let Ok(runtime) = Handle::try_current() {
                    runtime.spawn(self.linger(end));
                }
            }
            None | Some(Ended::Failed) => {}
        }
    }

    async fn linger(self, end: Instant) {
        let ended = {
            let mut full = pin!(self.slot.pool.slots.full());
            let ended = poll_fn(|cx| match self.upload.poll_ended(cx) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending => full.as_mut().poll(cx).map(|()| None),
            });
            timeout_at(end, ended).await
        };
        if ended == Ok(Some(Ended::Sent)) {
            self.release(Instant::now());
        }
    }

    /// Request and answer have ended: the connection may serve another exchange.
    fn release(self, now: Instant) {
        let Self {
            connection,
            reusable,
            mut slot,
            ..
        } = self;
        if let Connection::Http1(http1) = connection
            && reusable
        {
            slot.left = slot.pool.give_back(http1, now);
        }
        drop(slot);
    }
}

/// Until when an upload may go on after its answer, which ended `now`.
fn end_of_upload(now: Instant, deadline: Option<Instant>) -> Instant {
    let grace = later(now, UPLOAD_GRACE);
    deadline.map_or(grace, |deadline| deadline.min(grace))
}

/// Measures how long the upstream was waited for, and writes it into the request's record when it is dropped. Until the head of
/// the answer it also tells who wants to know.
///
/// The time in which the client does not read the answer does not count.
#[derive(Debug)]
pub(super) struct Stopwatch {
    record: Option<Record>,
    awaited: Option<Awaited>,
    /// Since when the record knows of it.
    began: Option<Instant>,
    /// None until the upstream was waited for at all.
    waited: Option<Duration>,
    since: Option<Instant>,
    /// When something came that was waited for.
    heard: Option<Instant>,
}

impl Stopwatch {
    pub(super) const fn new(record: Option<Record>, awaited: Option<Awaited>) -> Self {
        Self {
            record,
            awaited,
            began: None,
            waited: None,
            since: None,
            heard: None,
        }
    }

    /// The upstream is waited for. Returns since when.
    pub(super) fn start(&mut self) -> Instant {
        *self.since.get_or_insert_with(Instant::now)
    }

    /// Whoever wants to know is told that it is not the upstream that is waited for, until it [is](Self::start_at).
    pub(super) fn pause(&self) {
        if let Some(awaited) = &self.awaited {
            awaited.pauses();
        }
    }

    /// The upstream is waited for from `now` on, if it was not before. Who wants to know is told of the last wait, which is for a
    /// connection or for the answer.
    pub(super) fn start_at(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        if let Some(awaited) = &self.awaited {
            awaited.starts(now);
        }
        // The observer may read the record before this is dropped, if that happens on another thread.
        if let (Some(record), None) = (&self.record, self.began) {
            record.update(|exchange| exchange.upstream_wait_begins(now));
            self.began = Some(now);
        }
    }

    /// Whether the upstream is waited for.
    pub(super) const fn is_running(&self) -> bool {
        self.since.is_some()
    }

    /// Writes into the record why the gateway cuts the answer: it is not the upstream that breaks it off.
    pub(super) fn cut(&self, code: &'static Code, kind: ErrorKind) {
        if let Some(record) = &self.record {
            record.update(|exchange| {
                exchange.refused_by = Some(slot::Forward::NAME);
                exchange.code = Some(code);
                exchange.cause = Some(kind.as_str());
            });
        }
    }

    /// For how long the upstream was waited for until `now`.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        let current = self.since.map(|since| now.saturating_duration_since(since));
        self.waited.unwrap_or_default() + current.unwrap_or_default()
    }

    /// Something came.
    pub(super) fn stop(&mut self) {
        if let Some(since) = self.since.take() {
            let now = Instant::now();
            let waited = now.saturating_duration_since(since);
            self.waited = Some(self.waited.unwrap_or_default() + waited);
            self.heard = Some(now);
        }
    }

    /// When the upstream was heard of last, as far as it was waited for: no look at the clock is worth more.
    pub(super) fn heard(&self) -> Instant {
        self.heard.unwrap_or_else(Instant::now)
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.stop();
        if let (Some(record), Some(began)) = (&self.record, self.began) {
            let waited = self.waited.unwrap_or_default();
            let heard = self.heard();
            record.update(|exchange| exchange.upstream_wait_ends(began, waited, heard));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_upload_goes_on_for_the_grace_and_not_past_the_deadline() {
        let now = Instant::now();
        let (soon, late) = (now + UPLOAD_GRACE / 2, now + UPLOAD_GRACE * 2);
        assert_eq!(end_of_upload(now, Some(soon)), soon);
        assert_eq!(end_of_upload(now, Some(late)), now + UPLOAD_GRACE);
        assert_eq!(end_of_upload(now, None), now + UPLOAD_GRACE);
    }

    /// A lane with threads of its own drops the exchange later than the client's leaving is observed.
    #[tokio::test(start_paused = true)]
    async fn a_wait_is_known_while_it_lasts() {
        let record = Record::default();
        let mut watch = Stopwatch::new(Some(record.clone()), None);
        assert_eq!(record.exchange().upstream_since, None);
        let began = Instant::now();
        watch.start_at(began);
        tokio::time::advance(Duration::from_secs(1)).await;
        let seen = record.exchange();
        assert_eq!(
            (seen.upstream_since, seen.upstream_time),
            (Some(began), None)
        );
        drop(watch);
        let seen = record.exchange();
        let second = Some(Duration::from_secs(1));
        assert_eq!((seen.upstream_since, seen.upstream_time), (None, second));
    }

    /// The copy that lost took the other one's wait for ended, and both for waits of their own.
    #[tokio::test(start_paused = true)]
    async fn hedges_wait_together() {
        let record = Record::default();
        let watch = || {
            let mut watch = Stopwatch::new(Some(record.clone()), None);
            watch.start_at(Instant::now());
            watch
        };
        let second = Duration::from_secs(1);
        let began = Instant::now();
        let first = watch();
        tokio::time::advance(second).await;
        let mut hedge = watch();
        assert_eq!(record.exchange().upstream_since, Some(began));
        tokio::time::advance(second).await;
        hedge.stop();
        drop(first);
        let seen = record.exchange();
        assert_eq!(seen.upstream_time, Some(2 * second));
        assert_eq!(seen.upstream_since, Some(Instant::now()));
        tokio::time::advance(60 * second).await;
        hedge.start();
        tokio::time::advance(second).await;
        drop(hedge);
        let seen = record.exchange();
        assert_eq!(seen.upstream_time, Some(3 * second));
        assert_eq!(seen.upstream_since, None);
    }

    #[tokio::test(start_paused = true)]
    async fn only_waiting_counts_and_attempts_add_up() {
        let record = Record::default();
        drop(Stopwatch::new(Some(record.clone()), None));
        assert_eq!(record.exchange().upstream_time, None);
        for _ in 0..2 {
            let mut watch = Stopwatch::new(Some(record.clone()), None);
            watch.start_at(Instant::now());
            tokio::time::advance(Duration::from_secs(1)).await;
            watch.start();
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(watch.waited(Instant::now()), Duration::from_secs(2));
            watch.stop();
            tokio::time::advance(Duration::from_secs(60)).await;
            assert_eq!(watch.waited(Instant::now()), Duration::from_secs(2));
        }
        let waited = record.exchange().upstream_time;
        assert_eq!(waited, Some(Duration::from_secs(4)));
    }
}
