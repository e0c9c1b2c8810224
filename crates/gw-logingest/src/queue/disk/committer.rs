//! The thread that writes: it makes all waiting batches durable with one write and one sync, and tidies up between.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use gw_core::telling::contained;
use tokio::time::Instant;

use super::engine::{FAILING, Pending, Shared, State};
use super::log::{Gone, Log, Record};
use super::record::{Place, room};
use crate::fs::Fs;
use crate::queue::index::Key;
use crate::queue::{Durability, telemetry};

/// The most that shares one commit. What comes first is taken whatever its size.
const GROUP_BYTES: u64 = 4 << 20;
const GROUP_BATCHES: usize = 1024;
/// The most that is copied forward at once, so that waiting batches do not wait for it long.
const MOVE_BYTES: u64 = 1 << 20;
/// How often storing is tried while it fails.
const RETRY: Duration = Duration::from_secs(1);
/// How often there is a look around whatever happens: measures are published, what is done is made durable.
const IDLE: Duration = Duration::from_secs(5);
/// What was delivered is taken off the log together, so long after the first or when it is so much.
const LINGER: Duration = Duration::from_millis(20);
pub(super) const ENOUGH_GONE: usize = 1024;
/// A segment with less than this many hundredths of use is emptied by copying if nothing was delivered from it for so
/// long; sooner if space is short, and then with more left in it.
const STRAGGLER: (u64, Duration) = (20, Duration::from_secs(30));
const STRAGGLER_WHEN_SHORT: (u64, Duration) = (50, Duration::from_secs(1));

#[derive(Debug)]
pub(super) struct Committer<F: Fs> {
    log: Log<F>,
    shared: Arc<Shared<F>>,
    max_delay: Duration,
    /// What is to be copied forward.
    moving: VecDeque<(Key, Place)>,
    /// When to look around next.
    look_at: Instant,
    /// When to try again to store; set while it fails.
    retry_at: Option<Instant>,
}

/// What there is to do.
#[derive(Debug, Default)]
pub(super) struct Work {
    gone: Vec<(u64, Place, Gone)>,
    group: Vec<Pending>,
}

/// Tells everybody that the committer has ended, however it ended.
struct Stopped<F: Fs>(Arc<Shared<F>>);

impl<F: Fs> Committer<F> {
    pub(super) fn new(log: Log<F>, shared: Arc<Shared<F>>, max_delay: Duration) -> Self {
        Self {
            log,
            shared,
            max_delay,
            moving: VecDeque::new(),
            look_at: Instant::now() + IDLE,
            retry_at: None,
        }
    }

    pub(super) fn run(self) {
        // Dropped last, when the log has given the directory free.
        let _stopped = Stopped(Arc::clone(&self.shared));
        let mut committer = self;
        committer.start();
        while let Some(work) = committer.wait() {
            committer.turn(work);
        }
        committer.log.finish();
    }

    /// A segment is made before the first batch comes; if that fails, the queue begins by refusing.
    pub(super) fn start(&mut self) {
        self.probe();
        // What was found can be seen at once, not only after the first look around.
        self.publish(true);
    }

    /// The end of orderly use.
    #[cfg(test)]
    pub(super) fn finish(&mut self) {
        self.log.finish();
    }

    /// Waits until there is something to do; none when all is done for good.
    fn wait(&self) -> Option<Work> {
        let mut state = self.shared.state();
        let idle_until = Instant::now() + IDLE;
        let mut until = self.retry_at.map_or(idle_until, |at| at.min(idle_until));
        while state.pending.is_empty() && self.moving.is_empty() {
            if state.stop {
                if state.gone.is_empty() {
                    return None;
                }
                break;
            }
            if !state.gone.is_empty() {
                until = until.min(Instant::now() + LINGER);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.gone.len() >= ENOUGH_GONE {
                break;
            }
            state = self.sleep(state, left);
        }
        if !self.max_delay.is_zero() && !state.pending.is_empty() {
            state = self.delay(state);
        }
        Some(self.take(&mut state))
    }

    /// What there is to do now.
    pub(super) fn take(&self, state: &mut State<F>) -> Work {
        Work {
            group: self.take_group(&mut state.pending),
            gone: std::mem::take(&mut state.gone),
        }
    }

    fn sleep<'a>(
        &self,
        state: MutexGuard<'a, State<F>>,
        time: Duration,
    ) -> MutexGuard<'a, State<F>> {
        let woken = self.shared.work.wait_timeout(state, time);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Waits a little for more batches to share the commit.
    fn delay<'a>(&self, mut state: MutexGuard<'a, State<F>>) -> MutexGuard<'a, State<F>> {
        let until = Instant::now() + self.max_delay;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || state.stop || state.pending.len() >= GROUP_BATCHES {
                return state;
            }
            state = self.sleep(state, left);
        }
    }

    /// From the front, as much as fits in one commit and in the segment; if not even the first fits there, as much as
    /// fits in a new one.
    fn take_group(&self, pending: &mut VecDeque<Pending>) -> Vec<Pending> {
        let Some(first) = pending.front() else {
            return Vec::new();
        };
        let first = room(first.batch.encoded().len());
        let space = match self.log.room() {
            left if left < first => self.log.whole_room(),
            left => left,
        };
        let most = space.min(GROUP_BYTES.max(first));
        let mut bytes = 0;
        let fits = |next: &&Pending| {
            bytes += room(next.batch.encoded().len());
            bytes <= most
        };
        let count = pending.iter().take(GROUP_BATCHES).take_while(fits).count();
        pending.drain(..count).collect()
    }

    pub(super) fn turn(&mut self, work: Work) {
        let now = Instant::now();
        let Work { gone, group } = work;
        let unreadable = gone.iter().filter(|(_, _, how)| *how != Gone::Delivered);
        for (ticket, place, _) in unreadable {
            self.log.metrics.unreadable(place.segment, *ticket);
        }
        self.log.forget(&gone, now);
        if !group.is_empty() {
            self.commit(group);
        } else if self.retry_at.is_some_and(|at| at <= now) {
            self.probe();
        }
        self.move_some();
        // Not only when something left: a segment of which all is delivered may have been sealed in this turn.
        self.log.collect();
        if self.moving.is_empty() {
            self.find_straggler(now);
        }
        let look = self.look_at <= now;
        if look {
            self.look_at = now + IDLE;
            self.log.sync_acks();
        }
        self.publish(look);
    }

    /// Makes a group durable and tells those who wait for it.
    fn commit(&mut self, group: Vec<Pending>) {
        let first = self.log.next_ticket;
        self.log.next_ticket += group.len() as u64;
        let tickets = first..self.log.next_ticket;
        let records: Vec<_> = tickets
            .clone()
            .zip(&group)
            .map(|(ticket, pending)| Record {
                ticket,
                payload: pending.batch.encoded(),
            })
            .collect();
        let stored = self.log.append(&records);
        drop(records);
        // Whoever appends or leases need not wait for what goes over all segments.
        let bytes = self.log.bytes();
        let mut state = self.shared.state();
        let mut answers = Vec::with_capacity(group.len());
        match stored {
            Ok(places) => {
                for ((ticket, place), pending) in tickets.zip(places).zip(group) {
                    let Pending {
                        batch,
                        promise,
                        done,
                    } = pending;
                    let (events, received) = (batch.len() as u64, batch.received());
                    state.index.insert(promise, ticket, events, received, place);
                    answers.push((done, Ok(Durability::Host)));
                }
                self.log.show(&mut state.files);
                state.index.stored(bytes);
                drop(state);
                self.stores();
            }
            Err(error) => {
                for Pending { promise, done, .. } in group {
                    state.index.cancel(promise, Instant::now());
                    answers.push((done, Err(FAILING)));
                }
                drop(state);
                self.log.void(tickets);
                self.fails(&error);
            }
        }
        self.shared.changed.notify_waiters();
        for (done, answer) in answers {
            // Whoever waited may be gone; the batch stays accepted.
            let _ = done.send(answer);
        }
    }

    /// Tries whether storing works.
    fn probe(&mut self) {
        match self.log.ensure_active() {
            Ok(_) => self.stores(),
            Err(error) => self.fails(&error),
        }
    }

    fn stores(&mut self) {
        if self.retry_at.take().is_some() {
            self.shared.state().failing = false;
            self.log.metrics.failing(None);
        }
    }

    fn fails(&mut self, error: &io::Error) {
        self.moving.clear();
        if self.retry_at.replace(Instant::now() + RETRY).is_none() {
            self.shared.state().failing = true;
            self.log.metrics.failing(Some(error));
        }
    }

    /// Looks for a segment that a few batches keep from going.
    fn find_straggler(&mut self, now: Instant) {
        if self.retry_at.is_some() {
            return;
        }
        let (used, capacity) = {
            let state = self.shared.state();
            (state.index.used(), state.index.limits().capacity)
        };
        let short = used > capacity / 4 * 3;
        let (percent, patience) = if short {
            STRAGGLER_WHEN_SHORT
        } else {
            STRAGGLER
        };
        if let Some((segment, tickets)) = self.log.straggler(percent, patience, now) {
            let state = self.shared.state();
            let is_in_it = |place: &Place| place.segment == segment;
            self.moving = state.index.select(&tickets, is_in_it).into();
        }
    }

    /// Copies some batches forward, under their old tickets, so that their place in the order stays.
    fn move_some(&mut self) {
        let mut bytes = 0;
        let mut batches: Vec<(Key, Place, Bytes)> = Vec::new();
        while bytes < MOVE_BYTES.min(self.log.whole_room())
            && let Some((key, place)) = self.moving.pop_front()
        {
            if batches.is_empty() || bytes + place.room() <= self.log.whole_room() {
                match self.log.read(&place) {
                    Ok(payload) => {
                        bytes += place.room();
                        batches.push((key, place, payload));
                    }
                    // Whoever leases it finds out, too.
                    Err(why) => self.log.unread(place.segment, why),
                }
            } else {
                self.moving.push_front((key, place));
                break;
            }
        }
        if batches.is_empty() {
            return;
        }
        let records: Vec<_> = batches
            .iter()
            .map(|(key, _, payload)| Record {
                ticket: key.ticket,
                payload,
            })
            .collect();
        match self.log.append(&records) {
            Ok(places) => self.moved(&batches, &places),
            Err(error) => self.fails(&error),
        }
    }

    fn moved(&mut self, batches: &[(Key, Place, Bytes)], places: &[Place]) {
        let bytes = self.log.bytes();
        let mut state = self.shared.state();
        for ((key, from, _), to) in batches.iter().zip(places) {
            match state.index.item_mut(key) {
                Some(place) => {
                    *place = *to;
                    self.log.unwanted(from);
                }
                // It left meanwhile; the old place is still to be told.
                None => self.log.unwanted(to),
            }
        }
        self.log.show(&mut state.files);
        state.index.stored(bytes);
        drop(state);
        self.log.metrics.moved(batches.len());
    }

    /// Makes known what the log has become.
    fn publish(&mut self, measure: bool) {
        let bytes = self.log.bytes();
        let mut state = self.shared.state();
        self.log.show(&mut state.files);
        state.index.stored(bytes);
        if measure {
            self.shared.measure(&state);
        }
    }
}

impl<F: Fs> Drop for Stopped<F> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        state.stopped = true;
        state.gone = Vec::new();
        state.panicked = std::thread::panicking();
        // What was with a committer that panicked is nowhere: who leases must not wait for it.
        state.index.abandon_promises();
        let waiting = std::mem::take(&mut state.pending);
        let panicked = state.panicked;
        drop(state);
        // Without an answer, those who wait learn that nothing is stored.
        drop(waiting);
        // Each by itself: a recorder or a subscriber that panics, maybe not for the first time, keeps nobody waiting and the other one
        // from nothing. Those who wait find the last figures.
        contained(|| {
            self.0.measure(&self.0.state());
        });
        self.0.changed.notify_waiters();
        if panicked {
            contained(|| self.0.metrics.committer_panicked());
            contained(telemetry::nothing_is_stored);
        }
    }
}
