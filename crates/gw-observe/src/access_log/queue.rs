//! The bounded hand-over from requests to the writer.
//!
//! Lines are bytes in one buffer that the writer exchanges for an empty one, so the bound is in bytes, handing over does
//! not allocate, and nobody who holds the lock ever waits for the disk. The writer is woken at most once for each batch,
//! and then waits a moment for more: a write for each line would cost more than the lines.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the writer gathers lines before it writes them. To wake and to write costs some 60 µs, which at 10 ms was more
/// than a hundredth of the CPU time of a busy gateway; nobody reads a log so soon.
const LINGER: Duration = Duration::from_millis(50);
/// How long the writer waits before it tries again to write into a pipe that is full.
const RETRY: Duration = Duration::from_millis(10);
/// How often the writer looks for lines that were left out, even if there is nothing to write.
const TICK: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the writer: there is something to do.
    work: Condvar,
    /// For those who wait until lines are written.
    done: Condvar,
    capacity: usize,
}

#[derive(Debug, Default)]
struct State {
    waiting: Batch,
    /// Lines that the writer is about to write.
    in_hand: u64,
    /// Lines ever taken over, and of these those that have been written or lost.
    accepted: u64,
    settled: u64,
    writer_sleeps: bool,
    reopen: bool,
    hurry: bool,
    closed: bool,
    /// The writer has ended.
    ended: bool,
    /// Nobody waits for the writer any more: what it still has in hand counts as lost already.
    abandoned: bool,
}

/// Whole lines, and how many.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) lines: u64,
}

/// Why a line was not taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
}

/// What the writer is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) reopen: bool,
    /// There will be no more after this.
    pub(super) last: bool,
}

impl Queue {
    pub(super) fn new(capacity: usize) -> Self {
        let waiting = Batch::with_capacity(capacity);
        Self {
            state: Mutex::new(State {
                waiting,
                ..State::default()
            }),
            work: Condvar::new(),
            done: Condvar::new(),
            capacity,
        }
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock leaves the state half changed, so a poisoned one is still good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over one line. Never waits but for the lock.
    pub(super) fn push(&self, line: &[u8]) -> Result<(), Refused> {
        let mut state = self.lock();
        if state.closed {
            return Err(Refused::Closed);
        }
        let before = state.waiting.bytes.len();
        let after = before + line.len();
        if after > self.capacity {
            return Err(Refused::Full);
        }
        state.waiting.bytes.extend_from_slice(line);
        state.waiting.lines += 1;
        state.accepted += 1;
        let plenty = self.plenty();
        let wake = std::mem::take(&mut state.writer_sleeps) || (before < plenty && after >= plenty);
        drop(state);
        if wake {
            self.work.notify_one();
        }
        Ok(())
    }

    /// So much that the writer should not wait for more.
    const fn plenty(&self) -> usize {
        self.capacity / 4
    }

    /// Waits for work, and exchanges `batch`, which must be empty, for the lines that wait.
    pub(super) fn take(&self, batch: &mut Batch) -> Work {
        let mut state = self.lock();
        if !state.has_work() {
            state.writer_sleeps = true;
            let wait = self
                .work
                .wait_timeout_while(state, TICK, |state| !state.has_work());
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
            state.writer_sleeps = false;
        }
        if state.waiting.lines > 0 && state.may_linger(self.plenty()) {
            let plenty = self.plenty();
            let wait = self
                .work
                .wait_timeout_while(state, LINGER, |state| state.may_linger(plenty));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
        std::mem::swap(&mut state.waiting, batch);
        state.in_hand = batch.lines;
        state.hurry = false;
        Work {
            reopen: std::mem::take(&mut state.reopen),
            last: state.closed,
        }
    }

    /// The lines that were taken have been written or lost. `count` counts them, unless they have been given up already;
    /// it runs under the lock, so that no line is seen neither in the queue nor counted.
    pub(super) fn settle(&self, count: impl FnOnce()) {
        let mut state = self.lock();
        state.settled += std::mem::take(&mut state.in_hand);
        if !state.abandoned {
            count();
        }
        drop(state);
        self.done.notify_all();
    }

    /// The writer ends, and no more lines are taken over. After a panic there may be some that it has not written; `count` counts
    /// them, as in [`settle`](Self::settle).
    pub(super) fn end(&self, count: impl FnOnce(u64)) {
        let mut state = self.lock();
        state.closed = true;
        state.ended = true;
        let waiting = std::mem::take(&mut state.waiting);
        let left = waiting.lines + std::mem::take(&mut state.in_hand);
        state.settled += left;
        if !state.abandoned {
            count(left);
        }
        drop(state);
        self.done.notify_all();
    }

    pub(super) fn reopen(&self) {
        self.lock().reopen = true;
        self.work.notify_one();
    }

    /// Waits until all lines taken over so far have been written or lost; not for longer than `limit`.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let mut state = self.lock();
        let target = state.accepted;
        state.hurry = true;
        self.work.notify_one();
        let wait = self
            .done
            .wait_timeout_while(state, limit, |state| state.settled < target && !state.ended);
        state = wait.unwrap_or_else(PoisonError::into_inner).0;
        state.settled >= target
    }

    /// Takes no more lines, waits until the writer has ended, but not for longer than `limit`, and gives up the lines
    /// that it has not written then. `count` counts them, under the lock as in [`settle`](Self::settle).
    pub(super) fn close(&self, limit: Duration, count: impl FnOnce(u64)) {
        let mut state = self.lock();
        state.closed = true;
        self.work.notify_one();
        let wait = self
            .done
            .wait_timeout_while(state, limit, |state| !state.ended);
        state = wait.unwrap_or_else(PoisonError::into_inner).0;
        let lost = state.waiting.lines + state.in_hand;
        state.settled += state.waiting.lines;
        state.waiting = Batch::default();
        state.abandoned = true;
        count(lost);
        self.work.notify_one();
    }

    /// Tells `read` how many lines wait or are being written, under the lock: what it reads was counted before they were, or
    /// with them.
    pub(super) fn read<T>(&self, read: impl FnOnce(u64) -> T) -> T {
        let state = self.lock();
        let queued = match state.abandoned {
            true => 0,
            false => state.waiting.lines + state.in_hand,
        };
        read(queued)
    }

    /// Whether nobody waits for the writer any more.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Waits for a moment, or until nobody waits for the writer any more.
    pub(super) fn pause(&self) {
        let state = self.lock();
        drop(
            self.work
                .wait_timeout_while(state, RETRY, |state| !state.abandoned),
        );
    }
}

impl State {
    const fn has_work(&self) -> bool {
        self.waiting.lines > 0 || self.reopen || self.closed
    }

    const fn may_linger(&self, plenty: usize) -> bool {
        self.waiting.bytes.len() < plenty && !self.hurry && !self.closed
    }
}

impl Batch {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        let bytes = Vec::with_capacity(capacity);
        Self { bytes, lines: 0 }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.lines = 0;
    }
}
