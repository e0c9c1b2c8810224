//! Any mixture of requests, late charges, refunds and time, against the history alone.

use std::time::Duration;

use proptest::prelude::*;
use smallvec::SmallVec;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Request { key: u8, costs: [u32; 2] },
    Charge { bill: usize, cells: u32 },
    Refund { bill: usize, cells: u32 },
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..2u8, 0..6u32, 0..6u32).prop_map(|(key, a, b)| Step::Request { key, costs: [a, b] }),
        2 => (0..20usize, 0..12u32).prop_map(|(bill, cells)| Step::Charge { bill, cells }),
        2 => (0..20usize, 0..12u32).prop_map(|(bill, cells)| Step::Refund { bill, cells }),
        2 => (0..120u64).prop_map(Step::Wait),
    ]
}

/// Its key, its bills, and where its charges are in the histories of its policies.
type Request = (u8, SmallVec<[Bill; 2]>, [Vec<usize>; 2]);

/// What one policy and key may do, reckoned from the history alone: each charge with its time, less what was given back
/// of it, filled into a bucket that runs out evenly. No request may have been let pass that did not fit when it came.
#[derive(Default, Clone)]
struct History(Vec<(u64, u64)>);

impl History {
    /// The level of the bucket at `now`, in nanoseconds.
    fn level(&self, now: u64, interval: u64) -> u64 {
        let (mut level, mut time) = (0u64, 0);
        for (at, cells) in &self.0 {
            level = level.saturating_sub(at - time) + cells * interval;
            time = *at;
        }
        level.saturating_sub(now - time)
    }
}

proptest! {
    /// Whatever is charged late and given back: all policies are charged for a request or none, nothing passes that would
    /// not have fitted had only been charged what was not given back, no refund is more than was charged, and no debt is
    /// above two bursts.
    #[test]
    fn late_charges_and_refunds_keep_the_law(
        quotas in prop::collection::vec((1..40u64, 1..9u32), 2),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let builder = quotas.iter().enumerate().fold(Limiter::builder(), |builder, (n, (interval, burst))| {
            builder.policy(format!("p{n}"), Quota::per(Duration::from_nanos(*interval), 1).burst(*burst))
        });
        let limiter = builder.build().unwrap();
        let mut time = fixed();
        let start = limiter.nanos(time);
        // By policy and key.
        let mut histories = vec![vec![History::default(); 2]; 2];
        let mut requests: Vec<Request> = Vec::new();
        for step in steps {
            let now = limiter.nanos(time) - start;
            match step {
                Step::Wait(nanos) => time += Duration::from_nanos(nanos),
                Step::Request { key, costs } => {
                    let charges = [0, 1].map(|n| limiter.charge(PolicyId(n), &key, costs[usize::from(n)]));
                    let (mut decision, mut bills) = (Decision::default(), SmallVec::new());
                    limiter.decide_with_bills(&charges, limiter.nanos(time), &mut decision, &mut bills);
                    let fits = (0..2).all(|n| {
                        let (interval, burst) = quotas[n];
                        let level = histories[n][usize::from(key)].level(now, interval);
                        costs[n] == 0 || level + u64::from(costs[n]) * interval <= u64::from(burst) * interval
                    });
                    prop_assert!(fits || !decision.is_allowed(), "over-admitted");
                    if decision.is_allowed() {
                        let mut places = [Vec::new(), Vec::new()];
                        for n in 0..2 {
                            let history = &mut histories[n][usize::from(key)].0;
                            places[n].push(history.len());
                            history.push((now, costs[n].into()));
                        }
                        requests.push((key, bills, places));
                    }
                }
                Step::Charge { bill, cells } => {
                    let count = requests.len().max(1);
                    if let Some((key, bills, places)) = requests.get_mut(bill / 2 % count) {
                        let n = bill % 2;
                        let charged = limiter.debit(&mut bills[n], cells, time).unwrap();
                        let history = &mut histories[n][usize::from(*key)].0;
                        places[n].push(history.len());
                        history.push((now, charged.into()));
                        prop_assert!(charged <= cells);
                    }
                }
                Step::Refund { bill, cells } => {
                    let count = requests.len().max(1);
                    if let Some((key, bills, places)) = requests.get_mut(bill / 2 % count) {
                        let n = bill % 2;
                        let mut given: u64 = limiter.credit(&mut bills[n], cells, time).into();
                        prop_assert!(given <= cells.into());
                        // The last that were charged are the first to be given back.
                        for place in places[n].iter().rev() {
                            let charged = &mut histories[n][usize::from(*key)].0[*place].1;
                            let part = given.min(*charged);
                            *charged -= part;
                            given -= part;
                        }
                        prop_assert_eq!(given, 0, "more than was charged");
                    }
                }
            }
            let now = limiter.nanos(time) - start;
            for n in 0..2 {
                let (interval, burst) = quotas[n];
                for key in 0..2u8 {
                    let standing = limiter.peek(PolicyId(n as u8), &key, time).unwrap();
                    let debt = standing.reset_after().as_nanos() as u64;
                    prop_assert!(debt <= 2 * u64::from(burst) * interval);
                    // Never less than what is owed for what was not given back.
                    prop_assert!(debt >= histories[n][usize::from(key)].level(now, interval));
                }
            }
        }
    }
}
