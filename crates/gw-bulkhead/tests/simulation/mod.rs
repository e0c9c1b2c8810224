//! A server behind lanes, in virtual time: what the clock says is computed, so hours pass in seconds and each run with the
//! same seed is the same. The lanes are the real ones.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "test support: a broken expectation stops the test"
)]
#![allow(dead_code, reason = "no one who simulates uses all of it")]

pub(crate) mod published;
pub(crate) mod scenarios;
pub(crate) mod server;
pub(crate) mod trace;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;
use gw_bulkhead::limit::{Adaptive, Limit, Outcome};
use gw_bulkhead::{LaneConfig, LaneId, Lanes, Permit};
use tokio::time::Instant;

use self::server::{Job, Server};
use self::trace::{Second, Trace};

/// What changes with time: the value that holds from each of these moments on, in seconds.
#[derive(Debug, Clone)]
pub(crate) struct Schedule(Vec<(f64, f64)>);

impl Schedule {
    pub(crate) fn always(value: f64) -> Self {
        Self(vec![(0.0, value)])
    }

    pub(crate) fn then(mut self, at: f64, value: f64) -> Self {
        self.0.push((at, value));
        self
    }

    pub(crate) fn at(&self, at: f64) -> f64 {
        let after = self.0.partition_point(|(from, _)| *from <= at);
        self.0[after - 1].1
    }
}

/// Who asks, and who serves.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// Requests per second, which come at random moments.
    pub(crate) load: Schedule,
    /// How many requests the server works on at once; the others queue in it.
    pub(crate) workers: Schedule,
    /// The mean time of work on a request, in seconds.
    pub(crate) work: Schedule,
    /// How much the work on requests differs: 0 not at all, 1 as exponential times do.
    pub(crate) spread: f64,
    /// The share of requests that never end by themselves. They keep no worker busy.
    pub(crate) hangs: f64,
    /// After how long a request is given up; the deadline is ours, so it is a drop.
    pub(crate) timeout: Option<f64>,
    /// Whether that counts as an answer after all.
    pub(crate) timeouts_answer: bool,
    /// How many lanes the requests are in, each with its own limit and an equal share of them.
    pub(crate) lanes: usize,
    /// In seconds.
    pub(crate) length: f64,
    pub(crate) seed: u64,
}

impl Scenario {
    /// A server with 40 workers that each take 100 ms, and so many requests for each that it can serve.
    pub(crate) fn of_load(load: f64, length: f64) -> Self {
        Self {
            load: Schedule::always(400.0 * load),
            workers: Schedule::always(40.0),
            work: Schedule::always(0.1),
            spread: 0.5,
            hangs: 0.0,
            timeout: None,
            timeouts_answer: false,
            lanes: 1,
            length,
            seed: 1,
        }
    }

    /// Runs it behind its lanes.
    pub(crate) fn run(&self, limit: Adaptive) -> Trace {
        self.run_limit(limit.seed(self.seed).into())
    }

    pub(crate) fn run_limit(&self, limit: Limit) -> Trace {
        Simulation::new(self, limit).run()
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The server has done the work on this request.
    Done(usize),
    /// This request is given up if it is not answered; they are told apart by serial numbers.
    TimedOut(usize, u64),
    /// A request comes.
    Arrival,
    /// A second is over.
    Tick,
}

struct Request {
    lane: usize,
    serial: u64,
    started: u64,
    job: Job,
    _permit: Permit,
}

struct Simulation<'a> {
    scenario: &'a Scenario,
    lanes: Lanes,
    ids: Vec<LaneId>,
    server: Server,
    /// By slot.
    requests: Vec<Option<Request>>,
    free: Vec<usize>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    serial: u64,
    rng: Rng,
    start: Instant,
    second: Second,
    trace: Trace,
}

const NANOS: f64 = 1e9;

impl<'a> Simulation<'a> {
    fn new(scenario: &'a Scenario, limit: Limit) -> Self {
        // With the clock paused the lanes begin at the very start, so that each run is the same.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let share = 1.0 / scenario.lanes as f64;
        let config = |lane: usize| LaneConfig::new(lane.to_string()).guaranteed(share);
        let (lanes, start) = runtime.block_on(async {
            let lanes = Lanes::new(limit, (0..scenario.lanes).map(config)).unwrap();
            (lanes, Instant::now())
        });
        Self {
            scenario,
            ids: (0..scenario.lanes)
                .map(|lane| lanes.find(&lane.to_string()).unwrap())
                .collect(),
            lanes,
            server: Server::default(),
            requests: Vec::new(),
            free: Vec::new(),
            events: BinaryHeap::new(),
            serial: 0,
            rng: Rng::with_seed(scenario.seed),
            start,
            second: Second::default(),
            trace: Trace::default(),
        }
    }

    fn run(mut self) -> Trace {
        self.schedule(0, Event::Arrival);
        self.schedule(NANOS as u64, Event::Tick);
        let end = (self.scenario.length * NANOS) as u64;
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now > end {
                break;
            }
            match event {
                Event::Arrival => self.arrival(now),
                Event::Done(slot) => self.done(now, slot),
                Event::TimedOut(slot, serial) => self.timed_out(now, slot, serial),
                Event::Tick => self.tick(now),
            }
        }
        self.trace
    }

    fn schedule(&mut self, at: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, event)));
    }

    fn arrival(&mut self, now: u64) {
        let load = self.scenario.load.at(now as f64 / NANOS);
        // Nobody comes: look again in a while.
        let pause = if load > 0.0 {
            -(1.0 - self.rng.f64()).ln() / load
        } else {
            0.01
        };
        self.schedule(now + (pause * NANOS) as u64, Event::Arrival);
        if load == 0.0 {
            return;
        }
        self.second.offered += 1;
        let lane = self.rng.usize(..self.ids.len());
        let Some(permit) = self.lanes.try_admit(self.ids[lane]) else {
            self.second.refused += 1;
            return;
        };
        self.serial += 1;
        let request = Request {
            lane,
            serial: self.serial,
            started: now,
            job: self.job(now),
            _permit: permit,
        };
        let slot = self.free.pop().unwrap_or_else(|| {
            self.requests.push(None);
            self.requests.len() - 1
        });
        if let Some(timeout) = self.scenario.timeout {
            let at = now + (timeout * NANOS) as u64;
            self.schedule(at, Event::TimedOut(slot, request.serial));
        }
        if self.rng.f64() >= self.scenario.hangs {
            self.server.queue(slot, request.job);
        }
        self.requests[slot] = Some(request);
        self.serve(now);
    }

    fn job(&mut self, now: u64) -> Job {
        let mean = self.scenario.work.at(now as f64 / NANOS);
        let exponential = -(1.0 - self.rng.f64()).ln();
        let spread = self.scenario.spread;
        let work = mean * ((1.0 - spread) + spread * exponential);
        Job {
            nanos: (work * NANOS) as u64,
        }
    }

    /// Gives idle workers something to do.
    fn serve(&mut self, now: u64) {
        let workers = self.scenario.workers.at(now as f64 / NANOS) as usize;
        while let Some((slot, job)) = self.server.start(workers) {
            self.schedule(now + job.nanos, Event::Done(slot));
        }
    }

    fn done(&mut self, now: u64, slot: usize) {
        self.server.finish(slot);
        if let Some(request) = self.requests[slot].take() {
            self.second.answered(now - request.started);
            if self.second.by_lane.len() <= request.lane {
                self.second.by_lane.resize(request.lane + 1, 0);
            }
            self.second.by_lane[request.lane] += 1;
            self.record(&request, now, Outcome::Answered);
        }
        self.free.push(slot);
        self.serve(now);
    }

    fn timed_out(&mut self, now: u64, slot: usize, serial: u64) {
        let waits = |request: &mut Request| request.serial == serial;
        let Some(request) = self.requests[slot].take_if(waits) else {
            return;
        };
        self.second.dropped += 1;
        let outcome = if self.scenario.timeouts_answer {
            Outcome::Answered
        } else {
            Outcome::Dropped
        };
        self.record(&request, now, outcome);
        // What has begun goes on: the server does not know that nobody waits any more.
        if self.server.forget(slot) {
            self.free.push(slot);
        }
        self.serve(now);
    }

    /// Before the permit is given back.
    fn record(&self, request: &Request, ended: u64, outcome: Outcome) {
        let at = |nanos| self.start + Duration::from_nanos(nanos);
        self.lanes.record(
            self.ids[request.lane],
            at(request.started),
            at(ended),
            outcome,
        );
    }

    fn tick(&mut self, now: u64) {
        self.schedule(now + NANOS as u64, Event::Tick);
        let second = std::mem::take(&mut self.second);
        self.trace.push(second.over(&self.lanes.snapshot().lanes));
    }
}
