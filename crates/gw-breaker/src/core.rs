//! One configuration at work: the word, what is counted, and the rules.

use std::sync::Arc;
use std::time::Duration;

use gw_core::Mode;
use gw_core::at_hand::AtHand;
use gw_core::awaited::Awaited;
use gw_core::classify::Outcome;
use gw_core::context::UpstreamName;
use tokio::time::Instant;

use crate::admission::{Kind, Probe, Refused};
use crate::asked::Asked;
use crate::breaker::{Ended, Slow};
use crate::config::Throttling;
use crate::followed::{Followed, Number, Probes};
use crate::hub::Hub;
use crate::rules::{Holds, ProbeEnd, Rules, Verdict};
use crate::state::{Snapshot, State};
use crate::sync::{AtomicU32, AtomicU64, Ordering, Padded};
use crate::window::{Cell, Windows};
use crate::word::{self, LATEST, Phase, Word};

#[derive(Debug)]
pub(crate) struct Core {
    word: Padded<AtomicU64>,
    pub(crate) rules: Rules,
    /// When the first configuration was set.
    origin: Instant,
    pub(crate) hub: Arc<Hub>,
    in_a_row: Padded<Cell>,
    windows: Padded<Windows>,
    asked: Asked,
    followed: Followed,
    arrivals: AtomicU32,
    refers: References,
}

/// What becomes of the references that calls have of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum References {
    /// Threads keep them at hand.
    Kept,
    /// They are counted: who has none is idle, and may be forgotten.
    Counted,
}

thread_local! {
    static AT_HAND: AtHand<Core> = const { AtHand::new() };
}

/// What is said to a call.
#[derive(Debug)]
pub(crate) enum Answer {
    Admitted(Kind),
    Refused(Refused),
    Replaced,
}

impl Core {
    pub(crate) fn new(
        rules: Rules,
        word: Word,
        origin: Instant,
        hub: Arc<Hub>,
        refers: References,
    ) -> Self {
        let rates = rules.trips.failure_rate > 0 || rules.trips.slow_rate > 0;
        let windows = match rates {
            true => Windows::new(rules.config.window),
            false => Windows::None,
        };
        Self {
            word: Padded(AtomicU64::new(word.pack())),
            origin,
            hub,
            in_a_row: Padded(Cell::default()),
            windows: Padded(windows),
            asked: Asked::default(),
            followed: Followed::default(),
            arrivals: AtomicU32::new(0),
            refers,
            rules,
        }
    }

    /// A reference to it for one call.
    #[inline]
    pub(crate) fn lend(self: &Arc<Self>) -> Arc<Self> {
        match self.refers {
            References::Kept => AtHand::take(&AT_HAND, self),
            References::Counted => Arc::clone(self),
        }
    }

    /// Takes back what a call had.
    #[inline]
    pub(crate) fn take_back(self: Arc<Self>) {
        if self.refers == References::Kept {
            AtHand::give_back(&AT_HAND, self);
        }
    }

    /// The generation, if the breaker is simply closed.
    #[inline]
    pub(crate) fn closed(&self) -> Option<u64> {
        // Relaxed, as all looks at the word: it is whole in itself, and what is counted carries its generation.
        let word = self.word.0.load(Ordering::Relaxed);
        word::is_closed(word).then(|| word::generation(word))
    }

    /// Whether another configuration has taken over.
    #[inline]
    pub(crate) fn is_replaced(&self) -> bool {
        word::is_replaced(self.word.0.load(Ordering::Relaxed))
    }

    pub(crate) fn word(&self) -> Word {
        Word::unpack(self.word.0.load(Ordering::Relaxed))
    }

    /// Begins after the first state did, so that another may follow in the same millisecond.
    pub(crate) fn millis(&self, now: Instant) -> u64 {
        const BEGINNING: u64 = Word::FIRST.began() + 1;
        let since = now.saturating_duration_since(self.origin);
        let millis = since
            .as_secs()
            .saturating_mul(1000)
            .saturating_add(BEGINNING);
        millis
            .saturating_add(since.subsec_millis().into())
            .min(LATEST)
    }

    /// Changes the word, if it is still the one that the change was made from. Exactly one of those who try succeeds, and tells of it.
    fn change(&self, from: Word, to: Word) -> bool {
        match Self::puts_aside(from, to) {
            true => self.change_with(&mut self.followed.lock(), from, to),
            false => self.swap(from, to),
        }
    }

    /// As [`change`](Self::change), by who holds the probes that are followed.
    fn change_with(&self, followed: &mut Probes, from: Word, to: Word) -> bool {
        let changed = self.swap(from, to);
        if changed && Self::puts_aside(from, to) {
            followed.put_aside(from.since, to.since);
        }
        changed
    }

    /// Whether a half-open state follows another one.
    fn puts_aside(from: Word, to: Word) -> bool {
        let half_open = from.phase == Phase::HalfOpen && to.phase == Phase::HalfOpen;
        half_open && from.since != to.since
    }

    /// The one place where the word changes.
    fn swap(&self, from: Word, to: Word) -> bool {
        let changed = self.word.0.compare_exchange(
            from.pack(),
            to.pack(),
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        changed.is_ok()
    }

    /// See [`Rules::overdue`].
    fn overdue(&self, word: Word, now: u64) -> Option<Word> {
        self.rules.overdue(word, now, |probes, half| {
            let lately = |since| self.millis(since) > half;
            self.followed.owe_nothing(word.since, probes, lately)
        })
    }

    fn change_and_tell(&self, from: Word, to: Word) -> bool {
        let changed = self.change(from, to);
        if changed {
            self.hub.changed(from, to);
        }
        changed
    }

    pub(crate) fn admit(&self, now: Instant) -> Answer {
        let now = self.millis(now);
        let mut arrival = None;
        loop {
            let word = self.word();
            if self.overdue(word, now).is_some() {
                self.settle(now);
                continue;
            }
            let arrival =
                || *arrival.get_or_insert_with(|| self.arrivals.fetch_add(1, Ordering::Relaxed));
            match self.rules.admit(word, now, arrival) {
                Verdict::Counted => return Answer::Admitted(Kind::Counted(word.since)),
                Verdict::Unobserved => return Answer::Admitted(Kind::Unobserved),
                Verdict::Replaced => return Answer::Replaced,
                Verdict::Refused(wait) => {
                    return Answer::Refused(Refused {
                        retry_after: Duration::from_millis(wait),
                        state: State::of(word.phase),
                    });
                }
                Verdict::Probe(next) => {
                    if self.change_and_tell(word, next) {
                        let generation = next.since;
                        return Answer::Admitted(Kind::Probe(Probe {
                            generation,
                            followed: None,
                        }));
                    }
                }
            }
        }
    }

    pub(crate) fn upstream(&self) -> &UpstreamName {
        &self.hub.upstream
    }

    /// Whether the latency of calls matters.
    pub(crate) const fn judges_latency(&self) -> bool {
        self.rules.trips.slow_rate > 0
    }

    pub(crate) const fn is_slow(&self, slow: Slow) -> bool {
        match slow {
            Slow::Known(slow) => slow,
            Slow::Took(nanos) => self.judges_latency() && nanos >= self.rules.trips.slow,
        }
    }

    /// Says how a call that was admitted ended. The clock is asked only if that matters.
    pub(crate) fn ended(&self, kind: Kind, ended: Ended, now: impl Fn() -> Instant) {
        match kind {
            Kind::Counted(generation) => self.count(generation, ended, now),
            Kind::Probe(probe) => self.probe_ended(probe, ended, now()),
            Kind::Streaming(generation) => self.streamed(generation, ended, now()),
            Kind::Unobserved => {}
        }
    }

    /// Ends a row of failures in `generation`.
    pub(crate) fn end_row(&self, generation: u64) {
        if self.is_in(generation) {
            self.in_a_row.clear(generation);
        }
    }

    /// Counts how a call that was admitted in `generation` ended. The clock is asked only if that matters: not for the
    /// success of a call whose window is a number of calls.
    #[inline]
    pub(crate) fn count(&self, generation: u64, ended: Ended, now: impl Fn() -> Instant) {
        let slow = self.is_slow(ended.slow);
        if let (Outcome::Success, false) = (ended.outcome, slow) {
            self.count_good(generation, now);
        } else if self.is_in(generation) {
            self.count_bad(generation, ended, slow, now());
        }
    }

    /// Counts the success of a call that was not slow, as [`count`](Self::count) does.
    #[inline(always)]
    pub(crate) fn count_good(&self, generation: u64, now: impl Fn() -> Instant) {
        if self.is_in(generation) {
            self.in_a_row.clear(generation);
            self.windows.add_good(generation, || self.millis_at(now));
        }
    }

    /// Apart, as the counting is that it is for.
    #[inline(never)]
    fn millis_at(&self, now: impl Fn() -> Instant) -> u64 {
        self.millis(now())
    }

    #[inline]
    fn is_in(&self, generation: u64) -> bool {
        word::generation(self.word.0.load(Ordering::Relaxed)) == generation
    }

    #[cold]
    fn count_bad(&self, generation: u64, ended: Ended, slow: bool, now: Instant) {
        let now = self.millis(now);
        let trips = &self.rules.trips;
        let throttled = match trips.throttling {
            Throttling::Counted => Some(false),
            Throttling::Failure => Some(true),
            Throttling::Ignored => None,
        };
        let Some(call) = ended.call(slow, throttled) else {
            return;
        };
        let asked_for = Rules::heard(ended.retry_after);
        if call.failed {
            self.asked
                .hear(generation, now, self.rules.heeded(asked_for));
        }
        self.windows.add(generation, || now, call);
        let in_a_row = match ended.outcome {
            Outcome::Failure => self.in_a_row.add(generation, 1).unwrap_or(0),
            Outcome::Success => {
                self.in_a_row.clear(generation);
                0
            }
            Outcome::Throttled(_) | Outcome::Ignored => 0,
        };
        let tripped = trips.consecutive > 0 && in_a_row >= trips.consecutive || {
            let tally = self.windows.tally(generation, now);
            let rate = |holds, rate, part| holds && trips.reached(rate, part, tally.calls);
            rate(call.failed, trips.failure_rate, tally.failed)
                || rate(call.slow, trips.slow_rate, tally.slow)
        };
        if tripped {
            let asked_for = asked_for.max(self.asked.left(generation, now));
            self.advance(|word| self.rules.trip(word, generation, now, asked_for));
        }
    }

    /// Has a probe say whom it waits for.
    pub(crate) fn follow(&self, probe: Probe, awaited: &Awaited) -> Number {
        let Probe {
            generation,
            followed,
        } = probe;
        self.followed.follow(generation, followed, awaited.clone())
    }

    /// Says that the head of a probe's answer is there. Whether its stream holds a slot: not if the probe was put aside.
    pub(crate) fn probe_answered(&self, probe: Probe, now: Instant) -> bool {
        let now = self.millis(now);
        self.settle(now);
        let holds = self.advance_by(probe, |word, generation, holds| {
            self.rules.probe_answered(word, generation, holds, now)
        });
        holds == Holds::Waiting
    }

    /// Says how a probe ended whose answer was not there yet, or that was put aside.
    fn probe_ended(&self, probe: Probe, ended: Ended, now: Instant) {
        let end = self.end_of_probe(ended, probe.followed);
        let now = self.millis(now);
        self.settle(now);
        let holds = self.advance_by(probe, |word, generation, holds| {
            self.rules.probe_ended(word, generation, holds, end, now)
        });
        if let (Holds::Nothing, Some(number)) = (holds, probe.followed) {
            self.followed.lock().forget(number);
        }
    }

    /// Says how a probe ended whose answer was there.
    fn streamed(&self, generation: u64, ended: Ended, now: Instant) {
        let end = self.end_of_probe(ended, None);
        let now = self.millis(now);
        self.settle(now);
        self.advance(|word| {
            let holds = Holds::Streaming;
            self.rules.probe_ended(word, generation, holds, end, now)
        });
    }

    fn end_of_probe(&self, ended: Ended, followed: Option<Number>) -> ProbeEnd {
        let is_paused = |number| self.followed.is_paused(number);
        match ended.outcome {
            _ if self.is_slow(ended.slow) => ProbeEnd::Failed(Rules::heard(ended.retry_after)),
            Outcome::Success => ProbeEnd::Succeeded,
            Outcome::Failure | Outcome::Throttled(_) => {
                ProbeEnd::Failed(Rules::heard(ended.retry_after))
            }
            Outcome::Ignored if followed.is_some_and(is_paused) => ProbeEnd::GivenBack,
            Outcome::Ignored => ProbeEnd::Lost,
        }
    }

    /// Changes the word to what follows on what a probe without an answer says, if something does: in the generation where that
    /// counts, and by what it holds there. A slot that it holds it waits in no longer, and so is not followed any more.
    fn advance_by(&self, probe: Probe, next: impl Fn(Word, u64, Holds) -> Option<Word>) -> Holds {
        let Some(number) = probe.followed else {
            self.advance(|word| next(word, probe.generation, Holds::Waiting));
            return Holds::Waiting;
        };
        let mut followed = self.followed.lock();
        let (generation, holds) = match followed.aside(number) {
            Some(generation) => (generation, Holds::Nothing),
            None => {
                followed.forget(number);
                (probe.generation, Holds::Waiting)
            }
        };
        loop {
            let word = self.word();
            let Some(next) = next(word, generation, holds) else {
                return holds;
            };
            if self.change_with(&mut followed, word, next) {
                // Outside of locks.
                drop(followed);
                self.hub.changed(word, next);
                return holds;
            }
        }
    }

    /// Has happen what is overdue, so that it does not matter whether somebody asked in the meantime.
    fn settle(&self, now: u64) {
        loop {
            let word = self.word();
            let Some(next) = self.overdue(word, now) else {
                return;
            };
            self.change_and_tell(word, next);
        }
    }

    /// Changes the word to what follows, if something does.
    fn advance(&self, next: impl Fn(Word) -> Option<Word>) {
        loop {
            let word = self.word();
            match next(word) {
                None => return,
                Some(next) if self.change_and_tell(word, next) => return,
                Some(_) => {}
            }
        }
    }

    /// Another phase, because somebody wants it. Whoever calls this tells of the change, outside of locks.
    pub(crate) fn force(&self, phase: Phase, now: Instant) -> Option<(Word, Word)> {
        let now = self.millis(now);
        loop {
            let word = self.word();
            let next = Word {
                step: 0,
                ..word.followed_by(phase, now)
            };
            if self.change(word, next) {
                return Some((word, next));
            }
        }
    }

    /// Ends the work of this one, and begins that of its successor.
    pub(crate) fn taken_over_by(&self, rules: Rules, now: Instant) -> Self {
        let now = self.millis(now);
        loop {
            let word = self.word();
            if self.change(word, word.followed_by(Phase::Replaced, now)) {
                let word = Rules::taken_over(word, now);
                return Self::new(rules, word, self.origin, Arc::clone(&self.hub), self.refers);
            }
        }
    }

    pub(crate) fn snapshot(&self, now: Instant) -> Snapshot {
        let now = self.millis(now);
        let mut word = self.word();
        while let Some(next) = self.overdue(word, now) {
            word = next;
        }
        let (probes, tally) = (word.probes(), self.windows.tally(word.since, now));
        let half_open = word.phase == Phase::HalfOpen;
        Snapshot {
            upstream: self.hub.upstream.clone(),
            state: State::of(word.phase),
            mode: match (word.phase, self.hub.is_shadow()) {
                (Phase::Disabled, _) => Mode::Off,
                (_, true) => Mode::Shadow,
                (_, false) => Mode::Enforce,
            },
            lasted: Duration::from_millis(word.lasted(now)),
            open_for: (word.phase == Phase::Open)
                .then(|| Duration::from_millis(self.rules.open_left(word, now))),
            opened: self.rules.opened(word, now),
            probes: if half_open { probes.under_way() } else { 0 },
            probes_succeeded: if half_open { probes.succeeded } else { 0 },
            consecutive_failures: self.in_a_row.get(word.since),
            calls: tally.calls,
            failed: tally.failed,
            slow: tally.slow,
        }
    }
}
