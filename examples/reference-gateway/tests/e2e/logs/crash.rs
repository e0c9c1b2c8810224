//! `kill -9` under load.

use std::time::Duration;

use gw_testkit::client::Client;
use gw_testkit::elasticsearch::{Behaviour, Elasticsearch};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{AMPLE, Promises, cluster, config, event, named_event, receipt, to_cluster, upload};
use crate::gateway::Gateway;

const CONNECTIONS: usize = 4;
const KILLS: usize = 20;

/// What a client learned: ids at the sink, and messages.
type Learned = Vec<(String, String)>;

/// Uploads one batch after the other until the gateway is gone, and tells what each 202 promises.
async fn upload_on(mut connection: Client, name: String, learned: mpsc::UnboundedSender<Learned>) {
    for n in 0.. {
        let message = format!("{name}-{n}");
        // One with an id of its own, one that goes by its place.
        let events = [
            named_event(&message, &format!("{message}-named")),
            event(&format!("{message}-placed")),
        ];
        if connection.try_send(&upload("app", &events)).await.is_err() {
            return;
        }
        let answer = connection.read_answer().await;
        if !answer.is_complete() {
            return;
        }
        let promised = vec![
            (format!("header:app {message}"), format!("{message}-named")),
            (
                format!("{}-1", receipt(&answer)),
                format!("{message}-placed"),
            ),
        ];
        // Nobody listens any more when the round is over.
        _ = learned.send(promised);
    }
}

/// Runs a gateway under load until so many uploads are confirmed, and kills it. What was confirmed until its end counts.
///
/// With a `sink`, it is killed while it waits for the sink's answer: the sink has the events, and the gateway does not
/// know.
async fn round(
    text: &str,
    number: usize,
    confirmed: usize,
    sink: Option<&Elasticsearch>,
    promises: &mut Promises,
) {
    let before = sink.map(|sink| sink.requests().items);
    let gateway = Gateway::serve(text).await;
    let (learned, mut learning) = mpsc::unbounded_channel();
    let mut uploads = JoinSet::new();
    for n in 0..CONNECTIONS {
        let connection = Client::connect(gateway.traffic).await;
        let name = format!("round{number}-client{n}");
        uploads.spawn(upload_on(connection, name, learned.clone()));
    }
    drop(learned);
    let mut note = |learned: Learned| {
        for (id, message) in learned {
            promises.add_named(id, message);
        }
    };
    for _ in 0..confirmed {
        note(learning.recv().await.expect("uploads go on"));
    }
    if let (Some(sink), Some(before)) = (sink, before) {
        sink.until("a request that is not answered", move |requests| {
            requests.items > before
        })
        .await;
    }
    gateway.kill().await;
    while let Some(learned) = learning.recv().await {
        note(learned);
    }
    while let Some(ended) = uploads.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn what_was_confirmed_survives_twenty_kills_in_a_row() {
    let cluster = cluster().await;
    // It has the documents at once, and says so late.
    cluster.behave(Behaviour::slow(Duration::from_secs(2)));
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "64MiB") + AMPLE;
    let text = config("", &ingest);
    let mut promises = Promises::default();
    for number in 0..KILLS {
        // Each round ends at another moment.
        let sink = (number % 5 == 4).then_some(&cluster);
        round(&text, number, 1 + number * 3, sink, &mut promises).await;
    }
    assert!(promises.len() > KILLS * 2);
    cluster.behave(Behaviour::healthy());
    // The last one is not killed: it delivers what the others left.
    let gateway = Gateway::serve(&text).await;
    promises.are_kept(&cluster).await;
    saw_some_twice(&cluster);
    drop(gateway);
}

/// Otherwise the test has not shown that duplicates carry the same id.
fn saw_some_twice(cluster: &Elasticsearch) {
    let twice = cluster
        .documents()
        .iter()
        .filter(|it| it.offered > 1)
        .count();
    assert!(twice > 0, "no document came twice");
}
