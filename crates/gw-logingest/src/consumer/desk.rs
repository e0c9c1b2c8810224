//! The consumer's work in progress.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::{io, iter};

use tokio::task::{Id, JoinSet};
use tokio::time::Instant;

use super::backlog::{Backlog, Load, Work};
use super::builder::Settings;
use super::judge::{Lesson, Letter, Verdict};
use super::pace::{Hope, Pace, Stamp};
use super::status::{ConsumerState, Shared};
use super::telemetry;
use crate::batch::ClientId;
use crate::dead_letter::{DeadLetter, DeadLetters, KeepError};
use crate::queue::{Leased, Want};
use crate::sink::{Delivery, Fault, Reason, Sink};
use crate::telemetry::meter::QueueLabel;
use crate::telemetry::{Item, SinkMetrics};

pub(super) struct Desk<S, D> {
    sink: Arc<S>,
    dead_letters: Arc<D>,
    settings: Settings,
    shared: Arc<Shared>,
    metrics: SinkMetrics,
    random: fastrand::Rng,
    backlog: Backlog,
    pace: Pace,
    tasks: JoinSet<Done>,
    errands: HashMap<Id, Errand>,
    /// Requests under way.
    running: usize,
    letters: Letters,
    /// Clients whose letters are over their share, or whose events may not be to blame for what the sink refuses, and whose batches
    /// went back. The queue has yet to be told.
    to_hold: Vec<ClientId>,
    blocked: Option<Reason>,
    down: bool,
    stopping: bool,
}

/// Dead letters that are not kept yet. Their batches stay open, which bounds them.
#[derive(Default)]
struct Letters {
    waiting: Vec<Letter>,
    under_way: bool,
    failures: u32,
    not_before: Option<Instant>,
}

/// What a task does.
enum Errand {
    Deliver { load: Arc<Load>, stamp: Stamp },
    Keep { letters: Vec<Letter> },
}

/// What a task has done.
pub(super) enum Done {
    Delivered(Delivery),
    Kept(Vec<Result<(), KeepError>>),
}

/// A task that has ended; without an outcome if it panicked.
pub(super) struct Ended {
    id: Id,
    done: Option<Done>,
}

impl<S: Sink, D: DeadLetters> Desk<S, D> {
    pub(super) fn new(
        sink: Arc<S>,
        dead_letters: Arc<D>,
        settings: Settings,
        shared: Arc<Shared>,
        queue: &QueueLabel,
    ) -> Self {
        let random = settings
            .seed
            .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let pace = Pace::new(
            settings.backoff,
            settings.pause,
            settings.max_concurrency,
            settings.max_bytes,
        );
        let desk = Self {
            sink,
            dead_letters,
            settings,
            shared,
            metrics: SinkMetrics::new(queue),
            random,
            backlog: Backlog::default(),
            pace,
            tasks: JoinSet::new(),
            errands: HashMap::new(),
            running: 0,
            letters: Letters::default(),
            to_hold: Vec::new(),
            blocked: None,
            down: false,
            stopping: false,
        };
        desk.publish();
        desk
    }

    /// How much to lease now. What is in hand is bounded by what can be under way, and one request more: in events as well as in
    /// bytes, since what is kept of each is more than a small one itself.
    pub(super) fn wants(&self) -> Option<Want> {
        let requests = self.pace.concurrency() + 1;
        let room = |each: usize, in_hand: usize| {
            let bound = each.saturating_mul(requests);
            let room = bound.checked_sub(in_hand).filter(|room| *room > 0)?;
            Some(room.min(each))
        };
        Some(Want {
            bytes: room(self.settings.max_bytes, self.backlog.open_bytes())?,
            events: room(self.settings.max_events, self.backlog.unsettled())?,
        })
    }

    pub(super) fn take_in(&mut self, leased: Vec<Leased>, now: Instant) {
        let linger = self.settings.linger;
        let events: usize = leased
            .into_iter()
            .map(|leased| self.backlog.take_in(leased, now, linger))
            .sum();
        let mut status = self.shared.status();
        status.leased += events as u64;
        status.in_hand = self.backlog.unsettled() as u64;
        drop(status);
        self.publish();
    }

    /// Whether nothing is in hand.
    pub(super) fn is_idle(&self) -> bool {
        self.backlog.is_empty() && self.tasks.is_empty()
    }

    /// Starts all requests that may start now.
    pub(super) fn start_what_may(&mut self, now: Instant) {
        self.backlog.wake(now);
        self.keep_letters(now);
        // Sending on would only make more letters.
        if self.stopping || self.letters.failures > 0 {
            return;
        }
        while self.pace.may_start(self.running, now)
            && let Some(load) =
                self.backlog
                    .cut(self.pace.next_bytes(), self.settings.max_events, now)
        {
            let stamp = self.pace.stamp(self.running, load.bytes, now);
            let load = Arc::new(load);
            let (sink, events) = (self.sink.clone(), load.clone());
            let task = async move { Done::Delivered(sink.deliver(&events.events).await) };
            let id = self.tasks.spawn(task).id();
            self.errands.insert(id, Errand::Deliver { load, stamp });
            self.running += 1;
        }
    }

    fn keep_letters(&mut self, now: Instant) {
        let resting = self.letters.not_before.is_some_and(|until| until > now);
        if self.letters.waiting.is_empty() || self.letters.under_way || resting {
            return;
        }
        let letters = std::mem::take(&mut self.letters.waiting);
        let texts: Vec<DeadLetter> = letters.iter().map(|letter| letter.letter.clone()).collect();
        let store = self.dead_letters.clone();
        let task = async move { Done::Kept(store.keep(&texts).await) };
        let id = self.tasks.spawn(task).id();
        self.errands.insert(id, Errand::Keep { letters });
        self.letters.under_way = true;
    }

    /// The next task that has ended; `None` if there are none.
    pub(super) fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<Option<Ended>> {
        let joined = ready!(self.tasks.poll_join_next_with_id(cx));
        Poll::Ready(joined.map(|joined| match joined {
            Ok((id, done)) => Ended {
                id,
                done: Some(done),
            },
            Err(error) => Ended {
                id: error.id(),
                done: None,
            },
        }))
    }

    /// When to look again although nothing has happened.
    pub(super) fn next_time(&self, now: Instant) -> Option<Instant> {
        let pace = self.pace.rests_until(now);
        let letters = self.letters.not_before.filter(|until| *until > now);
        let times = [self.backlog.next_time(now), pace, letters];
        times.into_iter().flatten().min()
    }

    pub(super) fn settle(&mut self, ended: Ended, now: Instant) {
        match self.errands.remove(&ended.id) {
            Some(Errand::Deliver { load, stamp }) => {
                self.running -= 1;
                let delivery = match ended.done {
                    Some(Done::Delivered(delivery)) => delivery,
                    _ => panicked(),
                };
                self.delivered(&load, stamp, delivery, now);
            }
            Some(Errand::Keep { letters }) => {
                let kept = match ended.done {
                    Some(Done::Kept(kept)) => kept,
                    // It panicked.
                    _ => Vec::new(),
                };
                self.kept(letters, kept, now);
            }
            None => {}
        }
        self.publish();
    }

    fn delivered(&mut self, load: &Load, stamp: Stamp, delivery: Delivery, now: Instant) {
        self.metrics.request(telemetry::class(&delivery));
        self.metrics.round_trip(stamp.elapsed(now));
        let answered = matches!(delivery, Delivery::Items(_));
        if answered {
            self.pace.fitted(stamp, load.full);
        }
        let verdict = Verdict::new(load, stamp, delivery, &self.pace, self.hope(load))
            .of(|tag| self.backlog.is_open(tag));
        if answered && matches!(verdict.lesson, Lesson::Works | Lesson::Overloaded) {
            self.pace.understood(stamp);
        }
        let settled = [&verdict.delivered, &verdict.duplicates, &verdict.redirected];
        for tag in settled.into_iter().flatten() {
            self.backlog.settle(*tag);
        }
        self.count(&verdict);
        let mut unwelcome = match &verdict.lesson {
            Lesson::Misconfigured(_, client) => Some(client.clone()),
            _ => None,
        };
        self.learn(stamp, verdict.lesson, now);
        let tries = |work: &Work| work.tag.failures.max(work.tag.refusals);
        let failures = verdict.later.iter().map(tries).max();
        let wait = self
            .pace
            .item_wait(failures.unwrap_or(0).saturating_sub(1), &mut self.random);
        self.backlog.put_off(verdict.later, now + wait);
        self.backlog.put_back(verdict.back.into_iter(), now);
        self.backlog.put_pieces(verdict.pieces);
        self.letters.waiting.extend(verdict.letters);
        if unwelcome.is_none() && self.running == 0 {
            let taken_from = |number| self.pace.has_taken(number);
            unwelcome = self.backlog.refused_all(taken_from).cloned();
        }
        // Nothing new comes in that may be taken.
        if let (Some(client), None) = (unwelcome, self.wants()) {
            self.hold(HashSet::from([client]));
        }
    }

    /// Who else than the events of `load` could tell whether the sink works.
    fn hope(&self, load: &Load) -> Hope {
        let kept = |errand: &Errand| match errand {
            Errand::Keep { letters } => letters.len(),
            Errand::Deliver { .. } => 0,
        };
        let under_way: usize = self.errands.values().map(kept).sum();
        let letters = self.letters.waiting.len() + under_way;
        if self.running > 0 {
            Hope::UnderWay
        } else if load.events.len() + letters < self.backlog.unsettled() {
            Hope::Others
        } else {
            Hope::Nobody
        }
    }

    fn learn(&mut self, stamp: Stamp, lesson: Lesson, now: Instant) {
        match lesson {
            Lesson::Nothing => {}
            Lesson::RefusedAlone => self.pace.refused_alone(),
            Lesson::Smaller => {
                if self.pace.too_large(stamp) {
                    telemetry::limit_learned(self.pace.max_bytes());
                }
            }
            Lesson::Works | Lesson::Overloaded => {
                if self
                    .pace
                    .succeeded(stamp, lesson == Lesson::Overloaded, now)
                {
                    self.blocked = None;
                    self.down = false;
                }
            }
            Lesson::Down(floor) => {
                self.pace.failed(stamp, floor, now, &mut self.random);
                self.down = true;
            }
            Lesson::Misconfigured(reason, _) => {
                self.pace.misconfigured(now, &mut self.random);
                self.blocked = Some(reason);
            }
            Lesson::Blocked(reason) => {
                self.pace.blocked(now, &mut self.random);
                self.blocked = Some(reason);
            }
        }
    }

    fn count(&self, verdict: &Verdict) {
        let delivered = verdict.delivered.len() as u64;
        let duplicates = verdict.duplicates.len() as u64;
        let redirected = verdict.redirected.len() as u64;
        let retried = verdict.retried() as u64;
        let mut status = self.shared.status();
        status.requests += 1;
        status.delivered += delivered;
        status.duplicates += duplicates;
        status.redirected += redirected;
        status.retried += retried;
        // In the same step, so that the sums are right for whoever looks in between.
        status.in_hand = self.backlog.unsettled() as u64;
        drop(status);
        self.metrics.items(Item::Delivered, delivered + redirected);
        self.metrics.items(Item::Duplicate, duplicates);
        self.metrics.items(Item::Retried, retried);
    }

    fn kept(&mut self, letters: Vec<Letter>, outcomes: Vec<Result<(), KeepError>>, now: Instant) {
        self.letters.under_way = false;
        let silent = || Err(KeepError::Failed(Arc::new(io::Error::other("no answer"))));
        let outcomes = outcomes.into_iter().chain(iter::repeat_with(silent));
        let mut dead = 0;
        let mut stuck = None;
        let mut over_share = HashSet::new();
        for (letter, outcome) in letters.into_iter().zip(outcomes) {
            match outcome {
                // Whose batch went back meanwhile comes again.
                Ok(()) if !self.backlog.is_open(letter.tag) => {}
                Ok(()) => {
                    dead += 1;
                    self.metrics.dead(letter.class, 1);
                    self.backlog.settle(letter.tag);
                }
                Err(KeepError::OverShare) => {
                    over_share.insert(letter.letter.event().client().clone());
                }
                Err(error) => {
                    stuck.get_or_insert(error);
                    self.letters.waiting.push(letter);
                }
            }
        }
        self.metrics.items(Item::Dead, dead);
        let mut status = self.shared.status();
        status.dead += dead;
        status.in_hand = self.backlog.unsettled() as u64;
        drop(status);
        self.hold(over_share);
        if self.backlog.is_empty() && self.pace.rests_until(now).is_none() {
            // Nothing waits for the sink, and nothing would tell that it works again. The pace stays: what comes next probes. While
            // it rests, a held client's events have gone back to the queue, and come again.
            self.blocked = None;
            self.down = false;
        }
        // Nothing is stuck that went back to the queue.
        let stuck = stuck.filter(|_| !self.letters.waiting.is_empty());
        self.letters_stuck(stuck.as_ref(), now);
    }

    /// Gives everything of these clients back to the queue, which is to hold them.
    fn hold(&mut self, clients: HashSet<ClientId>) {
        let returned = self.backlog.give_back(&clients);
        self.to_hold.extend(clients);
        let backlog = &self.backlog;
        self.letters
            .waiting
            .retain(|letter| backlog.is_open(letter.tag));
        if self.letters.waiting.is_empty() && !self.letters.under_way {
            self.letters.failures = 0;
            self.letters.not_before = None;
        }
        let mut status = self.shared.status();
        status.returned += returned as u64;
        // In the same step, so that the sums are right for whoever looks in between.
        status.in_hand = self.backlog.unsettled() as u64;
    }

    /// Whether the store keeps what is not over a share.
    fn letters_stuck(&mut self, error: Option<&KeepError>, now: Instant) {
        let Some(error) = error else {
            self.letters.failures = 0;
            self.letters.not_before = None;
            return;
        };
        if self.letters.failures == 0 {
            telemetry::letters_stuck(error);
        }
        let wait = self
            .settings
            .backoff
            .wait(self.letters.failures, None, &mut self.random);
        self.letters.failures = self.letters.failures.saturating_add(1);
        self.letters.not_before = Some(now + wait);
    }

    /// The clients whose batches went back since the last call.
    pub(super) fn take_to_hold(&mut self) -> Vec<ClientId> {
        std::mem::take(&mut self.to_hold)
    }

    /// How long such a client waits.
    pub(super) const fn pause(&self) -> Duration {
        self.settings.pause
    }

    /// So many clients wait.
    pub(super) fn held_clients(&self, clients: usize) {
        self.metrics.held_clients(clients);
        let mut status = self.shared.status();
        let before = std::mem::replace(&mut status.held_clients, clients);
        drop(status);
        if (before == 0) != (clients == 0) {
            telemetry::clients_held(clients > 0);
        }
    }

    /// Starts no more requests; returns how long to wait for those under way.
    pub(super) fn stop(&mut self) -> Duration {
        self.stopping = true;
        self.settings.grace
    }

    const fn state(&self) -> ConsumerState {
        if self.letters.failures > 0 {
            ConsumerState::DeadLettersStuck
        } else if self.blocked.is_some() {
            ConsumerState::Blocked
        } else if self.down {
            ConsumerState::BackingOff
        } else {
            ConsumerState::Delivering
        }
    }

    /// Tells handle, intake, metrics and log how it stands.
    fn publish(&self) {
        let state = self.state();
        let mut status = self.shared.status();
        let before = std::mem::replace(&mut status.state, state);
        status.in_hand = self.backlog.unsettled() as u64;
        status.concurrency = self.pace.concurrency();
        status.max_bytes = self.pace.max_bytes();
        status.reason.clone_from(&self.blocked);
        drop(status);
        self.metrics.concurrency(self.pace.concurrency());
        self.metrics.paused(matches!(
            state,
            ConsumerState::Blocked | ConsumerState::DeadLettersStuck
        ));
        if before != state {
            telemetry::state_changed(state, self.blocked.as_ref());
        }
        let healthy = state == ConsumerState::Delivering;
        self.settings.pressure.set_sink_healthy(healthy);
    }
}

impl<S, D> Drop for Desk<S, D> {
    fn drop(&mut self) {
        // The leases go back with the backlog.
        let returned = self.backlog.unsettled() as u64;
        let mut status = self.shared.status();
        status.returned += returned;
        status.in_hand = 0;
        status.held_clients = 0;
        status.state = ConsumerState::Stopped;
        drop(status);
        self.metrics.paused(false);
        self.metrics.held_clients(0);
        telemetry::state_changed(ConsumerState::Stopped, None);
    }
}

fn panicked() -> Delivery {
    telemetry::sink_panicked();
    Delivery::Retry {
        after: None,
        fault: Fault::Garbled,
    }
}
