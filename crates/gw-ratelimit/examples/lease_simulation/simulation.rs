//! Instances with leases against one exact limit, on the same requests.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gw_ratelimit::gcra::Gcra;
use gw_ratelimit::redis::lease::{Asked, Grant, Lease, Origin, grant};
use gw_ratelimit::{Quota, Verdict};

const SECOND: u64 = 1_000_000_000;
/// What is simulated of each case.
const LENGTH: u64 = 10 * SECOND;
/// A question is on its way so long, and its answer as well.
const HALF_TRIP: u64 = SECOND / 2_000;
/// The store's clock is ahead of the instances' by this.
const AHEAD: u64 = 1_000_000 * SECOND;

/// How requests come: always twice as many as the limit lets pass, unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// As many to each instance, at random times.
    Even,
    /// The same, ten times as many as the limit lets pass.
    Flood,
    /// The same, but only nine tenths of what the limit lets pass.
    EvenBelow,
    /// Nine in ten to one instance.
    OneHot,
    /// A tenth of a second at ten times the rate to all instances, then silence, once a second.
    Bursts,
}

impl Shape {
    pub(crate) const ALL: [Self; 5] = [
        Self::Even,
        Self::Flood,
        Self::EvenBelow,
        Self::OneHot,
        Self::Bursts,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Even => "even, 2× the rate",
            Self::Flood => "even, 10× the rate",
            Self::EvenBelow => "even, 0.9× the rate",
            Self::OneHot => "one hot instance, 2×",
            Self::Bursts => "bursts, 1×",
        }
    }

    /// Requests a second, as times the rate.
    fn load(self, now: u64) -> f64 {
        match self {
            Self::Even | Self::OneHot => 2.0,
            Self::Flood => 10.0,
            Self::EvenBelow => 0.9,
            Self::Bursts if now % SECOND < SECOND / 10 => 10.0,
            Self::Bursts => 0.0,
        }
    }

    fn instance(self, random: &mut Random, instances: usize) -> usize {
        match self {
            Self::OneHot if random.unit() < 0.9 => 0,
            _ => (random.unit() * instances as f64) as usize % instances,
        }
    }
}

/// What came of one case.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    /// What the exact limit admitted.
    pub(crate) exact: u64,
    /// What the instances admitted.
    pub(crate) leased: u64,
    /// The most cells by which what was admitted was above the quota, over all stretches of time.
    pub(crate) over: u64,
    /// The most cells by which the instances were behind the exact limit at any time.
    pub(crate) behind: u64,
    pub(crate) questions: u64,
}

/// Runs one case: `instances` that lease up to `most` cells, none if it is 0.
pub(crate) fn run(quota: Quota, shape: Shape, instances: usize, most: u32) -> Outcome {
    let gcra = Gcra::new(quota).expect("the quotas here can be enforced");
    let mut world = World::new(gcra, instances, most);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let rate = f64::from(quota.cells()) / quota.period().as_secs_f64();
    let mut next = Some(1);
    while let Some(at) = next.filter(|at| *at < LENGTH) {
        next = arrival_after(at, rate, shape, &mut random);
        if shape.load(at) > 0.0 {
            let instance = shape.instance(&mut random, instances);
            world.until(at);
            world.request(instance, at);
        }
    }
    world.until(u64::MAX);
    world.outcome
}

/// Poisson arrivals; while there are none, a look at each millisecond.
fn arrival_after(now: u64, rate: f64, shape: Shape, random: &mut Random) -> Option<u64> {
    let load = shape.load(now) * rate;
    let pause = if load > 0.0 {
        random.exponential() / load * SECOND as f64
    } else {
        SECOND as f64 / 1_000.0
    };
    now.checked_add((pause as u64).max(1))
}

/// The instances, the store and the way between them.
struct World {
    gcra: Gcra,
    most: u32,
    leases: Vec<Lease>,
    /// Whether a question that leases cells is under way.
    fetching: Vec<bool>,
    /// The store's TAT, on its own clock.
    tat: u64,
    /// The exact limit's.
    exact: u64,
    /// That of what the instances admitted, were it never refused.
    admitted: u64,
    events: BinaryHeap<Reverse<Event>>,
    /// Orders events of one time.
    number: u64,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at: u64,
    number: u64,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A question is at the store.
    Asked(Question),
    /// Its answer is at the instance.
    Answered {
        question: Question,
        debt: u64,
        leased: u32,
        clock: u64,
        limited: bool,
    },
    /// Cells that were not spent for long are given back.
    Tended { instance: usize },
    /// They are at the store.
    Returned { end: u64, start: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    instance: usize,
    sent: u64,
    cost: u32,
    extra: u32,
}

impl World {
    fn new(gcra: Gcra, instances: usize, most: u32) -> Self {
        let mut world = Self {
            gcra,
            most,
            leases: vec![Lease::default(); instances],
            fetching: vec![false; instances],
            tat: 0,
            exact: 0,
            admitted: 0,
            events: BinaryHeap::new(),
            number: 0,
            outcome: Outcome {
                requests: 0,
                exact: 0,
                leased: 0,
                over: 0,
                behind: 0,
                questions: 0,
            },
        };
        let hold = Lease::HOLD.as_nanos() as u64;
        for instance in 0..instances {
            // Not all at one time.
            let at = hold + hold * instance as u64 / instances as u64;
            world.after(at, Kind::Tended { instance });
        }
        world
    }

    fn after(&mut self, at: u64, kind: Kind) {
        let number = self.number;
        self.number += 1;
        self.events.push(Reverse(Event { at, number, kind }));
    }

    /// What happens up to `now`.
    fn until(&mut self, now: u64) {
        while let Some(Reverse(event)) = self.events.peek().copied() {
            if event.at > now {
                return;
            }
            self.events.pop();
            match event.kind {
                Kind::Asked(question) => self.asked(question, event.at),
                Kind::Answered {
                    question,
                    debt,
                    leased,
                    clock,
                    limited,
                } => {
                    let lease = &mut self.leases[question.instance];
                    let asked = Asked {
                        cost: question.cost,
                        extra: question.extra,
                        sent: question.sent,
                    };
                    let grant = Grant {
                        debt,
                        leased,
                        clock,
                        limited,
                        origin: Origin::default(),
                    };
                    lease.told(&self.gcra, asked, grant, event.at);
                    if question.extra > 0 {
                        self.fetching[question.instance] = false;
                    }
                }
                Kind::Tended { instance } => self.tended(instance, event.at),
                Kind::Returned { end, start } if self.tat == end => self.tat = start,
                Kind::Returned { .. } => {}
            }
        }
    }

    fn request(&mut self, instance: usize, now: u64) {
        self.outcome.requests += 1;
        if let Verdict::Allow { state: tat } = self.gcra.decide(self.exact, now, 1) {
            self.exact = tat;
            self.outcome.exact += 1;
        }
        let lease = &mut self.leases[instance];
        if let Verdict::Allow { .. } = lease.decide(&self.gcra, 1, now) {
            if lease.spend(&self.gcra, 1, now).cells() == 1 {
                let wants_more = lease.is_half_gone(now);
                self.admit(now);
                if wants_more && !self.fetching[instance] {
                    self.ask(instance, 0, now);
                }
            } else {
                self.ask(instance, 1, now);
            }
        }
        let behind = self.outcome.exact.saturating_sub(self.outcome.leased);
        self.outcome.behind = self.outcome.behind.max(behind);
    }

    fn ask(&mut self, instance: usize, cost: u32, now: u64) {
        let extra = if self.fetching[instance] {
            0
        } else {
            self.leases[instance].extra(&self.gcra, self.most, now)
        };
        if cost == 0 && extra == 0 {
            return;
        }
        self.fetching[instance] |= extra > 0;
        self.outcome.questions += 1;
        let question = Question {
            instance,
            sent: now,
            cost,
            extra,
        };
        self.after(now + HALF_TRIP, Kind::Asked(question));
    }

    fn asked(&mut self, question: Question, now: u64) {
        let clock = now + AHEAD;
        let Question { cost, extra, .. } = question;
        let (verdict, leased) = grant(&self.gcra, self.tat, clock, cost, extra);
        if let Verdict::Allow { state: tat } = verdict {
            self.tat = tat;
            if cost > 0 {
                self.admit(now);
            }
        }
        let answer = Kind::Answered {
            question,
            debt: self.tat.saturating_sub(clock),
            leased,
            clock,
            limited: !matches!(verdict, Verdict::Allow { .. }),
        };
        self.after(now + HALF_TRIP, answer);
    }

    fn tended(&mut self, instance: usize, now: u64) {
        let lease = &mut self.leases[instance];
        let mut at = now + HALF_TRIP;
        let mut returned = Vec::new();
        if lease.is_stale(now) {
            while let Some(cells) = lease.take_unspent(now) {
                returned.push(cells);
            }
        }
        for cells in returned {
            let (end, start) = (cells.end, cells.start);
            self.after(at, Kind::Returned { end, start });
            at += 2 * HALF_TRIP;
        }
        if now < LENGTH {
            let again = now + Lease::HOLD.as_nanos() as u64;
            self.after(again, Kind::Tended { instance });
        }
    }

    fn admit(&mut self, now: u64) {
        self.outcome.leased += 1;
        self.admitted = self.admitted.max(now) + self.gcra.interval();
        let over = (self.admitted - now).saturating_sub(self.gcra.tolerance());
        self.outcome.over = self.outcome.over.max(over.div_ceil(self.gcra.interval()));
    }
}

/// Numbers that look random and are the same each time (SplitMix64).
struct Random(u64);

impl Random {
    /// At least 0, below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Exponential with the mean 1, by comparisons alone (von Neumann): logarithms differ from platform to platform.
    fn exponential(&mut self) -> f64 {
        let mut whole = 0.0;
        loop {
            let first = self.unit();
            let (mut last, mut falling) = (first, 1);
            loop {
                let next = self.unit();
                if next > last {
                    break;
                }
                (last, falling) = (next, falling + 1);
            }
            if falling % 2 == 1 {
                return whole + first;
            }
            whole += 1.0;
        }
    }
}
