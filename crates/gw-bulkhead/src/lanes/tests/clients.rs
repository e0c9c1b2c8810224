//! What one client may have of a lane.

use std::num::NonZeroU32;

use gw_core::context::Deadline;
use gw_core::key::Global;
use proptest::prelude::*;
use tokio::time::advance;

use super::*;
use crate::Codel;

fn per_key(max: u32) -> LaneConfig {
    let max = NonZeroU32::new(max).unwrap();
    LaneConfig::new("core").per_key(Global, max)
}

impl Lanes {
    fn entry_of(&self, lane: LaneId, client: u8) -> Entry {
        self.enter(lane, Arrival::at(Instant::now()).key(self.key(client)))
    }
}

#[test]
fn a_client_has_its_share_and_no_more() {
    let (lanes, [core]) = lanes(4, [per_key(2).guaranteed(0.5).queue(4)]);
    let Entry::Admitted(first) = lanes.entry_of(core, 1) else {
        panic!()
    };
    let _others = [
        lanes.entry_of(core, 2),
        lanes.entry_of(core, 2),
        lanes.entry_of(core, 3),
    ];
    // Waiting counts as well.
    let waiting = queued(lanes.entry_of(core, 1));
    assert_eq!(reason(lanes.entry_of(core, 1)), Reason::PerKey);
    assert_eq!(reason(lanes.entry_of(core, 2)), Reason::PerKey);
    let keys = lanes.core().per_key.unwrap();
    assert_eq!((keys.max, keys.keys, keys.busiest), (2, 3, 2));
    drop(waiting);
    let waiting = queued(lanes.entry_of(core, 1));
    assert!(waiting.give_up(Instant::now()).is_err());
    let mut waiting = queued(lanes.entry_of(core, 1));
    drop(first);
    drop(admitted(&mut waiting));
    drop(_others);
    let keys = lanes.core().per_key.unwrap();
    assert_eq!((keys.keys, keys.busiest), (0, 0));
    assert_eq!(lanes.core().rejected.per_key, 2);
}

#[test]
fn a_refused_request_is_not_counted_under_its_client() {
    let (lanes, [core]) = lanes(1, [per_key(2)]);
    let _held = lanes.entry_of(core, 1);
    for _ in 0..5 {
        assert_eq!(reason(lanes.entry_of(core, 2)), Reason::LaneFull);
    }
    assert_eq!(lanes.core().per_key.unwrap().keys, 1);
}

#[test]
fn in_shadow_a_client_has_all_it_wants_and_is_counted() {
    let (lanes, [core]) = lanes(4, [per_key(1)]);
    lanes.set_mode(Mode::Shadow);
    let entries: Vec<_> = (0..3).map(|_| lanes.entry_of(core, 1)).collect();
    assert!(
        entries
            .iter()
            .all(|entry| matches!(entry, Entry::Admitted(_)))
    );
    assert_eq!(lanes.core().rejected.per_key, 2);
    assert_eq!(lanes.core().rejected.total(), 2);
    lanes.set_mode(Mode::Enforce);
    assert_eq!(reason(lanes.entry_of(core, 1)), Reason::PerKey);
    drop(entries);
    assert_eq!(lanes.core().per_key.unwrap().keys, 0);
    assert!(matches!(lanes.entry_of(core, 1), Entry::Admitted(_)));
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Arrive(u8, Option<u64>),
    Finish(usize),
    Vanish(usize),
    GiveUp(usize),
    Pass(u64),
    Mode(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4u8, prop::option::of(0..60u64)).prop_map(|(client, due)| Step::Arrive(client, due)),
        3 => any::<usize>().prop_map(Step::Finish),
        2 => any::<usize>().prop_map(Step::Vanish),
        1 => any::<usize>().prop_map(Step::GiveUp),
        3 => (0..40u64).prop_map(Step::Pass),
    ];
    let step = prop_oneof![40 => step, 1 => any::<bool>().prop_map(Step::Mode)];
    prop::collection::vec(step, 0..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    /// Whatever comes, goes, gives up and vanishes, under all disciplines at once: a client never has more than it may,
    /// nobody is in flight beyond the cap, no count is left behind.
    #[test]
    fn counts_are_exact_under_cancellation(max in 1..4u32, places in 1..5u32, queue in 0..6u32, lifo: bool, steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let codel = Codel::new().target(millis(2)).interval(millis(10));
        let codel = if lifo { codel.adaptive_lifo() } else { codel };
        let config = per_key(max).queue(queue).deadline_aware(true);
        let config = if queue > 0 { config.codel(codel) } else { config };
        let (lanes, [core]) = lanes(places, [config]);
        runtime.block_on(async {
            let mut permits: Vec<(u8, Permit)> = Vec::new();
            let mut waits: Vec<(u8, Wait)> = Vec::new();
            let mut shadowed = false;
            for step in steps {
                match step {
                    Step::Arrive(client, due) => {
                        let now = Instant::now();
                        let mut arrival = Arrival::at(now).key(lanes.key(client));
                        if let Some(due) = due {
                            arrival = arrival.deadline(Deadline::at(now + millis(due)));
                        }
                        match lanes.enter(core, arrival) {
                            Entry::Admitted(permit) => permits.push((client, permit)),
                            Entry::Queued(wait) => waits.push((client, wait)),
                            Entry::Refused(_) => {}
                        }
                    }
                    Step::Finish(n) if !permits.is_empty() => drop(permits.swap_remove(n % permits.len())),
                    Step::Vanish(n) if !waits.is_empty() => drop(waits.swap_remove(n % waits.len())),
                    Step::GiveUp(n) if !waits.is_empty() => {
                        let (client, wait) = waits.swap_remove(n % waits.len());
                        permits.extend(wait.give_up(Instant::now()).ok().map(|permit| (client, permit)));
                    }
                    Step::Pass(n) => advance(millis(n)).await,
                    Step::Mode(shadow) => {
                        shadowed |= shadow;
                        lanes.set_mode(if shadow { Mode::Shadow } else { Mode::Enforce });
                    }
                    Step::Finish(_) | Step::Vanish(_) | Step::GiveUp(_) => {}
                }
                // Not all are polled at once: some learn late.
                waits = waits.into_iter().filter_map(|(client, mut wait)| match poll(&mut wait) {
                    Poll::Ready(fate) => {
                        permits.extend(fate.ok().map(|permit| (client, permit)));
                        None
                    }
                    Poll::Pending => Some((client, wait)),
                }).collect();
                let busiest = (0..4u8).map(|client| {
                    let of = |other: u8| usize::from(other == client);
                    permits.iter().map(|(other, _)| of(*other)).sum::<usize>() + waits.iter().map(|(other, _)| of(*other)).sum::<usize>()
                }).max().unwrap_or(0);
                let core = lanes.core();
                assert_eq!(core.per_key.unwrap().busiest as usize, busiest);
                assert_eq!((core.in_flight as usize, core.queued as usize), (permits.len(), waits.len()));
                assert!(shadowed || busiest <= max as usize);
                assert!(shadowed || core.in_flight <= core.limit);
            }
            drop((permits, waits));
            let core = lanes.core();
            assert_eq!((core.in_flight, core.queued, core.per_key.unwrap().keys), (0, 0, 0));
        });
    }
}

/// Story: that few were inside for so short a time that a share that did not hold was hardly ever seen.
#[test]
fn a_client_has_no_more_than_its_share_under_fire() {
    let (lanes, [core]) = lanes(100, [per_key(2).queue(3)]);
    let held = lanes.entry_of(core, 7);
    assert!(matches!(held, Entry::Admitted(_)));
    let peak = peak_under_fire(|_| match lanes.entry_of(core, 7) {
        Entry::Admitted(permit) => Some(permit),
        Entry::Queued(_) | Entry::Refused(_) => None,
    });
    assert_eq!(peak, 1);
    drop(held);
    assert_eq!(lanes.core().per_key.unwrap().keys, 0);
}
