//! The device fails, is full, or gives back other bytes than it was given.

use super::world::{SEGMENT, World, config};
use crate::fs::Fs as _;
use crate::fs::sim::{Loss, Op, SimFs};
use crate::queue::disk::config::{Config, OpenError};
use crate::queue::disk::engine::Engine;
use crate::queue::{AppendError, Durability};

fn world() -> World {
    World::new(SimFs::default())
}

const HOST: Result<Durability, AppendError> = Ok(Durability::Host);

fn fails(answers: &[Result<Durability, AppendError>]) -> bool {
    let failing = |answer: &_| matches!(answer, Err(AppendError::Failing { .. }));
    !answers.is_empty() && answers.iter().all(failing)
}

/// The next group fails, and in the fresh segment again, which itself can be made.
fn fail_groups(world: &World) {
    world.fs.fail(Op::Sync, 0, 1);
    world.fs.fail(Op::Sync, 1, 1);
}

#[test]
fn a_failed_sync_ends_the_segment_and_the_group_goes_to_a_fresh_one() {
    for op in [Op::Sync, Op::Write] {
        let mut world = world();
        assert_eq!(world.append(&[100]), [HOST]);
        world.fs.fail(op, 0, 1);
        assert_eq!(world.append(&[100, 100]), [HOST, HOST]);
        assert_eq!(world.segments().len(), 2);
        assert_eq!(world.append(&[100]), [HOST]);
        world.crash(Loss::Everything);
        assert_eq!(world.content().len(), 4);
    }
}

#[test]
fn what_a_failed_sync_left_in_memory_is_not_trusted_after_a_restart() {
    let mut world = world();
    assert_eq!(world.append(&[100]), [HOST]);
    world.fs.fail(Op::Sync, 0, 1);
    assert_eq!(world.append(&[100, 100]), [HOST, HOST]);
    // The kernel still shows the group in the file whose sync failed; the disk has it in the other one only.
    world.kill();
    world.crash(Loss::Everything);
    assert_eq!(world.content().len(), 3);
}

#[test]
fn a_copy_whose_sync_failed_does_not_replace_what_it_was_copied_from() {
    let mut world = world();
    for n in 0..20 {
        world.append(&[if n == 0 { 300 } else { 2000 }]);
    }
    world.lease(20);
    for _ in 0..19 {
        world.acknowledge(1);
    }
    world.give_back();
    world.fs.fail(Op::Sync, 0, 2);
    world.pass(31);
    world.kill();
    world.crash(Loss::Everything);
    assert_eq!(world.content(), [0]);
}

#[test]
fn a_failed_file_that_cannot_be_marked_stops_storing() {
    let mut world = world();
    assert_eq!(world.append(&[100]), [HOST]);
    world.fs.fail(Op::Sync, 0, 1);
    world.fs.fail(Op::Rename, 0, 2);
    assert!(fails(&world.append(&[100])));
    world.pass(2);
    assert!(world.failing());
    world.pass(2);
    assert!(!world.failing());
    assert_eq!(world.append(&[100]), [HOST]);
    world.kill();
    world.crash(Loss::Everything);
    assert!(world.content().len() >= 2);
}

#[test]
fn files_in_which_nothing_was_stored_are_not_kept_aside() {
    let mut world = world();
    for _ in 0..10 {
        fail_groups(&world);
        world.fs.fail(Op::Read, 0, usize::MAX);
        assert!(fails(&world.append(&[100])));
        world.fs.heal();
        world.pass(2);
    }
    assert_eq!(world.set_aside(), 0, "{:?}", world.fs.files());
}

#[test]
fn a_device_that_hangs_does_not_fill_the_memory() {
    let mut world = world();
    // Nothing is stored before all of these were offered.
    let answers = world.append(&[1000; 100]);
    let taken = answers.iter().filter(|answer| **answer == HOST).count();
    assert!((40..60).contains(&taken), "{taken}");
    assert!(fails(&answers[taken..]));
    // What was refused was refused for a moment only.
    assert_eq!(world.append(&[1000]), [HOST]);
}

#[test]
fn a_dead_device_refuses_and_comes_back() {
    let mut world = world();
    assert_eq!(world.append(&[100]), [HOST]);
    world.fs.fail(Op::Sync, 0, usize::MAX);
    assert!(fails(&world.append(&[100, 100])));
    assert!(world.failing());
    // While it fails, nothing is even tried before it is time.
    let calls = world.fs.trace().len();
    assert!(fails(&world.append(&[100])));
    world.fs.heal();
    assert!(world.fs.trace().len() - calls < 3);
    assert!(world.failing());
    // What was stored can be delivered meanwhile.
    assert_eq!(world.lease(9), 1);
    world.give_back();
    world.pass(2);
    assert!(!world.failing());
    assert_eq!(world.append(&[100]), [HOST]);
    world.crash(Loss::Everything);
    assert_eq!(world.content().len(), 2);
}

#[test]
fn segments_that_fail_do_not_pile_up() {
    let mut world = world();
    for _ in 0..50 {
        fail_groups(&world);
        assert!(fails(&world.append(&[100])));
        world.fs.heal();
        world.pass(2);
    }
    assert!(world.segments().len() < 4, "{:?}", world.segments());
}

#[test]
fn a_full_disk_refuses_until_something_is_delivered() {
    let fs = SimFs::default();
    fs.set_space(Some(4 * SEGMENT as usize));
    let mut world = World::new(fs);
    let mut stored = 0;
    while world.append(&[1500]) == [HOST] {
        stored += 1;
    }
    assert!(stored > 10, "{stored}");
    assert!(world.failing());
    assert!(world.fs.used() <= 4 * SEGMENT as usize);
    world.lease(stored);
    world.acknowledge_all();
    world.pass(2);
    assert!(!world.failing(), "{:?}", world.fs.files());
    assert_eq!(world.append(&[1500]), [HOST]);
    world.crash(Loss::Everything);
}

#[test]
fn a_queue_on_a_full_disk_opens_and_delivers() {
    let mut world = world();
    assert_eq!(world.append(&[100, 100]), [HOST, HOST]);
    world.finish();
    world.fs.set_space(Some(world.fs.used()));
    world.open();
    assert!(world.failing());
    assert_eq!(world.content().len(), 2);
    assert!(fails(&world.append(&[100])));
    world.fs.set_space(None);
    world.pass(2);
    assert_eq!(world.append(&[100]), [HOST]);
}

#[test]
fn names_that_no_queue_gives_are_not_followed() {
    // Story: the id after one of these was none, or the first again. What came then had the tickets of what was there, and the
    // next start took one of the two for a copy.
    for name in [
        "segment-00000000ffffffff.log.broken",
        "segment-ffffffffffffffff.log",
        "segment-0000000100000000.log.failed",
        "acks-ffffffffffffffff.log",
    ] {
        let mut world = world();
        assert_eq!(world.append(&[100]), [HOST]);
        drop(world.fs.create(&world.path(name)).unwrap());
        world.kill();
        assert_eq!(world.append(&[100]), [HOST], "{name}");
        world.kill();
        assert_eq!(world.content().len(), 2, "{name}");
        let files = world.fs.files();
        assert!(files.iter().any(|(file, _)| file == name), "{files:?}");
    }
}

#[test]
fn after_the_last_name_nothing_is_stored() {
    let mut world = world();
    assert_eq!(world.append(&[100]), [HOST]);
    let last = "segment-00000000fffffffe.log.broken";
    drop(world.fs.create(&world.path(last)).unwrap());
    world.kill();
    assert!(fails(&world.append(&[100])));
    assert_eq!(world.content().len(), 1);
}

#[test]
fn the_files_stay_within_the_bound() {
    let mut world = world();
    let mut refused = 0;
    for round in 0..400_usize {
        let answers = world.append(&[1500, 700]);
        refused += answers
            .iter()
            .filter(|answer| matches!(answer, Err(AppendError::Full { .. })))
            .count();
        // Less is delivered than comes, and not in order.
        if round % 3 == 0 {
            world.lease(4);
            world.acknowledge(round);
            world.acknowledge(round / 2);
            world.give_back();
        }
        assert!(
            world.fs.used() as u64 <= 16 * SEGMENT + 1024,
            "{} {:?}",
            world.fs.used(),
            world.fs.files()
        );
        world.pass(2);
    }
    assert!(refused > 0);
    world.crash(Loss::Everything);
}

/// Story: the last segment before an outage of the sink had nothing in it any more, and took space until the sink was back.
#[test]
fn a_segment_that_is_done_goes_while_nothing_is_delivered() {
    let mut world = world();
    assert_eq!(world.append(&[3000, 3000]), [HOST, HOST]);
    world.lease(2);
    world.acknowledge_all();
    let done = world.segments();
    // This one does not fit beside what is done.
    assert_eq!(world.append(&[3000]), [HOST]);
    let now = world.segments();
    assert!(now.len() == 1 && now != done, "{now:?}");
}

#[test]
fn one_batch_does_not_keep_a_segment() {
    for restarted in [false, true] {
        let mut world = world();
        for n in 0..20 {
            world.append(&[if n == 0 { 300 } else { 2000 }]);
        }
        assert!(world.segments().len() > 5);
        // All but the first.
        assert_eq!(world.lease(20), 20);
        for _ in 0..19 {
            world.acknowledge(1);
        }
        world.give_back();
        if restarted {
            world.finish();
            world.reopen();
        }
        world.pass(31);
        world.pass(31);
        // The first was copied to where is written now.
        assert_eq!(world.segments().len(), 1, "{:?}", world.segments());
        assert_eq!(world.content(), [0]);
        // In time, what is done is made durable, too.
        world.pass(5);
        world.crash(Loss::Everything);
        assert_eq!(world.content(), [0]);
    }
}

#[test]
fn damage_inside_costs_only_what_it_hits_and_the_file_is_kept() {
    let mut world = world();
    for _ in 0..3 {
        world.append(&[500]);
    }
    world.finish();
    let name = world.segments().remove(0);
    let path = world.path(&name);
    world.fs.damage(&path, |file| file[512 + 100] ^= 1);
    world.ledger.confirmed.remove(&0);
    world.reopen();
    assert_eq!(world.content(), [1, 2]);
    world.lease(9);
    world.acknowledge_all();
    world.pass(1);
    assert_eq!(world.set_aside(), 1, "{:?}", world.fs.files());
    world.reopen();
    assert!(world.content().is_empty());
}

#[test]
fn damage_that_shows_while_it_runs_is_met_at_the_lease() {
    let mut world = world();
    for _ in 0..3 {
        world.append(&[500]);
    }
    let name = world.segments().remove(0);
    let path = world.path(&name);
    world.fs.damage(&path, |file| file[512 + 100] ^= 1);
    assert_eq!(world.lease(9), 2);
    world.acknowledge_all();
    world.finish();
    assert_eq!(world.set_aside(), 1);
}

#[test]
fn files_that_are_no_segments_are_set_aside() {
    let mut world = world();
    world.append(&[500]);
    world.finish();
    let good = world.segments().remove(0);
    let path = world.path(&good);
    // A file under the name of another, garbage, and a segment whose head alone is damaged.
    world.fs.damage(&path, |file| file[3] ^= 1);
    for name in ["segment-00000000000000f0.log", "acks-00000000000000f0.log"] {
        use crate::fs::{File as _, Fs as _};
        let file = world.fs.create(&world.path(name)).unwrap();
        file.write_at(&[b'x'; 3000], 0).unwrap();
        file.sync().unwrap();
    }
    let sync = crate::fs::Fs::sync_dir(&world.fs, &world.path(""));
    sync.unwrap();
    world.reopen();
    assert_eq!((world.set_aside(), world.content()), (1, vec![0]));
}

/// A queue with thirty batches of about a thousand bytes in one segment, which has ended in order; and the segment.
fn thirty() -> (World, std::path::PathBuf) {
    let config = Config {
        segment_bytes: 8 * SEGMENT,
        ..config()
    };
    let mut world = World::with(SimFs::default(), config);
    for _ in 0..30 {
        assert_eq!(world.append(&[1000]), [HOST]);
    }
    world.finish();
    let name = world.segments().remove(0);
    let path = world.path(&name);
    (world, path)
}

/// Story: a segment was left out at each start for one bad sector in it, with all the batches that were never delivered.
#[test]
fn a_bad_sector_costs_only_what_it_hits_until_it_can_be_read() {
    // In the middle, in the head, and all there is.
    for (bad, given) in [
        (20_480..20_992, 23..30),
        (0..512, 23..30),
        (0..40_000, 0..1),
    ] {
        let (mut world, path) = thirty();
        let size = world.fs.used() as u64;
        world.fs.spoil(&path, bad.clone());
        world.open();
        let found = world.content();
        assert!(given.contains(&found.len()), "{bad:?}: {found:?}");
        assert!(world.used() >= size, "{bad:?}: {}", world.used());
        // What is there is delivered, and the file stays for what is not.
        assert_eq!(world.lease(30), found.len());
        world.acknowledge_all();
        // Meanwhile other segments come and go.
        for _ in 0..3 {
            assert_eq!(world.append(&[40_000]), [HOST]);
            world.lease(1);
            world.acknowledge_all();
        }
        world.pass(31);
        world.finish();
        world.fs.spoil(&path, 0..0);
        world.reopen();
        let rest: Vec<_> = (0..30).filter(|id| !found.contains(id)).collect();
        let mut content = world.content();
        content.sort_unstable();
        assert_eq!(content, rest, "{bad:?}");
        // And then it goes.
        world.lease(30);
        world.acknowledge_all();
        world.finish();
        assert!(world.segments().is_empty(), "{:?}", world.fs.files());
    }
}

fn version(file: &mut [u8], version: u8) {
    file[8] = version;
    let sum = crc32c::crc32c(&file[..28]).to_le_bytes();
    file[28..32].copy_from_slice(&sum);
}

/// Story: what was known of the tickets in a segment that was left for the next start went with the first segment that was done,
/// and the next start delivered all of it once more.
#[test]
fn what_is_done_in_a_segment_that_is_left_stays_known() {
    for later_version in [true, false] {
        let mut world = world();
        for _ in 0..3 {
            assert_eq!(world.append(&[500]), [HOST]);
        }
        world.lease(2);
        world.acknowledge_all();
        world.finish();
        let name = world.segments().remove(0);
        let path = world.path(&name);
        if later_version {
            world.fs.damage(&path, |file| version(file, 2));
        } else {
            // Behind what is done, which is read first.
            world.fs.fail(Op::Read, 2, 1);
        }
        world.open();
        assert!(world.content().is_empty());
        // So many that the file that says what is done is written afresh.
        for _ in 0..100 {
            assert_eq!(world.append(&[1000]), [HOST]);
            world.lease(1);
            world.acknowledge_all();
        }
        world.finish();
        world.fs.heal();
        if later_version {
            world.fs.damage(&path, |file| version(file, 1));
        }
        world.reopen();
        assert_eq!(world.content(), [2], "{later_version}");
    }
}

/// A queue that has ended in order, with nothing left but the file that says what is done.
fn all_done() -> World {
    let mut world = world();
    assert_eq!(world.append(&[500, 500]), [HOST, HOST]);
    world.lease(2);
    world.acknowledge_all();
    world.finish();
    assert!(world.segments().is_empty(), "{:?}", world.fs.files());
    world
}

/// Story: tickets began anew, since the only file that told of earlier ones was not read; and at the next start it was, and said of
/// new batches that they were done.
#[test]
fn what_could_not_be_read_once_says_nothing_later() {
    let mut world = all_done();
    world.fs.fail(Op::Read, 1, 1);
    // It cannot be replaced, either.
    world.fs.fail(Op::Create, 0, 1);
    world.open();
    assert_eq!(world.append(&[500, 500]), [HOST, HOST]);
    world.crash(Loss::Everything);
    assert_eq!(world.content().len(), 2);
}

#[test]
fn a_queue_that_cannot_tell_which_tickets_are_free_does_not_open() {
    let mut world = all_done();
    world.fs.fail(Op::Read, 1, 1);
    world.fs.fail(Op::Rename, 0, 1);
    let opened = Engine::prepare(world.fs.clone(), &config());
    assert!(matches!(opened, Err(OpenError::Directory { .. })));
    drop(opened);
    world.reopen();
    assert_eq!(world.append(&[500]), [HOST]);
    world.kill();
    assert_eq!(world.content(), [2]);
}

#[test]
fn a_segment_of_a_later_version_is_left_for_it() {
    let mut world = world();
    world.append(&[500]);
    world.finish();
    let name = world.segments().remove(0);
    let path = world.path(&name);
    world.fs.damage(&path, |file| version(file, 2));
    world.open();
    assert!(world.content().is_empty());
    assert_eq!(world.append(&[500]), [HOST]);
    world.finish();
    world.fs.damage(&path, |file| version(file, 1));
    world.reopen();
    assert_eq!(world.content().len(), 2);
}

#[test]
fn a_read_error_that_goes_away_costs_nothing() {
    let mut world = world();
    world.append(&[500]);
    world.fs.fail(Op::Read, 0, 2);
    assert_eq!(world.lease(9), 1);
}

#[tokio::test(start_paused = true)]
async fn while_nothing_can_be_read_nothing_is_given_up() {
    use super::world::{ALL, batch};

    let fs = SimFs::default();
    let (engine, _owner) = Engine::open(fs.clone(), config()).unwrap();
    for n in 0..6 {
        assert_eq!(engine.append(batch(n, 100)).await, HOST);
    }
    fs.fail(Op::Read, 0, usize::MAX);
    assert!(engine.lease_once(ALL, false).await.is_none());
    assert_eq!((engine.status().batches, engine.status().leased), (6, 0));
    fs.heal();
    // One of them alone, which is tried three times.
    fs.fail(Op::Read, 5, 3);
    let leased = engine.lease_once(ALL, false).await.unwrap();
    assert_eq!((leased.len(), engine.status().batches), (5, 5));
    drop(leased);
    // What stays unreadable does not stand in the way for ever.
    fs.heal();
    fs.fail(Op::Read, 0, usize::MAX);
    assert!(engine.lease_once(ALL, true).await.unwrap().is_empty());
    assert_eq!(engine.status().batches, 0);
}

#[test]
fn a_second_queue_is_refused() {
    let world = world();
    let second = Engine::prepare(world.fs.clone(), &config());
    assert!(matches!(second, Err(OpenError::InUse { .. })));
}
