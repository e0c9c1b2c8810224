//! Stopping, and what is there afterwards.

use std::fs;

use gw_testkit::elasticsearch::{Behaviour, Config, Elasticsearch, Field, Mapping};
use serde_json::Value;
use tempfile::TempDir;

use super::{Promises, cluster, config, send_one, to_cluster};
use crate::gateway::Gateway;
use crate::http::page;

const AT_ONCE: &str = "drain_delay = \"0s\"\nshutdown_grace = \"300ms\"";

async fn stop(mut gateway: Gateway) {
    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
}

#[tokio::test]
async fn what_the_sink_has_not_taken_waits_for_the_next_start() {
    let cluster = cluster().await;
    cluster.behave(Behaviour::hung());
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "1MiB");
    let text = config(AT_ONCE, &ingest);
    let gateway = Gateway::serve(&text).await;
    let mut promises = Promises::default();
    for n in 0..10 {
        let message = n.to_string();
        promises.add(&send_one(&gateway, "app", &message).await, &[message]);
    }
    stop(gateway).await;
    assert_eq!(cluster.indexed(), 0);
    cluster.behave(Behaviour::healthy());
    let gateway = Gateway::serve(&text).await;
    promises.are_kept(&cluster).await;
    stop(gateway).await;
}

#[tokio::test]
async fn a_queue_in_memory_is_delivered_before_the_end() {
    let folder = TempDir::new().unwrap();
    let events = folder.path().join("events.ndjson");
    let ingest = format!(
        "queue = {{ engine = \"memory\", max_bytes = \"1MiB\" }}\nsink = {{ kind = \"file\", path = \"{}\" }}",
        events.display()
    );
    let text = config("drain_delay = \"0s\"\nshutdown_grace = \"9s\"", &ingest);
    let gateway = Gateway::serve(&text).await;
    for n in 0..10 {
        let answer = send_one(&gateway, "app", &n.to_string()).await;
        assert_eq!(answer.header("x-gw-log-durability"), Some("memory"));
    }
    stop(gateway).await;
    let written = fs::read_to_string(&events).unwrap();
    let messages: Vec<String> = written
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|line| line["_source"]["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(messages, ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]);
}

#[tokio::test]
async fn without_a_sink_that_is_there_batches_stay_and_it_is_said() {
    let cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let queue = folder.path().join("queue");
    let embedded = format!(
        "queue = {{ engine = \"disk\", dir = \"{}\", max_bytes = \"1MiB\" }}",
        queue.display()
    );
    let mut gateway = Gateway::serve(&config(AT_ONCE, &embedded)).await;
    let mut promises = Promises::default();
    promises.add(
        &send_one(&gateway, "app", "kept").await,
        &["kept".to_owned()],
    );
    let logs = page(gateway.admin, "/logs").await;
    assert_eq!(
        (&logs["queue"]["batches"], &logs["consumer"]),
        (&1.into(), &Value::Null)
    );
    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("note: log_ingest.sink: "), "{said}");

    let text = config(AT_ONCE, &to_cluster(&queue, &cluster, "1MiB"));
    let gateway = Gateway::serve(&text).await;
    promises.are_kept(&cluster).await;
    stop(gateway).await;
}

#[tokio::test]
async fn what_the_sink_will_never_take_lies_beside_the_queue() {
    let strict = Mapping::strict([("message", Field::Long)]);
    let cluster = Elasticsearch::start(Config::elasticsearch().mapping(strict)).await;
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "1MiB");
    let gateway = Gateway::serve(&config(AT_ONCE, &ingest)).await;
    assert_eq!(send_one(&gateway, "app", "no number").await.status(), 202);
    crate::command::until("a dead letter", || async {
        let logs = page(gateway.admin, "/logs").await;
        (logs["consumer"]["dead"] == 1).then_some(())
    })
    .await;
    let letters = fs::read_to_string(folder.path().join("queue.dead.ndjson")).unwrap();
    let letter: Value = serde_json::from_str(&letters).unwrap();
    assert_eq!(letter["client"], "header:app");
    assert_eq!(letter["_source"]["message"], "no number");
    stop(gateway).await;
}
