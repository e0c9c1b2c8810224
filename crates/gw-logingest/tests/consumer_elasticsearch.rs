//! The consumer and its sink against a simulated cluster, over real sockets.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "a broken expectation must stop the test at once, with a message"
)]

mod consumer_support;

use std::future::pending;
use std::time::Duration;

use gw_logingest::consumer::{ConsumerBuilder, ConsumerHandle, ConsumerState, ConsumerStatus};
use gw_logingest::sink::elasticsearch::{ElasticsearchSink, ElasticsearchSinkBuilder};
use gw_logingest::sink::{Delivery, Fault, Item, Sink};
use gw_logingest::{Event, MemoryQueue, Pressure, Queue};
use gw_testkit::elasticsearch::{
    Behaviour, Config, Elasticsearch, Field, Garble, ItemFault, Mapping,
};
use gw_testkit::{PATIENCE, within};
use http::{HeaderValue, StatusCode};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::consumer_support::{Letters, batch_of, consumer, fill, queue};

const INDEX: &str = "logs-gw-test";
/// Where an answer is not to come, or may be given up: short enough to wait for.
const SHORT: Duration = Duration::from_millis(500);

fn sink_to(cluster: &Elasticsearch) -> ElasticsearchSinkBuilder {
    ElasticsearchSink::builder(INDEX).node(cluster.url())
}

fn events(ids: std::ops::Range<usize>) -> Vec<Event> {
    let events: Vec<_> = ids.map(|id| (id.to_string(), 10)).collect();
    batch_of(&events).events().collect()
}

/// A queue with events and a consumer whose waits suit a test.
struct World {
    cluster: Elasticsearch,
    queue: MemoryQueue,
    letters: Letters,
    pressure: Pressure,
    handle: ConsumerHandle,
    running: JoinHandle<()>,
}

impl World {
    /// Starts delivering so many events.
    async fn start(config: Config, behaviour: Behaviour, count: usize, size: usize) -> Self {
        let cluster = Elasticsearch::start(config).await;
        cluster.behave(behaviour);
        let sink = sink_to(&cluster).request_timeout(PATIENCE);
        Self::with(cluster, sink, count, size, |builder| builder).await
    }

    /// Starts delivering so many events to a cluster whose answers are given up soon.
    async fn impatient(behaviour: Behaviour, count: usize, size: usize) -> Self {
        let cluster = Elasticsearch::start(Config::elasticsearch()).await;
        cluster.behave(behaviour);
        let sink = sink_to(&cluster).request_timeout(SHORT);
        Self::with(cluster, sink, count, size, |builder| builder).await
    }

    async fn with(
        cluster: Elasticsearch,
        sink: ElasticsearchSinkBuilder,
        count: usize,
        size: usize,
        set: impl FnOnce(
            ConsumerBuilder<MemoryQueue, ElasticsearchSink, Letters>,
        ) -> ConsumerBuilder<MemoryQueue, ElasticsearchSink, Letters>,
    ) -> Self {
        let (queue, letters, pressure) = (queue(), Letters::bounded(usize::MAX), Pressure::new());
        fill(&queue, 0..count, size).await;
        let builder = consumer(queue.clone(), sink.build().unwrap(), &letters)
            .pressure(pressure.clone())
            .linger(Duration::from_millis(5))
            .backoff(Duration::from_millis(5), Duration::from_millis(50))
            .pause(Duration::from_millis(50));
        let consumer = set(builder).build().unwrap();
        let handle = consumer.handle();
        let running = tokio::spawn(consumer.run(pending()));
        Self {
            cluster,
            queue,
            letters,
            pressure,
            handle,
            running,
        }
    }

    async fn until(&self, what: &str, so: impl Fn(&ConsumerStatus) -> bool) {
        within(what, async {
            while !so(&self.handle.status()) {
                sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    }

    /// Waits for the end and checks that each of these events is in the index exactly once.
    async fn ends_with_all(self, count: usize) -> (Elasticsearch, ConsumerStatus) {
        self.queue.close();
        within("the consumer to end", self.running).await.unwrap();
        let status = self.handle.status();
        assert_eq!(status.imbalance(), 0, "{status:?}");
        assert_eq!(self.queue.status().batches, 0);
        assert!(self.letters.all().is_empty());
        let documents = self.cluster.documents();
        assert_eq!(documents.len(), count);
        for document in documents {
            assert_eq!(
                (document.indexed, document.is_indexed()),
                (1, true),
                "{document:?}"
            );
        }
        (self.cluster, status)
    }
}

#[tokio::test]
async fn events_arrive_byte_for_byte_under_their_ids() {
    let world = World::start(Config::elasticsearch(), Behaviour::healthy(), 0, 0).await;
    let batch = batch_of(&[
        ("mine".to_owned(), 3),
        (String::new(), 4),
        ("\"q\\u\"ä".to_owned(), 5),
    ]);
    world.queue.append(batch.clone()).await.unwrap();
    let (cluster, status) = world.ends_with_all(3).await;
    assert_eq!((status.delivered, status.requests), (3, 1));
    for (event, document) in batch.events().zip(cluster.documents()) {
        assert_eq!(
            (document.id.as_str(), document.index.as_str()),
            (&*event.id(), INDEX)
        );
        assert_eq!(document.source, event.json());
    }
}

#[tokio::test]
async fn a_data_stream_of_opensearch_takes_them_too() {
    let config = Config::opensearch().data_stream(INDEX);
    let world = World::start(config, Behaviour::healthy(), 3_000, 10).await;
    world.ends_with_all(3_000).await;
}

#[tokio::test]
async fn a_hung_cluster_costs_nothing_but_time() {
    let world = World::impatient(Behaviour::hung(), 200, 10).await;
    world
        .until("the first timeout", |status| {
            status.state == ConsumerState::BackingOff
        })
        .await;
    assert!(!world.pressure.sink_healthy());
    assert_eq!(world.handle.status().delivered, 0);
    world.cluster.behave(Behaviour::healthy());
    world
        .until("delivery", |status| {
            status.delivered + status.duplicates == 200
        })
        .await;
    assert!(world.pressure.sink_healthy());
    world.ends_with_all(200).await;
}

#[tokio::test]
async fn a_cluster_that_goes_down_and_comes_up_loses_nothing() {
    let world = World::start(Config::elasticsearch(), Behaviour::healthy(), 100, 10).await;
    world.cluster.holds(100).await;
    world.cluster.go_down().await;
    fill(&world.queue, 100..300, 10).await;
    world
        .until("a refused connection", |status| {
            status.state == ConsumerState::BackingOff
        })
        .await;
    world.cluster.come_up().await;
    world.cluster.holds(300).await;
    world.ends_with_all(300).await;
}

#[tokio::test]
async fn rejected_items_are_sent_again_alone() {
    let behaviour = Behaviour::failing_items(ItemFault::Rejected, 0.3, 5);
    let world = World::start(Config::elasticsearch(), behaviour, 1_000, 10).await;
    let (cluster, status) = world.ends_with_all(1_000).await;
    let requests = cluster.requests();
    assert!(requests.rejected > 200, "{requests:?}");
    assert_eq!(requests.items, 1_000 + requests.rejected);
    assert_eq!(
        (requests.conflicts, status.retried),
        (0, requests.rejected as u64)
    );
}

#[tokio::test]
async fn a_saturated_cluster_is_filled_at_its_pace() {
    let behaviour = Behaviour::saturated(100, 5_000);
    let world = World::start(Config::elasticsearch(), behaviour, 2_000, 10).await;
    let (cluster, _) = world.ends_with_all(2_000).await;
    assert!(cluster.requests().rejected > 0);
    assert_eq!(cluster.requests().conflicts, 0);
}

#[tokio::test]
async fn misfits_become_dead_letters_and_their_neighbours_do_not() {
    let mapping = Mapping::strict([("@timestamp", Field::Date), ("message", Field::Keyword)]);
    let config = Config::elasticsearch().mapping(mapping);
    let world = World::start(config, Behaviour::healthy(), 0, 0).await;
    // The second one has a term that no index takes.
    let sizes = [10, 40_000, 10];
    let events: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(id, size)| (id.to_string(), *size))
        .collect();
    world.queue.append(batch_of(&events)).await.unwrap();
    world.queue.close();
    within("the end", world.running).await.unwrap();
    let status = world.handle.status();
    assert_eq!(
        (status.delivered, status.dead, status.imbalance()),
        (2, 1, 0)
    );
    assert_eq!(world.letters.ids(), ["1"]);
    let reason = world.letters.all()[0].reason().clone();
    assert_eq!(
        (reason.status(), reason.kind()),
        (Some(400), "illegal_argument_exception")
    );
    assert_eq!(
        world.cluster.documents()[1].offered,
        1,
        "it is not tried again"
    );
}

#[tokio::test]
async fn one_event_for_which_the_whole_request_is_refused_is_found() {
    let behaviour = Behaviour::refusing_text(r#""_id":"417""#);
    let world = World::start(Config::elasticsearch(), behaviour, 1_000, 10).await;
    world
        .until("the letter", |status| {
            (status.delivered, status.dead) == (999, 1)
        })
        .await;
    assert_eq!(world.letters.ids(), ["417"]);
    let reason = world.letters.all()[0].reason().clone();
    assert_eq!((reason.status(), reason.kind()), (Some(400), "Bad Request"));
    assert_eq!(world.cluster.documents().len(), 999);
    world.queue.close();
    within("the end", world.running).await.unwrap();
}

#[tokio::test]
async fn answers_that_are_lost_or_spoilt_lead_to_duplicates_that_are_recognised() {
    let spoilt = |garble| Behaviour::healthy().garble(garble);
    for garble in [
        Garble::Lost,
        Garble::NotJson,
        Garble::Truncated,
        Garble::MissingItems(30),
        Garble::Reversed,
        Garble::Endless,
    ] {
        let cluster = Elasticsearch::start(Config::elasticsearch()).await;
        cluster.script([spoilt(garble)]);
        let sink = sink_to(&cluster).max_reply(200_000);
        let world = World::with(cluster, sink, 100, 10, |builder| builder).await;
        let (cluster, status) = world.ends_with_all(100).await;
        let again = cluster.requests().conflicts as u64;
        assert_eq!(status.duplicates, again, "{garble:?}");
        let expected = if garble == Garble::MissingItems(30) {
            30
        } else {
            100
        };
        assert_eq!(again, expected, "{garble:?}");
    }
}

#[tokio::test]
async fn answers_that_come_too_late_do_so_as_well() {
    let behaviour = Behaviour::slow(Duration::from_secs(3_600));
    let world = World::impatient(behaviour, 100, 10).await;
    world.until("a timeout", |status| status.requests > 0).await;
    world.cluster.behave(Behaviour::healthy());
    let (_, status) = world.ends_with_all(100).await;
    assert_eq!(status.duplicates, 100);
}

#[tokio::test]
async fn too_large_requests_are_split_once_and_for_all() {
    let config = Config::elasticsearch().max_content_length(100_000);
    let world = World::start(config, Behaviour::healthy(), 1_000, 300).await;
    let (cluster, status) = world.ends_with_all(1_000).await;
    // Measured generously, so a little above the true limit.
    assert!(status.max_bytes <= 130_000, "{}", status.max_bytes);
    let refused = cluster.requests().refused;
    assert!(
        (1..=3).contains(&refused),
        "half a megabyte is halved up to three times, not {refused}"
    );
}

#[tokio::test]
async fn what_needs_an_administrator_waits_for_one() {
    for behaviour in [
        Behaviour::failing_items(ItemFault::Blocked, 1.0, 1),
        Behaviour::refusing(StatusCode::BAD_REQUEST),
        Behaviour::refusing(StatusCode::UNAUTHORIZED),
        Behaviour::refusing(StatusCode::FORBIDDEN),
        Behaviour::refusing(StatusCode::NOT_FOUND),
    ] {
        let world = World::start(Config::elasticsearch(), behaviour, 50, 10).await;
        world
            .until("a second try", |status| {
                status.requests >= 2 && status.state == ConsumerState::Blocked
            })
            .await;
        assert_eq!(world.handle.status().dead, 0);
        assert!(!world.pressure.sink_healthy());
        world.cluster.behave(Behaviour::healthy());
        world.ends_with_all(50).await;
    }
}

#[tokio::test]
async fn a_missing_index_blocks_too() {
    let config = Config::elasticsearch().without_auto_create();
    let world = World::start(config, Behaviour::healthy(), 50, 10).await;
    world
        .until("a second try", |status| status.requests >= 2)
        .await;
    let status = world.handle.status();
    assert_eq!((status.state, status.dead), (ConsumerState::Blocked, 0));
    assert_eq!(status.reason.unwrap().kind(), "index_not_found_exception");
    world.running.abort();
}

#[tokio::test]
async fn credentials_are_sent() {
    let cluster = Elasticsearch::start(Config::elasticsearch().authorization("ApiKey k")).await;
    let sink = sink_to(&cluster).authorization(HeaderValue::from_static("ApiKey k"));
    let world = World::with(cluster, sink, 10, 10, |builder| builder).await;
    world.ends_with_all(10).await;
}

#[tokio::test]
async fn each_answer_means_what_the_rules_say() {
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    let sink = |limit| sink_to(&cluster).request_timeout(limit).build().unwrap();
    let (patient, impatient) = (sink(PATIENCE), sink(SHORT));
    let events = events(0..3);
    let busy = Behaviour::refusing(StatusCode::TOO_MANY_REQUESTS);
    let retry = |after, fault| Delivery::Retry { after, fault };
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (behaviour, meaning) in [
        (busy.clone(), retry(None, Fault::Throttled)),
        (
            busy.clone().retry_after(Duration::from_secs(9)),
            retry(seconds(9), Fault::Throttled),
        ),
        (
            busy.retry_after(Duration::from_secs(86_400)),
            retry(seconds(300), Fault::Throttled),
        ),
        (
            Behaviour::refusing(StatusCode::PAYLOAD_TOO_LARGE),
            Delivery::TooLarge,
        ),
        (
            Behaviour::refusing(StatusCode::BAD_GATEWAY),
            retry(None, Fault::Unavailable),
        ),
        (
            Behaviour::refusing(StatusCode::SERVICE_UNAVAILABLE),
            retry(None, Fault::Unavailable),
        ),
        (
            Behaviour::slow(Duration::from_secs(3_600)),
            retry(None, Fault::Timeout),
        ),
        (
            Behaviour::healthy().garble(Garble::Lost),
            retry(None, Fault::Connection),
        ),
        (
            Behaviour::healthy().garble(Garble::NotJson),
            retry(None, Fault::Garbled),
        ),
        (
            Behaviour::healthy(),
            Delivery::Items(vec![Item::Duplicate; 3]),
        ),
    ] {
        cluster.script([behaviour.clone()]);
        let hangs = meaning == retry(None, Fault::Timeout);
        let sink = if hangs { &impatient } else { &patient };
        assert_eq!(sink.deliver(&events).await, meaning, "{behaviour:?}");
    }
    cluster.go_down().await;
    let delivery = patient.deliver(&events).await;
    assert_eq!(delivery, retry(None, Fault::Connection));
}

/// Story: what a failure store took was sent to it for ever, one more document each time, and its batch stayed in the queue.
#[tokio::test]
async fn what_a_failure_store_took_is_done() {
    let mapping = Mapping::strict([("message", Field::Text)]);
    let config = Config::elasticsearch().mapping(mapping).data_stream(INDEX);
    let world = World::start(config.failure_store(), Behaviour::healthy(), 20, 10).await;
    world.queue.close();
    within("the end", world.running).await.unwrap();
    let status = world.handle.status();
    assert_eq!((status.redirected, status.retried), (20, 0));
    assert_eq!((status.dead, status.imbalance()), (0, 0));
    assert_eq!(world.queue.status().batches, 0);
    let documents = world.cluster.documents();
    assert!(documents.iter().all(|document| document.offered == 1));
}

#[tokio::test]
async fn nodes_take_turns_and_a_dead_one_costs_no_delivery() {
    let (first, second) = (
        Elasticsearch::start(Config::elasticsearch()).await,
        Elasticsearch::start(Config::elasticsearch()).await,
    );
    let sink = sink_to(&first).node(second.url()).build().unwrap();
    for id in 0..10 {
        let delivery = sink.deliver(&events(id..id + 1)).await;
        assert_eq!(delivery, Delivery::Items(vec![Item::Delivered]));
    }
    assert_eq!((first.indexed(), second.indexed()), (5, 5));
    first.go_down().await;
    let mut delivered = 0;
    for id in 10..20 {
        // A request on a connection that has just been closed may fail; none may on a connection refused.
        match sink.deliver(&events(id..id + 1)).await {
            Delivery::Items(items) => delivered += items.len(),
            other => assert_eq!(id, 10, "{other:?}"),
        }
    }
    assert!(delivered >= 9, "{delivered}");
    assert_eq!(second.indexed(), 5 + delivered);
}

/// Everything at once: no event may be lost, and none may be in the index twice.
#[tokio::test]
async fn a_storm_loses_nothing() {
    const COUNT: usize = 3_000;
    for seed in 0..4 {
        let mut random = fastrand::Rng::with_seed(seed);
        let cluster = Elasticsearch::start(Config::elasticsearch()).await;
        let script: Vec<_> = (0..60).map(|_| weather(&mut random)).collect();
        cluster.script(script);
        let sink = sink_to(&cluster).request_timeout(SHORT).max_reply(200_000);
        let set = |builder: ConsumerBuilder<_, _, _>| builder.max_events(100).seed(seed);
        let world = World::with(cluster, sink, COUNT, 10, set).await;
        for _ in 0..3 {
            let enough = world.handle.status().requests + random.u64(3..15);
            world
                .until("some requests", |status| status.requests >= enough)
                .await;
            world.cluster.go_down().await;
            sleep(Duration::from_millis(random.u64(..50))).await;
            world.cluster.come_up().await;
        }
        let (cluster, status) = world.ends_with_all(COUNT).await;
        println!("seed {seed}: {status:?}\n{:?}", cluster.requests());
    }
}

fn weather(random: &mut fastrand::Rng) -> Behaviour {
    let seed = random.u64(..);
    match random.u8(..11) {
        0 => Behaviour::refusing(StatusCode::TOO_MANY_REQUESTS),
        1 => Behaviour::refusing(StatusCode::SERVICE_UNAVAILABLE),
        2 => Behaviour::failing_items(ItemFault::Rejected, 0.5, seed),
        3 => Behaviour::failing_items(ItemFault::Unavailable, 0.2, seed),
        4 => Behaviour::failing_items(ItemFault::Blocked, 0.1, seed),
        5 => Behaviour::healthy().garble(Garble::Lost),
        6 => Behaviour::healthy().garble(Garble::Truncated),
        7 => Behaviour::healthy().garble(Garble::MissingItems(10)),
        8 => Behaviour::refusing(StatusCode::FORBIDDEN),
        9 => Behaviour::saturated(50, 10_000),
        _ => Behaviour::healthy(),
    }
}
