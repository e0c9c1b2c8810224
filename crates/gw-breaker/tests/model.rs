//! The whole machine against a plain one that keeps lists: all policies, cancellations, clocks that jump, operators.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test"
)]

use std::time::Duration;

use gw_breaker::{
    Admission, Awaited, Breaker, BreakerConfig, Ended, HalfOpen, Jitter, OpenTime, Outcome, State,
    Throttling, Window,
};
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::time::Instant;

#[derive(Debug, Clone, Copy)]
struct Setup {
    consecutive: Option<u32>,
    window: Window,
    min_calls: u32,
    /// In tenths.
    failure_rate: Option<u32>,
    slow_rate: Option<u32>,
    slow: u64,
    throttling: Throttling,
    shortest: u64,
    longest: u64,
    forget: u64,
    cap: u64,
    probes: u8,
    successes: u8,
    max_wait: u64,
    ramp: u64,
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

impl Setup {
    fn config(&self) -> BreakerConfig {
        let open_time = OpenTime::exponential(ms(self.shortest), ms(self.longest))
            .jitter(Jitter::None)
            .forget_after(ms(self.forget))
            .retry_after_cap(ms(self.cap));
        let half_open = HalfOpen::probes(self.probes)
            .successes(self.successes)
            .max_wait(ms(self.max_wait));
        let mut config = BreakerConfig::without_policies()
            .window(self.window)
            .min_calls(self.min_calls)
            .throttling(self.throttling)
            .open_time(open_time)
            .half_open(half_open)
            .ramp(ms(self.ramp));
        if let Some(failures) = self.consecutive {
            config = config.consecutive_failures(failures);
        }
        if let Some(tenths) = self.failure_rate {
            config = config.failure_rate(f64::from(tenths) / 10.0);
        }
        if let Some(tenths) = self.slow_rate {
            config = config.slow_rate(f64::from(tenths) / 10.0, ms(self.slow));
        }
        config
    }
}

fn setups() -> impl Strategy<Value = Setup> {
    let window = prop_oneof![
        (6..15_u32).prop_map(Window::Calls),
        (10..300_u64).prop_map(|tens| Window::Time(ms(tens * 10))),
    ];
    let throttling = prop_oneof![
        Just(Throttling::Counted),
        Just(Throttling::Failure),
        Just(Throttling::Ignored)
    ];
    let policies = (
        proptest::option::of(1..5_u32),
        window,
        1..7_u32,
        proptest::option::of(3..=10_u32),
        proptest::option::of(3..=10_u32),
        throttling,
    );
    let times = (
        50..2_000_u64,
        1..10_u64,
        100..5_000_u64,
        prop_oneof![Just(0), 1..5_000_u64],
        prop_oneof![3 => 100..3_000_u64, 1 => 10_000..200_000_u64],
        prop_oneof![Just(0), 100..2_000_u64],
    );
    let count = || prop_oneof![4 => 1..5_u8, 1 => 1..=31_u8];
    (policies, times, count(), count()).prop_map(|(policies, times, probes, successes)| {
        let (consecutive, window, min_calls, failure_rate, slow_rate, throttling) = policies;
        let (shortest, factor, forget, cap, max_wait, ramp) = times;
        Setup {
            consecutive,
            window,
            min_calls,
            failure_rate,
            slow_rate,
            slow: 100,
            throttling,
            shortest,
            longest: shortest * factor,
            forget,
            cap,
            probes,
            successes,
            max_wait,
            ramp,
        }
    })
}

#[derive(Debug, Clone)]
enum Action {
    Later(u64),
    /// One call is made with a clock that is so far behind.
    AdmitInThePast(u64),
    Admit,
    /// A call that says whom it waits for.
    Follow,
    /// One of these waits for its client, or for the upstream.
    Pauses(Index),
    Starts(Index),
    Answered(Index),
    /// With how long it took, and what a failure asks for.
    Record(Index, Outcome, u64, Option<u64>),
    Drop(Index),
    ForceOpen,
    ForceClosed,
    Disable,
    Reset,
    Reconfigure(Setup),
}

fn actions() -> impl Strategy<Value = Action> {
    let outcome = prop_oneof![
        3 => Just(Outcome::Success),
        5 => Just(Outcome::Failure),
        1 => proptest::option::of(0..10_000_u64)
            .prop_map(|wait| Outcome::Throttled(wait.map(ms))),
        1 => Just(Outcome::Ignored),
    ];
    let later = prop_oneof![
        4 => 0..50_u64,
        4 => 50..3_000_u64,
        1 => 3_000..100_000_u64,
        // Some years.
        1 => Just(1_u64 << 37),
    ];
    prop_oneof![
        10 => later.prop_map(Action::Later),
        1 => (1..5_000_u64).prop_map(Action::AdmitInThePast),
        20 => Just(Action::Admit),
        10 => Just(Action::Follow),
        6 => any::<Index>().prop_map(Action::Pauses),
        3 => any::<Index>().prop_map(Action::Starts),
        4 => any::<Index>().prop_map(Action::Answered),
        20 => (any::<Index>(), outcome, 0..200_u64, proptest::option::of(0..10_000_u64))
            .prop_map(|(which, outcome, took, asks)| Action::Record(which, outcome, took, asks)),
        4 => any::<Index>().prop_map(Action::Drop),
        1 => prop_oneof![
            Just(Action::ForceOpen),
            Just(Action::ForceClosed),
            Just(Action::Disable),
            Just(Action::Reset),
        ],
        1 => setups().prop_map(Action::Reconfigure),
    ]
}

/// What the plain machine does with calls.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Closed,
    Ramping,
    /// For whole seconds, in milliseconds as all times.
    Open {
        asked_for: u64,
    },
    HalfOpen(Probing),
    ForcedOpen,
    ForcedClosed,
    Disabled,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Probing {
    waiting: u32,
    streaming: u32,
    succeeded: u32,
    lost: bool,
}

/// A probe that says whom it waits for.
#[derive(Debug, Clone)]
struct Followed {
    number: usize,
    /// When what it counts for began.
    state: u64,
    /// Another one has its slot.
    aside: bool,
    /// Since when the upstream is waited for.
    since: Option<u64>,
}

/// What a probe that says something has held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Waiting,
    Streaming,
    Nothing,
}

#[derive(Debug, Clone, Copy)]
struct Call {
    at: u64,
    failed: bool,
    slow: bool,
}

struct Model {
    setup: Setup,
    doing: Doing,
    /// Millisecond at which that began: no two begin at the same.
    since: u64,
    opened: u32,
    in_a_row: u32,
    calls: Vec<Call>,
    /// When failures have asked for how many seconds.
    asked: Vec<(u64, u64)>,
    followed: Vec<Followed>,
}

/// What a call was admitted as, and when what it counts for began; by another configuration it counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum As {
    Counted,
    Probe { streams: bool },
    Unobserved,
}

impl Model {
    fn begin(&mut self, doing: Doing, now: u64) {
        let before = self.since;
        self.since = now.max(self.since + 1);
        if let (Doing::HalfOpen(_), Doing::HalfOpen(_)) = (&self.doing, &doing) {
            let of_it = self.followed.iter_mut();
            for probe in of_it.filter(|probe| probe.state == before) {
                probe.state = self.since;
                probe.aside = true;
            }
        }
        self.doing = doing;
        self.forget_calls();
    }

    fn forget_calls(&mut self) {
        self.in_a_row = 0;
        self.calls.clear();
        self.asked.clear();
    }

    fn lasted(&self, now: u64) -> u64 {
        now.saturating_sub(self.since)
    }

    fn open_time(&self, asked_for: u64) -> u64 {
        let doubled = self.setup.shortest << self.opened.min(31);
        doubled
            .min(self.setup.longest)
            .max(asked_for.min(self.setup.cap))
    }

    fn open(&mut self, now: u64, asked_for: u64) {
        let asked_for = asked_for * 1000;
        self.begin(Doing::Open { asked_for }, now);
    }

    fn close(&mut self, now: u64) {
        self.opened = (self.opened + 1).min(31);
        self.begin(
            if self.setup.ramp == 0 {
                Doing::Closed
            } else {
                Doing::Ramping
            },
            now,
        );
    }

    /// What has happened by itself.
    fn settle(&mut self, now: u64) {
        loop {
            match self.doing.clone() {
                Doing::Ramping if self.lasted(now) >= self.setup.ramp => self.doing = Doing::Closed,
                Doing::HalfOpen(probing) if self.lasted(now) >= self.waits(&probing) => {
                    let over = self.since + self.waits(&probing);
                    if probing.lost || probing.waiting > self.excused() {
                        self.opened = (self.opened + 1).min(31);
                        self.open(over, 0);
                    } else {
                        self.proved(&probing, over, now);
                    }
                }
                _ => return,
            }
        }
    }

    /// How many hold a slot, and wait for their clients, or for the upstream for less than half of the time.
    fn excused(&self) -> u32 {
        let half = self.since + self.setup.max_wait / 2;
        let excused = |probe: &&Followed| {
            let here = probe.state == self.since && !probe.aside;
            here && probe.since.is_none_or(|since| since > half)
        };
        self.followed.iter().filter(excused).count() as u32
    }

    fn followed(&mut self, number: Option<usize>) -> Option<&mut Followed> {
        let mut followed = self.followed.iter_mut();
        followed.find(|probe| Some(probe.number) == number)
    }

    /// How long, where these are under way: for what only streams 10 s at most.
    fn waits(&self, probing: &Probing) -> u64 {
        match probing.waiting > 0 || probing.lost {
            true => self.setup.max_wait,
            false => self.setup.max_wait.min(10_000),
        }
    }

    /// What streams counts from `over` on.
    fn proved(&mut self, probing: &Probing, over: u64, now: u64) {
        let succeeded = probing.succeeded + probing.streaming;
        if succeeded >= self.setup.successes.into() {
            self.close(over);
        } else {
            let probing = Probing {
                succeeded,
                ..Probing::default()
            };
            self.begin(Doing::HalfOpen(probing), now);
        }
    }

    /// A probe has just said something: what streams may have waited for nothing else.
    fn proved_by_now(&mut self, now: u64) {
        if let Doing::HalfOpen(probing) = self.doing.clone()
            && self.lasted(now) >= self.waits(&probing)
        {
            self.proved(&probing, now, now);
        }
    }

    /// What a call is admitted as. On the way up it is the breaker that says who passes.
    fn admit(&mut self, now: u64, passed: bool) -> Option<As> {
        self.settle(now);
        match &mut self.doing {
            Doing::Closed | Doing::ForcedClosed => Some(As::Counted),
            Doing::Ramping => passed.then_some(As::Counted),
            Doing::Disabled => Some(As::Unobserved),
            Doing::ForcedOpen => None,
            Doing::Open { asked_for } => {
                let asked_for = *asked_for;
                if self.lasted(now) < self.open_time(asked_for) {
                    return None;
                }
                let waiting = 1;
                self.begin(
                    Doing::HalfOpen(Probing {
                        waiting,
                        ..Probing::default()
                    }),
                    now,
                );
                Some(As::Probe { streams: false })
            }
            Doing::HalfOpen(probing) => {
                let under_way = probing.waiting + probing.streaming;
                let late = now.saturating_sub(self.since) >= self.setup.max_wait / 2;
                if under_way >= self.setup.probes.into() || under_way > 0 && late {
                    return None;
                }
                probing.waiting += 1;
                Some(As::Probe { streams: false })
            }
        }
    }

    fn live(&self, now: u64) -> Vec<Call> {
        match self.setup.window {
            Window::Calls(length) => {
                let skipped = self.calls.len().saturating_sub(length as usize);
                self.calls[skipped..].to_vec()
            }
            Window::Time(_) => {
                let part = |at: u64| at.saturating_sub(self.since + 1) / self.width();
                let last = part(now);
                let live = |call: &&Call| part(call.at) <= last && part(call.at) + 10 > last;
                self.calls.iter().filter(live).copied().collect()
            }
            _ => unreachable!("no other window"),
        }
    }

    fn width(&self) -> u64 {
        match self.setup.window {
            Window::Time(time) => (time.as_millis() as u64).div_ceil(10),
            _ => 1,
        }
    }

    fn rates(&self) -> bool {
        self.setup.failure_rate.is_some() || self.setup.slow_rate.is_some()
    }

    /// A call that counts for this state has ended.
    fn count(&mut self, now: u64, outcome: Outcome, took: u64, asks: u64) {
        let slow = self.setup.slow_rate.is_some() && took >= self.setup.slow;
        let failed = match outcome {
            Outcome::Success => false,
            Outcome::Failure => true,
            Outcome::Throttled(_) => match self.setup.throttling {
                Throttling::Counted => false,
                Throttling::Failure => true,
                _ => return,
            },
            Outcome::Ignored if slow => false,
            Outcome::Ignored => return,
        };
        match outcome {
            Outcome::Success => self.in_a_row = 0,
            Outcome::Failure => self.in_a_row += 1,
            _ => {}
        }
        if self.rates() {
            self.calls.push(Call {
                at: now,
                failed,
                slow,
            });
        }
        if failed && now > self.since {
            let most = self.setup.cap.div_ceil(1000);
            self.asked.push((now, asks.min(most)));
        }
        if self.doing == Doing::ForcedClosed {
            return;
        }
        let live = self.live(now);
        let reached = |tenths: Option<u32>, part: usize| {
            tenths.is_some_and(|tenths| {
                live.len() >= self.setup.min_calls as usize
                    && part * 10 >= live.len() * tenths as usize
            })
        };
        let is = |what: fn(&Call) -> bool| live.iter().filter(|call| what(call)).count();
        let in_a_row = outcome == Outcome::Failure
            && self
                .setup
                .consecutive
                .is_some_and(|failures| self.in_a_row >= failures);
        let by_failures = failed && reached(self.setup.failure_rate, is(|call| call.failed));
        let by_slowness = slow && reached(self.setup.slow_rate, is(|call| call.slow));
        if in_a_row || by_failures || by_slowness {
            assert!(in_a_row || live.len() >= self.setup.min_calls as usize);
            if self.lasted(now) >= self.setup.forget {
                self.opened = 0;
            }
            // The latest end, in seconds begun.
            let left = |(at, asked): &(u64, u64)| asked.saturating_sub((now - at) / 1000);
            let asked = self.asked.iter().map(left).max().unwrap_or(0);
            self.open(now, asks.max(asked));
        }
    }

    fn probe_ended(
        &mut self,
        now: u64,
        held: Held,
        paused: bool,
        outcome: Outcome,
        took: u64,
        asks: u64,
    ) {
        let slow = self.setup.slow_rate.is_some() && took >= self.setup.slow;
        let Doing::HalfOpen(probing) = &mut self.doing else {
            unreachable!("of this state");
        };
        match held {
            Held::Streaming => probing.streaming -= 1,
            Held::Waiting => probing.waiting -= 1,
            Held::Nothing => {}
        }
        match outcome {
            Outcome::Success if !slow => {
                probing.lost = false;
                probing.succeeded += 1;
                if probing.succeeded >= self.setup.successes.into() {
                    self.close(now);
                } else if probing.waiting + probing.streaming == 0 {
                    let probing = probing.clone();
                    self.begin(Doing::HalfOpen(probing), now);
                }
            }
            Outcome::Ignored if !slow => probing.lost |= held == Held::Waiting && !paused,
            _ => {
                self.opened = (self.opened + 1).min(31);
                self.open(now, asks);
            }
        }
        self.proved_by_now(now);
    }

    fn opened_in_a_row(&self, now: u64) -> u32 {
        match self.doing {
            Doing::Open { .. } | Doing::HalfOpen(_) => self.opened + 1,
            _ if self.lasted(now) >= self.setup.forget => 0,
            _ => self.opened,
        }
    }

    fn state(&self) -> State {
        match self.doing {
            Doing::Closed => State::Closed,
            Doing::Ramping => State::Ramping,
            Doing::Open { .. } => State::Open,
            Doing::HalfOpen(_) => State::HalfOpen,
            Doing::ForcedOpen => State::ForcedOpen,
            Doing::ForcedClosed => State::ForcedClosed,
            Doing::Disabled => State::Disabled,
        }
    }
}

/// How it ended, and how many seconds it asks for.
fn ended(outcome: Outcome, took: u64, asks: Option<u64>) -> (Ended, u64) {
    let ended = Ended::with(outcome).latency(ms(took));
    let seconds = |wait: Duration| wait.as_millis().div_ceil(1000) as u64;
    match (outcome, asks) {
        (Outcome::Failure, Some(asks)) => (ended.retry_after(ms(asks)), seconds(ms(asks))),
        (Outcome::Throttled(Some(wait)), _) => (ended, seconds(wait)),
        _ => (ended, 0),
    }
}

/// A call under way, with what the plain machine takes it for.
struct Flying {
    admission: Admission,
    as_what: As,
    since: u64,
    configured: usize,
    awaited: Option<Awaited>,
    number: usize,
}

struct Both {
    breaker: Breaker,
    model: Model,
    start: Instant,
    now: u64,
    configured: usize,
    calls: usize,
    flying: Vec<Flying>,
}

/// The time of the plain machine when the breaker was made: another state may follow in the same millisecond.
const BEGINNING: u64 = 1;

impl Both {
    fn new(setup: Setup) -> Self {
        Self {
            breaker: Breaker::new("orders", &setup.config()).unwrap(),
            model: Model {
                setup,
                doing: Doing::Closed,
                since: BEGINNING - 1,
                opened: 0,
                in_a_row: 0,
                calls: Vec::new(),
                asked: Vec::new(),
                followed: Vec::new(),
            },
            start: Instant::now(),
            now: BEGINNING,
            configured: 0,
            calls: 0,
            flying: Vec::new(),
        }
    }

    fn at(&self, now: u64) -> Instant {
        self.start + ms(now - BEGINNING)
    }

    fn instant(&self) -> Instant {
        self.at(self.now)
    }

    fn admit(&mut self, now: u64) {
        let answer = self.breaker.admit(self.at(now));
        let expected = self.model.admit(now, answer.is_ok());
        match (answer, expected) {
            (Ok(admission), Some(as_what)) => {
                assert_eq!(admission.is_probe(), matches!(as_what, As::Probe { .. }));
                let since = self.model.since;
                let configured = self.configured;
                self.calls += 1;
                self.flying.push(Flying {
                    admission,
                    as_what,
                    since,
                    configured,
                    awaited: None,
                    number: self.calls,
                });
            }
            (Err(refused), None) => {
                assert_eq!(refused.state, self.model.state());
                if let Doing::Open { asked_for } = self.model.doing {
                    let left = self.model.open_time(asked_for) - self.model.lasted(now);
                    assert_eq!(refused.retry_after, ms(left));
                }
            }
            (answer, expected) => panic!("{answer:?} where {expected:?} was expected"),
        }
    }

    fn take(&mut self, which: &Index) -> Option<Flying> {
        if self.flying.is_empty() {
            return None;
        }
        let which = which.index(self.flying.len());
        Some(self.flying.swap_remove(which))
    }

    /// The last call says from now on whom it waits for.
    fn follow(&mut self) {
        let awaited = Awaited::new(self.instant());
        let flying = self.flying.last_mut().unwrap();
        flying.admission.follow(&awaited);
        flying.awaited = Some(awaited);
        if let As::Probe { .. } = flying.as_what {
            self.model.followed.push(Followed {
                number: flying.number,
                state: flying.since,
                aside: false,
                since: Some(self.now),
            });
        }
    }

    fn waits(&mut self, which: &Index, for_the_upstream: bool) {
        let now = self.instant();
        let mut told: Vec<&Flying> = self.flying.iter().collect();
        told.retain(|flying| flying.awaited.is_some());
        if told.is_empty() {
            return;
        }
        let flying = told[which.index(told.len())];
        let awaited = flying.awaited.as_ref().unwrap();
        match for_the_upstream {
            true => awaited.starts(now),
            false => awaited.pauses(),
        }
        if let Some(probe) = self.model.followed(Some(flying.number)) {
            probe.since = for_the_upstream.then_some(self.now);
        }
    }

    /// Whether the state in which it was admitted still is.
    fn counts(&self, flying: &Flying) -> bool {
        flying.since == self.model.since && flying.configured == self.configured
    }

    /// What a probe holds, and whether the state in which it counts still is.
    fn stands(&mut self, flying: &Flying) -> (Held, bool) {
        let since = self.model.since;
        match (&flying.as_what, self.model.followed(Some(flying.number))) {
            (_, Some(probe)) if probe.aside => (Held::Nothing, probe.state == since),
            (As::Probe { streams: true }, _) => (Held::Streaming, self.counts(flying)),
            _ => (Held::Waiting, self.counts(flying)),
        }
    }

    /// Whether it waits for its client; it is followed no longer.
    fn forget(&mut self, flying: &Flying) -> bool {
        let probe = self.model.followed(Some(flying.number));
        let paused = probe.is_some_and(|probe| probe.since.is_none());
        let followed = &mut self.model.followed;
        followed.retain(|probe| probe.number != flying.number);
        paused
    }

    fn act(&mut self, action: &Action) {
        match action {
            Action::Later(later) => self.now = (self.now + later).min(1 << 39),
            Action::AdmitInThePast(ago) => self.admit(self.now.saturating_sub(*ago).max(BEGINNING)),
            Action::Admit => self.admit(self.now),
            Action::Follow => {
                let calls = self.calls;
                self.admit(self.now);
                if self.calls > calls {
                    self.follow();
                }
            }
            Action::Pauses(which) => self.waits(which, false),
            Action::Starts(which) => self.waits(which, true),
            Action::Answered(which) => {
                if let Some(mut flying) = self.take(which) {
                    flying.admission.answered(self.instant());
                    if flying.as_what == (As::Probe { streams: false })
                        && flying.configured == self.configured
                    {
                        self.model.settle(self.now);
                    }
                    let (held, counts) = self.stands(&flying);
                    if let As::Probe { streams: false } = flying.as_what {
                        if held == Held::Waiting {
                            flying.as_what = As::Probe { streams: true };
                            self.forget(&flying);
                        }
                        if let (true, Doing::HalfOpen(probing)) = (counts, &mut self.model.doing) {
                            if held == Held::Waiting {
                                probing.waiting -= 1;
                                probing.streaming += 1;
                            }
                            probing.lost = false;
                            self.model.proved_by_now(self.now);
                        }
                    }
                    self.flying.push(flying);
                }
            }
            Action::Record(which, outcome, took, asks) => {
                if let Some(flying) = self.take(which) {
                    let is_probe = matches!(flying.as_what, As::Probe { .. });
                    if is_probe && flying.configured == self.configured {
                        self.model.settle(self.now);
                    }
                    let (held, counts) = self.stands(&flying);
                    let paused = self.forget(&flying);
                    let (ended, asks) = ended(*outcome, *took, *asks);
                    flying.admission.record(ended, self.instant());
                    match flying.as_what {
                        As::Counted if counts => self.model.count(self.now, *outcome, *took, asks),
                        As::Probe { .. } if counts => {
                            let (now, model) = (self.now, &mut self.model);
                            model.probe_ended(now, held, paused, *outcome, *took, asks);
                        }
                        _ => {}
                    }
                }
            }
            Action::Drop(which) => {
                if let Some(flying) = self.take(which) {
                    let (held, counts) = self.stands(&flying);
                    let paused = self.forget(&flying);
                    drop(flying.admission);
                    if let (As::Probe { .. }, true) = (flying.as_what, counts) {
                        // A drop asks the clock itself, and that stands still.
                        let model = &mut self.model;
                        model.probe_ended(BEGINNING, held, paused, Outcome::Ignored, 0, 0);
                    }
                }
            }
            Action::ForceOpen => {
                self.breaker.force_open(self.instant());
                self.force(Doing::ForcedOpen);
            }
            Action::ForceClosed => {
                self.breaker.force_closed(self.instant());
                self.force(Doing::ForcedClosed);
            }
            Action::Disable => {
                self.breaker.disable(self.instant());
                self.force(Doing::Disabled);
            }
            Action::Reset => {
                self.breaker.reset(self.instant());
                self.force(Doing::Closed);
            }
            Action::Reconfigure(setup) => {
                self.breaker
                    .reconfigure(&setup.config(), self.instant())
                    .unwrap();
                self.configured += 1;
                self.model.setup = *setup;
                self.model.forget_calls();
                self.model.followed.clear();
                if matches!(self.model.doing, Doing::HalfOpen(_)) {
                    let probing = Probing::default();
                    self.model.begin(Doing::HalfOpen(probing), self.now);
                }
            }
        }
    }

    fn force(&mut self, doing: Doing) {
        self.model.opened = 0;
        self.model.begin(doing, self.now);
    }

    fn compare(&self) {
        let mut model = Model {
            doing: self.model.doing.clone(),
            calls: self.model.calls.clone(),
            asked: Vec::new(),
            followed: self.model.followed.clone(),
            ..self.model
        };
        model.settle(self.now);
        let snapshot = self.breaker.snapshot(self.instant());
        assert_eq!(snapshot.state, model.state());
        assert_eq!(u32::from(snapshot.opened), model.opened_in_a_row(self.now));
        assert_eq!(snapshot.consecutive_failures, model.in_a_row);
        assert_eq!(snapshot.lasted, ms(model.lasted(self.now)));
        let live = model.live(self.now);
        assert_eq!(snapshot.calls as usize, live.len());
        let failed = live.iter().filter(|call| call.failed).count();
        let slow = live.iter().filter(|call| call.slow).count();
        assert_eq!(
            (snapshot.failed as usize, snapshot.slow as usize),
            (failed, slow)
        );
        match &model.doing {
            Doing::HalfOpen(probing) => {
                assert_eq!(
                    u32::from(snapshot.probes),
                    probing.waiting + probing.streaming
                );
                assert_eq!(u32::from(snapshot.probes_succeeded), probing.succeeded);
                // Never more than allowed: counted by who holds one.
                let held = |flying: &&Flying| {
                    flying.since == model.since
                        && flying.configured == self.configured
                        && matches!(flying.as_what, As::Probe { .. })
                };
                let held = self.flying.iter().filter(held).count();
                assert!(held <= usize::from(self.model.setup.probes));
                assert_eq!(held, usize::from(snapshot.probes));
            }
            _ => assert_eq!((snapshot.probes, snapshot.probes_succeeded), (0, 0)),
        }
    }

    /// Whatever came before, an upstream that works again is called again, though it be slow and the calls many.
    fn recovers(mut self) {
        if matches!(
            self.model.doing,
            Doing::ForcedOpen | Doing::ForcedClosed | Doing::Disabled
        ) {
            return;
        }
        // Those under way never end: nobody gives anything back.
        let setup = self.model.setup;
        // One that is alone may take as long as is waited, of several each half of it.
        let takes = match setup.probes {
            1 => setup.max_wait - 1,
            _ => setup.max_wait / 2 - 1,
        };
        let step = takes / 3;
        let takes = step * 3;
        let mut under_way: Vec<(u64, Admission)> = Vec::new();
        for _ in 0..1_000 {
            let now = self.now;
            for (_, admission) in under_way.extract_if(.., |(began, _)| *began + takes <= now) {
                admission.record(Ended::with(Outcome::Success), self.instant());
            }
            let snapshot = self.breaker.snapshot(self.instant());
            match snapshot.state {
                State::Closed => return,
                State::Open => self.now += snapshot.open_for.unwrap().as_millis() as u64,
                State::Ramping => self.now += setup.ramp,
                _ => {}
            }
            // Another one each moment, so that they end one after the other.
            if let Ok(admission) = self.breaker.admit(self.instant()) {
                under_way.push((self.now, admission));
            }
            self.now += step;
        }
        panic!("wedged: {:?}", self.breaker.snapshot(self.instant()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn does_what_a_plain_machine_does_and_is_never_wedged(
        setup in setups(),
        actions in proptest::collection::vec(actions(), 0..120),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let mut both = Both::new(setup);
        for action in &actions {
            both.act(action);
            both.compare();
        }
        both.recovers();
    }
}
