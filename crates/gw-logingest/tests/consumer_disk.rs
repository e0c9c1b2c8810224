//! The consumer on the queue on disk: what one life leaves undone, the next delivers.
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
use std::path::Path;
use std::time::Duration;

use gw_logingest::consumer::{Consumer, ConsumerBuilder};
use gw_logingest::dead_letter::DeadLetterQueue;
use gw_logingest::sink::elasticsearch::ElasticsearchSink;
use gw_logingest::{DiskQueue, Queue};
use gw_testkit::elasticsearch::{
    Behaviour, Config, Elasticsearch, Field, Garble, ItemFault, Mapping,
};
use gw_testkit::within;

use self::consumer_support::{Letters, batch_of, consumer, fill};

fn open(dir: &Path) -> DiskQueue {
    let queue = DiskQueue::builder(dir).client_share(1_000.0);
    let queue = queue.segment_bytes(1024 * 1024).max_bytes(16 * 1024 * 1024);
    queue.open().unwrap()
}

fn builder(
    cluster: &Elasticsearch,
    queue: &DiskQueue,
) -> ConsumerBuilder<DiskQueue, ElasticsearchSink, Letters> {
    let sink = ElasticsearchSink::builder("logs").node(cluster.url());
    let letters = Letters::bounded(usize::MAX);
    consumer(queue.clone(), sink.build().unwrap(), &letters)
        .max_events(20)
        .linger(Duration::ZERO)
        .backoff(Duration::from_millis(1), Duration::from_millis(20))
        .grace(Duration::ZERO)
}

#[tokio::test]
async fn many_short_lives_deliver_everything_once() {
    const LIVES: usize = 6;
    const EACH: usize = 300;
    let dir = tempfile::tempdir().unwrap();
    let cluster = Elasticsearch::start(Config::elasticsearch()).await;
    for life in 0..LIVES {
        let queue = open(dir.path());
        fill(&queue, life * EACH..(life + 1) * EACH, 50).await;
        cluster.script((0..6).map(|place| match place % 3 {
            0 => Behaviour::failing_items(ItemFault::Rejected, 0.5, life as u64),
            1 => Behaviour::healthy().garble(Garble::Lost),
            _ => Behaviour::healthy(),
        }));
        let consumer = builder(&cluster, &queue).build().unwrap();
        let handle = consumer.handle();
        let seen = cluster.requests().bulk;
        let enough = cluster.until("some requests", move |requests| requests.bulk >= seen + 7);
        if life % 2 == 0 {
            consumer.run(enough).await;
        } else {
            // Dropped in the middle of things, as in a crash.
            tokio::select! {
                () = consumer.run(pending()) => panic!("it runs on"),
                () = enough => {}
            }
        }
        assert_eq!(handle.status().imbalance(), 0);
        queue.shutdown().await;
    }

    let queue = open(dir.path());
    queue.close();
    let consumer = builder(&cluster, &queue).build().unwrap();
    within("the end", consumer.run(pending())).await;
    assert_eq!(queue.status().batches, 0);
    let documents = cluster.documents();
    assert_eq!(documents.len(), LIVES * EACH);
    assert!(documents.iter().all(|document| document.indexed == 1));
}

#[tokio::test]
async fn dead_letters_in_a_queue_on_disk_survive_and_can_be_delivered_again() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let mapping = Mapping::strict([("@timestamp", Field::Date)]);
    let cluster = Elasticsearch::start(Config::elasticsearch().mapping(mapping)).await;
    let queue = open(&live);
    let batch = batch_of(&[("misfit".to_owned(), 5)]);
    queue.append(batch).await.unwrap();
    queue.close();
    {
        let letters = DeadLetterQueue::new(open(&dead));
        let sink = ElasticsearchSink::builder("logs").node(cluster.url());
        let consumer = Consumer::builder(queue.clone(), sink.build().unwrap());
        let consumer = consumer.dead_letters(letters.clone()).build().unwrap();
        within("the end", consumer.run(pending())).await;
        letters.queue().shutdown().await;
    }
    // Another life looks at them with another sink.
    let letters = open(&dead);
    letters.close();
    let repaired = Elasticsearch::start(Config::elasticsearch()).await;
    within(
        "the end",
        builder(&repaired, &letters).build().unwrap().run(pending()),
    )
    .await;
    let documents = repaired.documents();
    assert_eq!((documents.len(), documents[0].id.as_str()), (1, "misfit"));
    let letter: serde_json::Value = serde_json::from_slice(&documents[0].source).unwrap();
    assert_eq!(letter["_source"]["message"], "xxxxx");
    assert_eq!(letter["reason"]["kind"], "strict_dynamic_mapping_exception");
}
