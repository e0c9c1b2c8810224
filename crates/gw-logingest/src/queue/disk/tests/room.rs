//! Nobody waits for room that will never be.

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
