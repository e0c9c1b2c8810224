//! Nobody waits for room that will never be, and nobody gets room that is not there.

use super::world::{SEGMENT, World, batch, config};
use crate::fs::sim::SimFs;
use crate::queue::clients::Shares;
use crate::queue::disk::config::Config;
use crate::queue::{AppendError, Durability};

/// Story: the largest batches were taken by an empty directory, and by no other, though all was delivered.
#[test]
fn the_largest_batch_finds_room_whenever_all_is_delivered() {
    for (share, segments) in [(0.25, 2), (0.5, 2), (1.0, 2), (1000.0, 2), (0.1, 14)] {
        let shares = Shares {
            share,
            ..Shares::DEFAULT
        };
        let config = Config {
            limits: shares.limits(segments * SEGMENT).unwrap(),
            ..config()
        };
        // The id is written in as many digits as there are bytes.
        let overhead = batch(0, 500).encoded().len() - 500;
        let largest = config.longest_batch() - overhead;
        let mut world = World::with(SimFs::default(), config);
        for n in 1..400 {
            for size in [largest, 1 + n * 37 % largest] {
                let answers = world.append(&[size]);
                assert_eq!(answers, [Ok(Durability::Host)], "{size} with {share}");
                world.lease(1);
                world.acknowledge_all();
            }
        }
        // What is delivered in any order takes more room meanwhile, and no more in the end.
        for n in 0..40 {
            // As many as there is room for.
            world.append(&[1; 100]);
            for place in 0..world.lease(100) {
                world.acknowledge(place * 37 + n);
            }
            let size = largest - 24 * n;
            assert_eq!(
                world.append(&[size]),
                [Ok(Durability::Host)],
                "{size} with {share}"
            );
            world.lease(1);
            world.acknowledge_all();
        }
        let answers = world.append(&[largest + 1]);
        assert!(matches!(
            answers.as_slice(),
            [Err(AppendError::TooLarge { .. })]
        ));
    }
}

/// Story: batches of one small event took three times as much memory as the bytes by which they were admitted told, and nothing
/// bounded it.
#[test]
fn small_batches_fill_the_queue_by_the_memory_for_them() {
    const SOME: u64 = 64 * 1024;
    let within = |memory| Config {
        limits: config().limits.within(memory),
        ..config()
    };
    let mut world = World::with(SimFs::default(), within(SOME));
    let full = |answers: &[Result<_, _>]| matches!(answers, [Err(AppendError::Full { .. })]);
    let mut taken = 0;
    while !full(&world.append(&[1])) {
        taken += 1;
    }
    assert!((380..410).contains(&taken), "{taken}");
    let status = world.status();
    assert!(
        status.memory <= SOME && status.fullness() > 0.98,
        "{status:?}"
    );
    assert!(status.bytes < status.capacity / 2, "{status:?}");
    // Larger ones find no room either: each has its entry.
    assert!(full(&world.append(&[3000])));

    // What was accepted stays accepted, whatever the bound is at the next start.
    world.finish();
    world.config = within(SOME / 8);
    world.reopen();
    assert_eq!(world.content().len(), taken);
    assert!((7.0..8.1).contains(&world.status().fullness()));
    let mut delivered = 0;
    while full(&world.append(&[1])) {
        world.lease(1);
        world.acknowledge_all();
        delivered += 1;
    }
    assert!((350..400).contains(&delivered), "{delivered}");
    assert_eq!(world.content().len(), taken - delivered + 1);
}
