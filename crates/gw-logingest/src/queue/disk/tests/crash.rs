//! Power is lost at each point, and at many.

use proptest::collection::vec;
use proptest::prelude::*;

use super::world::World;
use crate::fs::sim::{Loss, Op, SimFs};

/// Each kind of thing that the queue does to a disk, in a few steps: first writes, several segments, deliveries out of
/// order, copies, removal, an orderly end and a second life.
fn scenario(world: &mut World) {
    world.append(&[100, 700, 300]);
    world.append(&[2000]);
    for _ in 0..6 {
        world.append(&[1500, 1500]);
    }
    world.lease(12);
    for place in [0, 3, 3, 5, 0, 1, 2, 0, 0] {
        world.acknowledge(place);
    }
    // Few are left in the first segments: they are copied.
    world.pass(31);
    world.append(&[50]);
    world.give_back();
    world.finish();
    world.open();
    world.append(&[10, 10]);
    world.lease(3);
    world.acknowledge_all();
    world.pass(31);
    world.append(&[900]);
}

#[test]
fn nothing_confirmed_is_lost_wherever_the_power_goes() {
    let mut world = World::new(SimFs::default());
    scenario(&mut world);
    let trace = world.fs.trace();
    for op in [
        Op::Create,
        Op::Write,
        Op::Sync,
        Op::Reserve,
        Op::SetLen,
        Op::Remove,
        Op::SyncDir,
    ] {
        assert!(trace.contains(&op), "the scenario has no {op:?}");
    }
    assert!(trace.len() > 60, "{}", trace.len());
    let mut runs = 0;
    for cut in 0..=trace.len() {
        let losses = [Loss::Everything, Loss::Nothing]
            .into_iter()
            .chain((0..6).map(Loss::Seed));
        for loss in losses {
            let fs = SimFs::default();
            fs.cut_after(cut);
            let mut world = World::new(fs);
            scenario(&mut world);
            world.crash(loss);
            // And life goes on.
            assert!(world.append(&[100, 1000]).iter().all(Result::is_ok));
            world.crash(loss);
            runs += 1;
        }
    }
    println!("{} calls, {runs} runs", trace.len());
}

#[test]
fn nothing_confirmed_is_lost_whatever_part_of_the_tail_is() {
    let mut runs = 0;
    let small = |world: &mut World| {
        world.append(&[1800, 10, 1900]);
        world.append(&[1800, 10]);
    };
    let mut world = World::new(SimFs::default());
    small(&mut world);
    for cut in 0..=world.fs.trace().len() {
        let mut mask = 0;
        loop {
            let fs = SimFs::default();
            fs.cut_after(cut);
            let mut world = World::new(fs.clone());
            small(&mut world);
            let units = fs.unsynced();
            assert!(units < 12, "{units}");
            world.crash(Loss::Mask(mask));
            runs += 1;
            mask += 1;
            if mask >= 1 << units {
                break;
            }
        }
    }
    assert!(runs > 100, "{runs}");
    println!("{runs} runs");
}

#[test]
fn a_copy_that_was_not_synced_does_not_replace_what_is_durable() {
    // Story: a write failed behind a durable batch. The batch was about to be copied out of that segment when the process was
    // killed, the copy written and not synced; the next start took the copy for the batch and removed the segment, and then
    // the power went.
    let mut world = World::new(SimFs::default());
    world.append(&[1000]);
    world.fs.fail(Op::Write, 0, 1);
    world.append(&[1000]);
    world.pass(31);
    // The copy is written, and nothing more is done.
    let before = world.fs.trace().len();
    world.fs.cut_after(1);
    world.pass(0);
    assert_eq!(world.fs.trace()[before..], [Op::Write]);
    world.kill();
    world.crash(Loss::Everything);
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<usize>),
    Lease(usize),
    Acknowledge(usize),
    GiveBack,
    Pass(u64),
    Fail(Op, usize, usize),
    Heal,
    Cut(usize),
    Crash(u64),
    Kill,
    End,
}

fn step() -> impl Strategy<Value = Step> {
    let failing = prop_oneof![
        Just(Op::Write),
        Just(Op::Sync),
        Just(Op::Create),
        Just(Op::Reserve),
        Just(Op::SetLen),
        Just(Op::Remove),
        Just(Op::Rename),
        Just(Op::SyncDir),
    ];
    prop_oneof![
        12 => vec(0..3000_usize, 1..6).prop_map(Step::Append),
        6 => (1..12_usize).prop_map(Step::Lease),
        12 => (0..12_usize).prop_map(Step::Acknowledge),
        1 => Just(Step::GiveBack),
        3 => (0..40_u64).prop_map(Step::Pass),
        2 => (failing, 0..6_usize, 1..4_usize).prop_map(|(op, skip, times)| Step::Fail(op, skip, times)),
        1 => Just(Step::Heal),
        1 => (0..30_usize).prop_map(Step::Cut),
        2 => any::<u64>().prop_map(Step::Crash),
        1 => Just(Step::Kill),
        1 => Just(Step::End),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_confirmed_is_lost_in_many_lives(steps in vec(step(), 1..60), short in any::<bool>()) {
        let fs = SimFs::default();
        if short {
            fs.write_short();
        }
        let mut world = World::new(fs);
        for step in steps {
            match step {
                Step::Append(sizes) => drop(world.append(&sizes)),
                Step::Lease(batches) => drop(world.lease(batches)),
                Step::Acknowledge(place) => world.acknowledge(place),
                Step::GiveBack => world.give_back(),
                Step::Pass(seconds) => world.pass(seconds),
                Step::Fail(op, skip, times) => world.fs.fail(op, skip, times),
                Step::Heal => world.fs.heal(),
                Step::Cut(calls) => world.fs.cut_after(calls),
                Step::Crash(seed) => world.crash(Loss::Seed(seed)),
                Step::Kill => world.kill(),
                Step::End => {
                    world.finish();
                    world.crash(Loss::Everything);
                }
            }
        }
        world.crash(Loss::Everything);
        // All of it can be delivered, and then the disk is nearly empty.
        world.lease(usize::MAX);
        world.acknowledge_all();
        prop_assert!(world.content().is_empty());
        world.pass(31);
        prop_assert!(world.segments().len() <= 1, "{:?}", world.segments());
        prop_assert!(world.used() < 4096, "{}", world.used());
    }
}
