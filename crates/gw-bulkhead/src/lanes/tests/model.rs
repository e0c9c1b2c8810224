//! The lanes against a model that is so simple that it is evidently right: lists, one thread, everything recomputed.

use std::collections::VecDeque;

use gw_core::context::Criticality;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
struct Shape {
    total: u32,
    lanes: Vec<(u32, u32, u32, Criticality)>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive(usize),
    Leave(usize),
    Abandon(usize),
    Resize(u32),
}

struct Model {
    total: u32,
    lanes: Vec<ModelLane>,
    clock: u32,
    served: u32,
}

struct ModelLane {
    guaranteed_percent: u32,
    cap_percent: u32,
    queue: usize,
    criticality: Criticality,
    running: Vec<u32>,
    waiting: VecDeque<u32>,
    /// When its next turn starts, and when the last one was.
    turn: (u32, u32),
}

impl Model {
    fn part(&self, percent: u32) -> usize {
        (percent * self.total).div_ceil(100).max(1) as usize
    }

    fn fits(&self, lane: &ModelLane) -> bool {
        let in_flight: usize = self.lanes.iter().map(|lane| lane.running.len()).sum();
        lane.running.len() < self.part(lane.cap_percent)
            && (lane.running.len() < self.part(lane.guaranteed_percent)
                || in_flight < self.total as usize)
    }

    fn arrive(&mut self, lane: usize, id: u32) -> Result<(), Reason> {
        let fits = self.fits(&self.lanes[lane]);
        let lane = &mut self.lanes[lane];
        if fits && lane.waiting.is_empty() {
            lane.running.push(id);
        } else if lane.queue == 0 {
            return Err(Reason::LaneFull);
        } else if lane.waiting.len() == lane.queue {
            return Err(Reason::QueueFull);
        } else {
            if lane.waiting.is_empty() {
                lane.turn.0 = lane.turn.0.max(self.clock);
            }
            lane.waiting.push_back(id);
        }
        Ok(())
    }

    fn remove(&mut self, id: u32) {
        for lane in &mut self.lanes {
            lane.running.retain(|other| *other != id);
            lane.waiting.retain(|other| *other != id);
        }
        self.serve();
    }

    fn serve(&mut self) {
        loop {
            // The one whose turn starts first, then the more critical one, then the one served longest ago.
            let mut order: Vec<_> = (0..self.lanes.len())
                .filter(|lane| !self.lanes[*lane].waiting.is_empty())
                .collect();
            order.sort_by_key(|lane| {
                let lane = &self.lanes[*lane];
                let (next, last) = lane.turn;
                (next, std::cmp::Reverse(lane.criticality), last)
            });
            let fits = |lane: &usize| self.fits(&self.lanes[*lane]);
            let Some(at) = order.iter().position(fits) else {
                return;
            };
            self.served += 1;
            self.clock = self.lanes[order[at]].turn.0;
            // What those in front cannot use is not saved up.
            for over in &order[..at] {
                let turn = &mut self.lanes[*over].turn.0;
                *turn = self.clock.max(*turn);
            }
            let lane = &mut self.lanes[order[at]];
            let cost = match lane.criticality {
                CriticalPlus => 1,
                Critical => 4,
                _ => 64,
            };
            lane.turn = (lane.turn.0 + cost, self.served);
            let id = lane.waiting.pop_front().unwrap();
            lane.running.push(id);
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    let criticality = prop::sample::select(vec![Sheddable, Critical, CriticalPlus]);
    let lane = (0..=33u32, 0..=67u32, 0..=3u32, criticality)
        .prop_map(|(g, more, queue, criticality)| (g, (g + more).max(1), queue, criticality));
    (1..=12u32, prop::collection::vec(lane, 1..=3))
        .prop_map(|(total, lanes)| Shape { total, lanes })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..3usize).prop_map(Step::Arrive),
        4 => any::<usize>().prop_map(Step::Leave),
        1 => any::<usize>().prop_map(Step::Abandon),
        1 => (1..=12u32).prop_map(Step::Resize),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    #[test]
    fn agrees_with_the_model(shape in shapes(), steps in steps()) {
        let configs = shape.lanes.iter().enumerate().map(|(n, (guaranteed, cap, queue, criticality))| {
            LaneConfig::new(n.to_string())
                .guaranteed(f64::from(*guaranteed) / 100.0)
                .cap(f64::from(*cap) / 100.0)
                .queue(*queue)
                .criticality(*criticality)
        });
        let real = Lanes::new(total(shape.total), configs).unwrap();
        let mut model = Model {
            total: shape.total,
            clock: 0,
            served: 0,
            lanes: shape.lanes.iter().map(|(guaranteed, cap, queue, criticality)| ModelLane {
                guaranteed_percent: *guaranteed,
                cap_percent: *cap,
                queue: *queue as usize,
                criticality: *criticality,
                running: Vec::new(),
                waiting: VecDeque::new(),
                turn: (0, 0),
            }).collect(),
        };
        let mut permits: Vec<(u32, Permit)> = Vec::new();
        let mut waits: Vec<(u32, Wait)> = Vec::new();
        let mut resized = false;

        for (id, step) in (0..).zip(steps) {
            match step {
                Step::Arrive(lane) => {
                    let lane = lane % shape.lanes.len();
                    let expected = model.arrive(lane, id);
                    let lane = LaneId(lane as u8);
                    let entry = match real.try_admit(lane) {
                        Some(permit) => Entry::Admitted(permit),
                        None => real.enter(lane, Instant::now()),
                    };
                    match entry {
                        Entry::Admitted(permit) => permits.push((id, permit)),
                        Entry::Queued(wait) => waits.push((id, wait)),
                        Entry::Refused(refusal) => prop_assert_eq!(Err(refusal.reason()), expected),
                    }
                }
                Step::Leave(n) if !permits.is_empty() => {
                    let (id, permit) = permits.swap_remove(n % permits.len());
                    model.remove(id);
                    drop(permit);
                }
                Step::Abandon(n) if !waits.is_empty() => {
                    let (id, wait) = waits.swap_remove(n % waits.len());
                    model.remove(id);
                    drop(wait);
                }
                Step::Resize(places) => {
                    resized = true;
                    model.total = places;
                    model.serve();
                    real.resize(total(places));
                }
                Step::Leave(_) | Step::Abandon(_) => {}
            }
            waits.retain_mut(|(id, wait)| match poll(wait) {
                Poll::Ready(fate) => {
                    permits.push((*id, fate.unwrap()));
                    false
                }
                Poll::Pending => true,
            });

            let running: HashSet<u32> = permits.iter().map(|(id, _)| *id).collect();
            let expected: HashSet<u32> = model.lanes.iter().flat_map(|lane| lane.running.clone()).collect();
            prop_assert_eq!(running, expected);
            let snapshot = real.snapshot();
            for (real, model) in snapshot.lanes.iter().zip(&model.lanes) {
                prop_assert_eq!(real.in_flight as usize, model.running.len());
                prop_assert_eq!(real.queued as usize, model.waiting.len());
                prop_assert!(resized || real.in_flight <= real.limit);
            }
            let guaranteed: u32 = snapshot.lanes.iter().map(|lane| lane.guaranteed).sum();
            prop_assert!(resized || snapshot.in_flight < snapshot.total + guaranteed);
        }
        drop((permits, waits));
        prop_assert_eq!(real.snapshot().in_flight, 0);
        real.assert_quiet();
    }
}
