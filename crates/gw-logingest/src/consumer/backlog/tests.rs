use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::batch::{Batch, BatchId, Class, ClientId};
use crate::consumer::backoff::Backoff;
use crate::consumer::judge::Verdict;
use crate::consumer::pace::{Hope, Pace};
use crate::queue::{Outcome, Settle};
use crate::sink::{Delivery, Item};

const LINGER: Duration = Duration::from_secs(1);

/// Remembers what became of each lease.
#[derive(Default)]
struct Engine(Mutex<Vec<(u64, Outcome)>>);

impl Settle for Engine {
    fn settle(&self, ticket: u64, outcome: Outcome) {
        self.0.lock().unwrap().push((ticket, outcome));
    }
}

struct World {
    engine: Arc<Engine>,
    backlog: Backlog,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self {
            engine: Arc::new(Engine::default()),
            backlog: Backlog::default(),
            now: Instant::now(),
        }
    }

    fn take_in(&mut self, ticket: u64, sizes: &[usize]) {
        self.take_in_of("c", ticket, sizes);
    }

    fn take_in_of(&mut self, client: &str, ticket: u64, sizes: &[usize]) {
        let received = SystemTime::UNIX_EPOCH;
        let client = ClientId::new(client).unwrap();
        let mut builder = Batch::builder(BatchId::new(received), client, received);
        for (index, size) in sizes.iter().enumerate() {
            let id = format!("{ticket}.{index}");
            builder.push(Some(&id), Class::Normal, "x".repeat(*size).as_bytes());
        }
        let leased = Leased::new(builder.finish(), self.engine.clone(), ticket);
        let count = self.backlog.take_in(leased, self.now, LINGER);
        assert_eq!(count, sizes.len());
    }

    fn settled(&self) -> Vec<(u64, Outcome)> {
        self.engine.0.lock().unwrap().clone()
    }
}

fn only(client: &str) -> HashSet<ClientId> {
    HashSet::from([ClientId::new(client).unwrap()])
}

#[derive(Debug, Clone)]
enum Step {
    TakeIn {
        client: bool,
        events: usize,
    },
    Cut {
        events: usize,
    },
    /// This event of all that were ever cut.
    Settle(prop::sample::Index),
    GiveBack {
        client: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (any::<bool>(), 0..5_usize).prop_map(|(client, events)| Step::TakeIn { client, events }),
        (1..8_usize).prop_map(|events| Step::Cut { events }),
        any::<prop::sample::Index>().prop_map(Step::Settle),
        any::<prop::sample::Index>().prop_map(Step::Settle),
        any::<bool>().prop_map(|client| Step::GiveBack { client }),
    ]
}

proptest! {
    /// Each event of an open batch is settled once at most, as the consumer does.
    #[test]
    fn what_is_not_settled_is_the_sum_over_the_open_batches(steps in vec(step(), 0..60)) {
        let mut world = World::new();
        let name = |client| if client { "c" } else { "d" };
        let mut away = Vec::new();
        for (ticket, step) in (1..).zip(steps) {
            match step {
                Step::TakeIn { client, events } => {
                    world.take_in_of(name(client), ticket, &vec![1; events]);
                }
                Step::Cut { events } => {
                    let load = world.backlog.cut(1_000_000, events, world.now + LINGER);
                    away.extend(load.into_iter().flat_map(|load| load.tags));
                }
                Step::Settle(_) if away.is_empty() => {}
                Step::Settle(which) => {
                    let tag = away.swap_remove(which.index(away.len()));
                    world.backlog.settle(tag);
                }
                Step::GiveBack { client } => {
                    world.backlog.give_back(&only(name(client)));
                }
            }
            let sum: usize = world.backlog.open.values().map(|open| open.unsettled).sum();
            prop_assert_eq!(world.backlog.unsettled(), sum);
        }
    }
}

fn ids(load: &Load) -> Vec<String> {
    load.events
        .iter()
        .map(|event| event.id().into_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_acknowledged_with_its_last_event() {
    let mut world = World::new();
    world.take_in(1, &[1, 1]);
    world.take_in(2, &[1]);
    let load = world.backlog.cut(1_000_000, 3, world.now).unwrap();
    assert_eq!(ids(&load), ["1.0", "1.1", "2.0"]);
    world.backlog.settle(load.tags[0]);
    assert_eq!(world.settled(), []);
    world.backlog.settle(load.tags[2]);
    assert_eq!(world.settled(), [(2, Outcome::Acknowledged)]);
    world.backlog.settle(load.tags[1]);
    assert_eq!(world.settled().len(), 2);
    assert!(world.backlog.is_empty());
    assert_eq!(world.backlog.open_bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_done_goes_back() {
    let mut world = World::new();
    world.take_in(1, &[1, 1]);
    let load = world.backlog.cut(1, 1_000, world.now).unwrap();
    world.backlog.settle(load.tags[0]);
    assert_eq!(world.backlog.unsettled(), 1);
    world.backlog = Backlog::default();
    assert_eq!(world.settled(), [(1, Outcome::Returned)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_nowhere_any_more() {
    let mut world = World::new();
    world.take_in(1, &[1, 1, 1, 1]);
    let load = world.backlog.cut(1_000_000, 3, world.now).unwrap();
    let mut works: Vec<_> = load.works().collect();
    let later = world.now + Duration::from_secs(5);
    world.backlog.put_pieces(vec![works.split_off(2)]);
    world.backlog.put_off(vec![works.remove(1)], later);
    world.backlog.settle(load.tags[0]);
    assert_eq!(world.backlog.give_back(&only("d")), 0);
    assert!(world.backlog.is_open(load.tags[0]));
    assert_eq!(world.backlog.give_back(&only("c")), 3);
    assert_eq!(world.settled(), [(1, Outcome::Returned)]);
    assert!(world.backlog.is_empty() && !world.backlog.is_open(load.tags[0]));
    assert_eq!(
        (world.backlog.open_bytes(), world.backlog.unsettled()),
        (0, 0)
    );
    assert_eq!(world.backlog.next_time(world.now), None);
    world.backlog.wake(later);
    assert!(world.backlog.cut(1, 1, later).is_none());
    // Whoever still has an event of it learns nothing more.
    world.backlog.settle(load.tags[1]);
    assert_eq!(world.settled().len(), 1);
    world.take_in(2, &[1]);
    let again = world.backlog.cut(1_000_000, 1, later).unwrap();
    assert_eq!(ids(&again), ["2.0"]);
}

#[tokio::test(start_paused = true)]
async fn an_empty_batch_is_done_at_once() {
    let mut world = World::new();
    world.take_in(1, &[]);
    assert_eq!(world.settled(), [(1, Outcome::Acknowledged)]);
}

#[tokio::test(start_paused = true)]
async fn a_request_is_cut_by_bytes_by_events_or_by_time() {
    let mut world = World::new();
    world.take_in(1, &[100, 100, 100]);
    let size = 100 + OVERHEAD;
    assert!(world.backlog.cut(4 * size, 4, world.now).is_none());
    assert_eq!(world.backlog.next_time(world.now), Some(world.now + LINGER));
    assert_eq!(
        world
            .backlog
            .cut(2 * size, 4, world.now)
            .unwrap()
            .events
            .len(),
        2
    );
    world.take_in(2, &[100, 100]);
    assert_eq!(
        ids(&world.backlog.cut(9 * size, 2, world.now).unwrap()),
        ["1.2", "2.0"]
    );
    let late = world.now + LINGER;
    assert_eq!(ids(&world.backlog.cut(9 * size, 9, late).unwrap()), ["2.1"]);
    assert!(world.backlog.cut(9 * size, 9, late).is_none());
}

#[tokio::test(start_paused = true)]
async fn one_event_is_cut_however_large() {
    let mut world = World::new();
    world.take_in(1, &[10_000, 1]);
    assert_eq!(
        ids(&world.backlog.cut(100, 10, world.now).unwrap()),
        ["1.0"]
    );
}

#[tokio::test(start_paused = true)]
async fn what_comes_back_goes_first_and_at_once() {
    let mut world = World::new();
    world.take_in(1, &[1, 1, 1]);
    let load = world.backlog.cut(1_000_000, 3, world.now).unwrap();
    world.take_in(2, &[1]);
    world.backlog.put_back(load.works(), world.now);
    let again = world.backlog.cut(1_000_000, 1_000, world.now).unwrap();
    assert_eq!(ids(&again), ["1.0", "1.1", "1.2", "2.0"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_put_off_waits_for_its_time() {
    let mut world = World::new();
    world.take_in(1, &[1, 1]);
    let load = world.backlog.cut(1_000_000, 2, world.now).unwrap();
    let mut works: Vec<_> = load.works().collect();
    let later = world.now + Duration::from_secs(5);
    world.backlog.put_off(vec![works.remove(1)], later);
    world.backlog.put_off(works, later - Duration::from_secs(1));
    world.backlog.wake(world.now);
    assert!(world.backlog.cut(1, 1, world.now).is_none());
    assert_eq!(
        world.backlog.next_time(world.now),
        Some(world.now + Duration::from_secs(4))
    );
    world.backlog.wake(later);
    assert_eq!(world.backlog.cut(1_000, 9, later).unwrap().events.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn pieces_go_as_they_are_in_turn_with_the_others() {
    let mut world = World::new();
    world.take_in(1, &[1; 4]);
    let load = world.backlog.cut(1_000_000, 4, world.now).unwrap();
    let mut works: Vec<_> = load.works().collect();
    let second = works.split_off(2);
    world.backlog.put_pieces(vec![works, second, Vec::new()]);
    world.take_in(2, &[1, 1]);
    let mut order = Vec::new();
    while let Some(load) = world.backlog.cut(1_000_000, 1, world.now) {
        assert_eq!(load.piece, ids(&load)[0].starts_with('1'));
        order.push(ids(&load).join(" "));
    }
    assert_eq!(order, ["1.0 1.1", "2.0", "1.2 1.3", "2.1"]);
}

/// Others are taken, and not this event, if they were in its request or were sent after it was refused. Those that were on their
/// way meanwhile may have been the last before an outage.
#[tokio::test(start_paused = true)]
async fn what_was_under_way_does_not_tell_that_the_sink_takes_others() {
    let mut world = World::new();
    world.take_in(1, &[10, 10]);
    let load = world.backlog.cut(1_000, 10, world.now + LINGER).unwrap();
    let mut pace = Pace::new(Backoff::new(LINGER, LINGER), LINGER, 8, 1_000);
    let [of_this, under_way] = [0, 1].map(|running| pace.stamp(running, 1, world.now));
    let refused = |items: [Item; 2], pace: &Pace| {
        let delivery = Delivery::Items(items.to_vec());
        Verdict::new(&load, of_this, delivery, pace, Hope::Nobody).later
    };
    let [all, some] = [Item::Retry, Item::Delivered].map(|other| {
        let mut works = refused([Item::Retry, other], &pace);
        works
            .iter_mut()
            .for_each(|work| work.tag.failures = PATIENCE);
        works
    });
    pace.understood(under_way);
    for (works, is_blamed) in [(all, false), (some, true)] {
        world.backlog.later.clear();
        world.backlog.put_off(works, world.now);
        let blamed = world.backlog.refused_all(|number| pace.has_taken(number));
        assert_eq!(blamed.is_some(), is_blamed);
    }
}
