use std::collections::BTreeSet;
use std::time::{Duration, UNIX_EPOCH};

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ALL: Want = Want {
    bytes: usize::MAX,
    events: usize::MAX,
};

const LIMITS: Limits = Limits {
    capacity: 10_000,
    share: 1000,
    floor: 500,
    clients: 3,
    max_memory: None,
};

fn client(name: usize) -> ClientId {
    ClientId::new(&format!("c{name}")).unwrap()
}

/// Room for 1 GB, no shares.
fn roomy() -> Index<usize> {
    let limits = Limits {
        capacity: 1 << 30,
        share: 1_000_000,
        floor: 0,
        clients: 100,
        max_memory: None,
    };
    Index::new(limits, Instant::now())
}

fn add(index: &mut Index<usize>, name: usize, bytes: u64, ticket: u64) -> Result<(), AppendError> {
    let promise = index.admit(&client(name), bytes, Instant::now())?;
    index.insert(promise, ticket, 1, UNIX_EPOCH, name);
    Ok(())
}

/// A client whose name has this length.
fn named(number: usize, length: usize) -> ClientId {
    ClientId::new(&format!("{number:0length$}")).unwrap()
}

/// As much as a place on disk.
type Item = [u64; 2];

/// An index with so many bytes of memory, and room for any batch.
fn within(memory: u64, clients: usize) -> Index<Item> {
    let limits = Limits {
        capacity: 1 << 40,
        share: 1_000_000,
        floor: 0,
        clients,
        max_memory: Some(memory),
    };
    Index::new(limits, Instant::now())
}

/// Adds small batches of these clients in turn, a thousand in a second, until one is refused. How many were taken.
fn fill(index: &mut Index<Item>, first: u64, client: impl Fn(u64) -> ClientId) -> u64 {
    for ticket in first.. {
        match index.admit(&client(ticket), 300, Instant::now()) {
            Ok(promise) => {
                let received = UNIX_EPOCH + Duration::from_millis(ticket);
                index.insert(promise, ticket, 1, received, [ticket; 2]);
            }
            Err(AppendError::Full { .. } | AppendError::OverShare { .. }) => return ticket - first,
            Err(other) => panic!("{other}"),
        }
    }
    0
}

/// Story: a sink was down and many clients sent an event at a time. A gigabyte on disk had room for three million batches, of each
/// of which 180 bytes were kept in memory, until the process had no more memory for requests.
#[test]
fn what_is_known_of_batches_takes_no_more_memory_than_it_may() {
    const MEMORY: u64 = 16 << 20;
    for (own, clients, length, least) in [
        (10_000, 1, 20, 100_000),
        (10_000, 900, 20, 99_000),
        (10_000, 5_000, 128, 88_000),
        (10_000, u64::MAX, 14, 30_000),
        (0, u64::MAX, 128, 37_000),
        (1_000_000, u64::MAX, 128, 24_000),
    ] {
        let mut taken = 0;
        let used = allocation_counter::measure(|| {
            let mut index = within(MEMORY, own);
            let client = |ticket| named((ticket % clients) as usize, length);
            taken = fill(&mut index, 0, client);
            assert!(index.status(UNIX_EPOCH, Instant::now()).fullness() > 0.999);
        });
        let (taken, most) = (taken, used.bytes_max);
        assert!(taken > least, "{clients} clients: {taken}");
        assert!(most < MEMORY, "{clients} clients: {most}");
    }
}

/// Story: each busy client in turn had all that there is and was never without a batch after that, so that its line kept the room
/// of its best day.
#[test]
fn what_was_a_long_line_keeps_no_memory() {
    const MEMORY: u64 = 4 << 20;
    let used = allocation_counter::measure(|| {
        let mut index = within(MEMORY, 100);
        let mut next = 0;
        let mut last = BTreeSet::new();
        for name in 0..20 {
            let taken = fill(&mut index, next, |_| named(name, 20));
            assert!(taken > 20_000, "{taken}");
            next += taken;
            last.insert(next - 1);
            // A few at a time, as a consumer does.
            let some = Want {
                bytes: 30_000,
                events: 100,
            };
            while index.waiting > 0 {
                for (ticket, _) in index.lease(some) {
                    if !last.contains(&ticket) {
                        index.acknowledge(ticket, Instant::now());
                    }
                }
            }
            for ticket in &last {
                index.give_back(*ticket);
            }
        }
        assert_eq!(index.waiting, 20);
    });
    assert!(used.bytes_max < MEMORY, "{}", used.bytes_max);
}

/// As at the bound of bytes: one client gets half, the next one half of the rest, and all that was there before stays.
#[test]
fn clients_share_the_memory_as_they_share_the_bytes() {
    const MEMORY: u64 = 4 << 20;
    let mut index = within(MEMORY, 100);
    index.limits.share = 1000;
    let mut next = 0;
    let mut refused = Vec::new();
    for name in 0..3 {
        let taken = fill(&mut index, next, |_| named(name, 20));
        let free = MEMORY as f64 / f64::from(1 << name);
        let share = taken as f64 * BATCH as f64 / free;
        assert!((0.48..0.51).contains(&share), "{name}: {share}");
        next += taken;
        refused.push(index.admit(&named(name, 20), 300, Instant::now()).map(drop));
    }
    let over = |refused: &Result<_, _>| matches!(refused, Err(AppendError::OverShare { .. }));
    assert!(refused.iter().all(over), "{refused:?}");
    assert_eq!(index.status(UNIX_EPOCH, Instant::now()).batches, next);
}

/// A hundredth of the batches makes room for a hundredth of what there is, however few bytes they have.
#[test]
fn the_wait_for_memory_goes_by_the_bytes_that_take_it() {
    let start = Instant::now();
    let mut index = within(4 << 20, 100);
    let taken = fill(&mut index, 0, |_| named(1, 20));
    index.lease(ALL);
    for ticket in 0..200 {
        let now = start + Duration::from_millis(50 * (ticket + 1));
        index.acknowledge(ticket, now);
    }
    let now = start + Duration::from_secs(10);
    let wait = index.time_to_free(index.limits.capacity / 100, now);
    // 300 bytes each, 6 000 bytes a second.
    let expected = taken as f64 * 300.0 / 100.0 / 6_000.0;
    let ratio = wait.as_secs_f64() / expected;
    assert!((0.9..1.1).contains(&ratio), "{wait:?} {expected}");
}

/// Story: a quiet night counted as one in which the queue drained slowly, and the first clients that were refused in the morning
/// were told to wait five minutes.
#[test]
fn time_in_which_the_queue_was_empty_says_nothing_of_how_fast_it_drains() {
    let start = Instant::now();
    let mut index = Index::new(LIMITS, start);
    let at = |seconds| start + Duration::from_secs(seconds);
    // An hour passes before the first batch, too.
    let first = 3600;
    for n in 0..100 {
        let promise = index.admit(&client(1), 1_000, at(first + n)).unwrap();
        index.insert(promise, n, 1, UNIX_EPOCH, 1);
        assert_eq!(tickets(index.lease(ALL)), [n]);
        assert!(index.acknowledge(n, at(first + n + 1)).is_some());
    }
    let promise = index.admit(&client(1), 1_000, at(first + 100)).unwrap();
    index.cancel(promise, at(first + 100));
    let morning = at(first + 8 * 3600);
    let told = |index: &mut Index<usize>, now| match index.admit(&client(1), 15_000, now) {
        Err(AppendError::Full { retry_after }) => retry_after.as_secs(),
        other => panic!("{:?}", other.map(|_| ())),
    };
    assert_eq!(told(&mut index, morning), 5);
    let promise = index.admit(&client(1), 1_000, morning).unwrap();
    index.insert(promise, 100, 1, UNIX_EPOCH, 1);
    assert_eq!(told(&mut index, morning), 6);
    index.lease(ALL);
    let second = Duration::from_secs(1);
    assert!(index.acknowledge(100, morning + second).is_some());
    assert_eq!(told(&mut index, morning + 3600 * second), 5);
}

#[test]
fn a_client_on_hold_keeps_its_batches_and_nobody_elses() {
    let mut index = roomy();
    // Nothing to hold: what comes later is leased.
    index.hold(&client(1));
    for ticket in 0..3 {
        add(&mut index, 1, 100, ticket).unwrap();
        add(&mut index, 2, 100, 10 + ticket).unwrap();
    }
    let one = Want {
        bytes: 0,
        events: 0,
    };
    assert_eq!(tickets(index.lease(one)), [0]);
    index.hold(&client(1));
    index.hold(&client(1));
    // What comes and what comes back waits with the rest.
    add(&mut index, 1, 100, 3).unwrap();
    assert_eq!(tickets(index.lease(ALL)), [10, 11, 12]);
    assert!(index.give_back(0));
    assert!(index.lease(ALL).is_empty());
    assert!(!index.is_empty());
    assert_eq!(index.status(UNIX_EPOCH, Instant::now()).batches, 7);
    index.release(&client(1));
    index.release(&client(1));
    assert_eq!(tickets(index.lease(ALL)), [0, 1, 2, 3]);
    // A client that is on hold and has gone leaves nothing behind.
    index.hold(&client(1));
    for ticket in 0..4 {
        assert!(index.acknowledge(ticket, Instant::now()).is_some());
    }
    add(&mut index, 1, 100, 4).unwrap();
    assert_eq!(tickets(index.lease(ALL)), [4]);
}

/// Clients 1 and 2 have the accounts that there are, client 3 is in the shared one.
fn crowded() -> Index<usize> {
    let limits = Limits {
        clients: 2,
        ..roomy().limits
    };
    let mut index = Index::new(limits, Instant::now());
    for name in 1..=3 {
        add(&mut index, name, 100, name as u64).unwrap();
    }
    index
}

fn tickets(taken: Vec<(u64, usize)>) -> Vec<u64> {
    taken.into_iter().map(|(ticket, _)| ticket).collect()
}

#[test]
fn a_hold_of_the_shared_account_is_released_though_its_client_could_have_its_own_by_then() {
    let mut index = crowded();
    index.hold(&client(3));
    assert_eq!(tickets(index.lease(ALL)), [1, 2]);
    index.acknowledge(1, Instant::now());
    index.release(&client(3));
    assert_eq!(tickets(index.lease(ALL)), [3]);
}

#[test]
fn a_client_in_the_shared_account_is_held_though_it_could_have_its_own_by_now() {
    let mut index = crowded();
    assert_eq!(index.lease(ALL).len(), 3);
    index.acknowledge(1, Instant::now());
    assert!(index.give_back(3));
    index.hold(&client(3));
    assert!(index.lease(ALL).is_empty());
    index.release(&client(3));
    assert_eq!(tickets(index.lease(ALL)), [3]);
}

#[test]
fn a_client_without_a_batch_holds_nobody_in_the_shared_account() {
    let mut index = crowded();
    index.hold(&client(4));
    assert_eq!(index.lease(ALL).len(), 3);
}

#[test]
fn a_client_stays_in_the_shared_account_until_its_batches_are_gone_and_others_get_their_own() {
    let held = |index: &Index<usize>, owner: &Owner| index.clients.held(owner);
    let (three, four) = (Some(client(3)), Some(client(4)));
    let mut index = crowded();
    let one = Want {
        bytes: 100,
        events: 1,
    };
    assert_eq!(tickets(index.lease(one)), [1]);
    index.acknowledge(1, Instant::now());
    // In an account of its own, a newer batch of client 3 could be leased before its older one.
    add(&mut index, 3, 100, 4).unwrap();
    add(&mut index, 4, 100, 5).unwrap();
    assert_eq!((held(&index, &None), held(&index, &four)), (200, 100));
    for ticket in tickets(index.lease(ALL)) {
        index.acknowledge(ticket, Instant::now());
    }
    assert!(index.lease(ALL).is_empty());
    add(&mut index, 3, 100, 6).unwrap();
    assert_eq!((held(&index, &None), held(&index, &three)), (0, 100));
}

/// Story: one client with too many dead letters kept all others waiting, though there was room for their own accounts.
#[test]
fn a_client_on_hold_in_the_shared_account_holds_nobody_else() {
    let mut index = crowded();
    add(&mut index, 4, 100, 4).unwrap();
    add(&mut index, 3, 100, 5).unwrap();
    index.hold(&client(3));
    assert_eq!(tickets(index.lease(ALL)), [1, 2, 4]);
    for ticket in [1, 2, 4] {
        index.acknowledge(ticket, Instant::now());
    }
    assert_eq!(index.clients.owner(&client(4)), Some(client(4)));
    assert_eq!(index.clients.owner(&client(3)), None);
    // What was set aside is still found, and counts.
    for ticket in [6, 7] {
        add(&mut index, 3, 100, ticket).unwrap();
        assert!(index.lease(ALL).is_empty());
    }
    assert_eq!(index.clients.held(&None), 400);
    let set_aside = index.select(&(0..=u64::MAX), |name| *name == 3);
    assert_eq!(set_aside.len(), 4);
    for (key, _) in &set_aside {
        *index.item_mut(key).unwrap() = 9;
    }
    index.release(&client(3));
    let leased = index.lease(ALL);
    assert_eq!(leased, [(3, 9), (5, 9), (6, 9), (7, 9)]);
}

/// Story: once many had sent, nobody got an account of its own any more, and one of them used up the share of all.
#[test]
fn steady_traffic_in_the_shared_account_keeps_nobody_from_an_own_one() {
    let mut index = crowded();
    for ticket in 4..20 {
        // One is always there, and another comes and goes.
        add(&mut index, 3, 100, 2 * ticket).unwrap();
        add(&mut index, ticket as usize, 100, 2 * ticket + 1).unwrap();
        for old in tickets(index.lease(ALL)) {
            if old != 2 * ticket {
                index.acknowledge(old, Instant::now());
            }
        }
        index.give_back(2 * ticket);
        for name in [1, 2, 99] {
            assert_eq!(index.clients.owner(&client(name)), Some(client(name)));
        }
    }
    assert_eq!(index.clients.owner(&client(3)), None);
}

#[test]
fn a_client_without_a_batch_holds_nobody_however_many_share() {
    let mut index = crowded();
    for name in 4..9 {
        add(&mut index, name, 100, name as u64).unwrap();
    }
    index.hold(&client(9));
    assert_eq!(index.lease(ALL).len(), 8);
}

#[test]
fn clients_take_turns_by_bytes() {
    let mut index = roomy();
    // One client has large batches and many of them, the other small ones.
    for ticket in 0..100 {
        add(&mut index, 1, 60_000, ticket).unwrap();
    }
    for ticket in 100..3100 {
        add(&mut index, 2, 1_000, ticket).unwrap();
    }
    let mut bytes = [0, 0, 0];
    for _ in 0..100 {
        let want = Want {
            bytes: 10_000,
            events: 100,
        };
        for (_, name) in index.lease(want) {
            bytes[name] += [0, 60_000, 1_000][name];
        }
    }
    let ratio = f64::from(bytes[1]) / f64::from(bytes[2]);
    assert!((0.8..1.25).contains(&ratio), "{bytes:?}");
}

#[test]
fn batches_larger_than_many_quanta_are_leased_at_once() {
    let mut index = roomy();
    add(&mut index, 1, 500 << 20, 1).unwrap();
    add(&mut index, 2, 400 << 20, 2).unwrap();
    let tickets: Vec<_> = index
        .lease(ALL)
        .into_iter()
        .map(|(ticket, _)| ticket)
        .collect();
    assert_eq!(tickets, [2, 1]);
}

#[test]
fn a_lease_is_bounded_by_bytes_and_by_events() {
    let mut index = roomy();
    for ticket in 0..10 {
        add(&mut index, 1, 100, ticket).unwrap();
    }
    let take = |index: &mut Index<usize>, bytes, events| index.lease(Want { bytes, events }).len();
    assert_eq!(take(&mut index, 350, 9), 3);
    assert_eq!(take(&mut index, 1000, 2), 2);
    assert_eq!(take(&mut index, 0, 0), 1);
    assert_eq!(take(&mut index, 1000, 1000), 4);
    assert_eq!(take(&mut index, 1000, 1000), 0);
}

#[test]
fn clients_beyond_the_bound_share_one_account() {
    let mut index = Index::new(LIMITS, Instant::now());
    for name in 0..20 {
        let _ = add(&mut index, name, 400, name as u64);
    }
    assert_eq!(index.clients.len(), 4);
    // Three have their own, the rest shares: each is held to a share, and the accounts go with their batches.
    let leased = index.lease(ALL);
    assert!(leased.len() >= 4);
    for (ticket, _) in leased {
        assert!(index.acknowledge(ticket, Instant::now()).is_some());
    }
    assert!(index.lease(ALL).is_empty());
    assert_eq!((index.clients.len(), index.used()), (0, 0));
    assert!(index.is_empty());
}

#[test]
fn bytes_without_a_batch_count_as_used() {
    let mut index = Index::new(LIMITS, Instant::now());
    index.stored(9_800);
    assert!(matches!(
        add(&mut index, 1, 300, 1),
        Err(AppendError::Full { .. })
    ));
    index.stored(0);
    let promise = index.admit(&client(1), 300, Instant::now()).unwrap();
    assert_eq!(index.used(), 300);
    index.insert(promise, 1, 1, UNIX_EPOCH, 1);
    assert_eq!(index.used(), 0);
}

#[test]
fn entries_are_found_and_moved_wherever_they_are() {
    let mut index = roomy();
    for ticket in 0..6 {
        add(&mut index, ticket as usize % 2, 100, ticket).unwrap();
    }
    assert_eq!(
        index
            .lease(Want {
                bytes: 100,
                events: 1
            })
            .len(),
        1
    );
    let odd = index.select(&(0..=u64::MAX), |name| *name == 0);
    let tickets: Vec<_> = odd.iter().map(|(key, _)| key.ticket).collect();
    assert_eq!(tickets, [0, 2, 4]);
    for (key, _) in &odd {
        *index.item_mut(key).unwrap() = 9;
    }
    assert!(index.give_back(0));
    assert_eq!(index.select(&(0..=u64::MAX), |name| *name == 9).len(), 3);
    for (ticket, _) in index.lease(ALL) {
        index.acknowledge(ticket, Instant::now());
    }
    assert!(index.item_mut(&odd[0].0).is_none());
}

#[derive(Debug, Clone)]
enum Step {
    Add { name: usize, bytes: u64 },
    Cancel { name: usize, bytes: u64 },
    Lease { bytes: usize, events: usize },
    Acknowledge(prop::sample::Index),
    GiveBack(prop::sample::Index),
    Hold { name: usize },
    Release { name: usize },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6_usize, 1..3_000_u64).prop_map(|(name, bytes)| Step::Add { name, bytes }),
        1 => (0..6_usize, 1..3_000_u64).prop_map(|(name, bytes)| Step::Cancel { name, bytes }),
        2 => (0..6_000_usize, 0..5_usize).prop_map(|(bytes, events)| Step::Lease { bytes, events }),
        2 => any::<prop::sample::Index>().prop_map(Step::Acknowledge),
        2 => any::<prop::sample::Index>().prop_map(Step::GiveBack),
        1 => (0..6_usize).prop_map(|name| Step::Hold { name }),
        1 => (0..6_usize).prop_map(|name| Step::Release { name }),
    ]
}

/// What a batch is in the model: waiting or leased, whose, how large.
#[derive(Debug, Clone)]
struct Known {
    ticket: u64,
    name: usize,
    bytes: u64,
    leased: bool,
}

proptest! {
    /// The model is a plain list. Nothing is lost, nothing is leased twice, the accounts add up, the bound holds,
    /// each client gets its batches in order, nothing of a client on hold is leased and all of the others is, and who has no
    /// batch is no longer in the shared account.
    #[test]
    fn the_index_agrees_with_a_list(steps in vec(step(), 0..200)) {
        let now = Instant::now();
        let mut index = Index::new(LIMITS, now);
        let mut model: Vec<Known> = Vec::new();
        // Those on hold: each has a batch.
        let mut quiet: BTreeSet<usize> = BTreeSet::new();
        for (ticket, step) in (0_u64..).zip(steps) {
            match step {
                Step::Add { name, bytes } => {
                    let used: u64 = model.iter().map(|known| known.bytes).sum();
                    match add(&mut index, name, bytes, ticket) {
                        Ok(()) => model.push(Known { ticket, name, bytes, leased: false }),
                        Err(AppendError::Full { .. }) => prop_assert!(used + bytes > LIMITS.capacity),
                        Err(AppendError::OverShare { .. }) => prop_assert!(used > 0 || bytes > LIMITS.floor),
                        Err(other) => prop_assert!(false, "{:?}", other),
                    }
                }
                Step::Cancel { name, bytes } => {
                    if let Ok(promise) = index.admit(&client(name), bytes, now) {
                        index.cancel(promise, now);
                    }
                }
                Step::Lease { bytes, events } => {
                    let taken = index.lease(Want { bytes, events });
                    let waiting = model.iter().any(|known| !known.leased && !quiet.contains(&known.name));
                    prop_assert_eq!(!taken.is_empty(), waiting);
                    let mut sum = 0;
                    for (ticket, name) in &taken {
                        let place = model.iter().position(|known| known.ticket == *ticket);
                        let known = &mut model[place.expect("leased what was never added")];
                        prop_assert!(!known.leased && known.name == *name);
                        prop_assert!(!quiet.contains(name), "leased of {}, who is on hold", name);
                        known.leased = true;
                        sum += known.bytes;
                        let older = model.iter().find(|other| other.name == *name && !other.leased && other.ticket < *ticket);
                        prop_assert!(older.is_none(), "{:?} is older than {}", older, ticket);
                    }
                    prop_assert!(taken.len() <= 1 || (sum <= bytes as u64 && taken.len() <= events));
                }
                Step::Acknowledge(at) | Step::GiveBack(at) if !model.is_empty() => {
                    let at = at.index(model.len());
                    let known = model[at].clone();
                    if matches!(step, Step::Acknowledge(_)) {
                        let entry = index.acknowledge(known.ticket, now);
                        prop_assert_eq!(entry.is_some(), known.leased);
                        if known.leased {
                            model.remove(at);
                        }
                    } else {
                        prop_assert_eq!(index.give_back(known.ticket), known.leased);
                        model[at].leased = false;
                    }
                }
                Step::Acknowledge(_) | Step::GiveBack(_) => {}
                Step::Hold { name } => {
                    index.hold(&client(name));
                    if model.iter().any(|known| known.name == name) {
                        quiet.insert(name);
                    }
                }
                Step::Release { name } => {
                    index.release(&client(name));
                    quiet.remove(&name);
                }
            }
            quiet.retain(|name| model.iter().any(|known| known.name == *name));
            let some = model.len() as u64 / 2..=model.len() as u64 + 3;
            let looked = std::cell::Cell::new(0);
            let selected = index.select(&some, |_| {
                looked.set(looked.get() + 1);
                true
            });
            let selected: Vec<_> = selected.iter().map(|(key, _)| key.ticket).collect();
            let mut known: Vec<_> = model.iter().map(|known| known.ticket).filter(|ticket| some.contains(ticket)).collect();
            known.sort_unstable();
            prop_assert_eq!(looked.get(), known.len());
            prop_assert_eq!(selected, known);
            let used: u64 = model.iter().map(|known| known.bytes).sum();
            prop_assert_eq!(index.used(), used);
            prop_assert!(used <= LIMITS.capacity);
            let status = index.status(UNIX_EPOCH + Duration::from_secs(5), now);
            let leased = model.iter().filter(|known| known.leased).count();
            prop_assert_eq!((status.batches, status.leased), (model.len() as u64, leased as u64));
            prop_assert_eq!(status.oldest.is_some(), !model.is_empty());
            prop_assert_eq!(index.is_empty(), model.is_empty());
            prop_assert!(index.clients.len() <= LIMITS.clients + 1);
            let names: BTreeSet<_> = model.iter().map(|known| known.name).collect();
            prop_assert!(index.clients.sharing() <= names.len());
            let shared = index.clients.held(&None);
            let sharers = names.iter().filter(|name| index.clients.owner(&client(**name)).is_none());
            let theirs: BTreeSet<_> = sharers.copied().collect();
            let sum: u64 = model.iter().filter(|known| theirs.contains(&known.name)).map(|known| known.bytes).sum();
            prop_assert_eq!(shared, sum);
        }
        // All that waits comes out once nobody is on hold.
        let of_others = |known: &&Known| !known.leased && !quiet.contains(&known.name);
        let others = model.iter().filter(of_others).count();
        prop_assert_eq!(index.lease(ALL).len(), others);
        for name in &quiet {
            index.release(&client(*name));
        }
        let rest = model.iter().filter(|known| !known.leased).count() - others;
        prop_assert_eq!(index.lease(ALL).len(), rest);
    }

    #[test]
    fn each_client_gets_its_batches_in_order(
        added in vec((0..3_usize, 1..900_u64), 1..60),
        returned in vec(any::<prop::sample::Index>(), 0..20),
        bytes in 1..5_000_usize,
    ) {
        let mut index = roomy();
        for (ticket, (name, bytes)) in (0..).zip(&added) {
            add(&mut index, *name, *bytes, ticket).unwrap();
        }
        let first = index.lease(Want { bytes, events: 100 });
        for at in returned {
            index.give_back(first[at.index(first.len())].0);
        }
        let rest = index.lease(ALL);
        for name in 0..3 {
            let tickets: Vec<_> = rest.iter().filter(|(_, owner)| *owner == name).map(|(ticket, _)| *ticket).collect();
            prop_assert!(tickets.is_sorted(), "{:?}", tickets);
        }
    }
}
