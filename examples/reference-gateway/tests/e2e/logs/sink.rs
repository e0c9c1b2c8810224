//! A sink that hangs.

use std::fs;

use gw_testkit::client::Client;
use gw_testkit::elasticsearch::Behaviour;
use tempfile::TempDir;

use super::{AMPLE, Promises, cluster, config, event, to_cluster, upload};
use crate::gateway::Gateway;
use crate::http::{get, is_refusal, page, retry_after};

/// As many names as one address may have, so that none of them holds more than its share before the queue is full.
const CLIENTS: usize = 32;
/// Bytes of a message.
const FILLING: usize = 16 * 1024;
/// Uploads after the queue is full, of which each must be refused.
const REFUSED: usize = 1500;

/// Resident bytes of a process.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

#[tokio::test]
async fn while_the_sink_hangs_uploads_are_taken_until_the_bound_and_memory_stays_flat() {
    let cluster = cluster().await;
    cluster.behave(Behaviour::hung());
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "8MiB") + AMPLE;
    let gateway = Gateway::serve(&config("", &ingest)).await;
    let mut connection = Client::connect(gateway.traffic).await;
    let filling = "x".repeat(FILLING);
    let mut promises = Promises::default();
    let mut send = async |n: usize| {
        let message = format!("{n}-{filling}");
        let client = format!("client{}", n % CLIENTS);
        connection.send(&upload(&client, &[event(&message)])).await;
        (connection.read_answer().await, message)
    };

    let mut count = 0;
    let refusal = loop {
        let (answer, message) = send(count).await;
        count += 1;
        if answer.status() != 202 {
            break answer;
        }
        promises.add(&answer, &[message]);
        assert!(count * FILLING < 16 << 20, "the queue has no bound");
    };
    is_refusal("a full queue", &refusal, 503, "OVERLOADED");
    retry_after("a full queue", &refusal);
    assert!(refusal.header("x-gw-log-limits").is_some(), "{refusal:?}");
    let logs = page(gateway.admin, "/logs").await;
    let number = |value: &serde_json::Value| value.as_f64().unwrap();
    let (bytes, capacity) = (&logs["queue"]["bytes"], &logs["queue"]["capacity"]);
    assert!(number(bytes) > 0.9 * number(capacity), "{logs}");
    assert!(number(&logs["queue"]["oldest_seconds"]) > 0.0, "{logs}");
    assert_eq!(logs["events"]["accepted"], promises.len());
    assert_eq!(logs["events"]["imbalance"], 0, "{logs}");
    assert_eq!(logs["consumer"]["delivered"], 0, "{logs}");

    let before = resident(gateway.pid());
    for n in count..count + REFUSED {
        let (answer, _) = send(n).await;
        is_refusal("a full queue", &answer, 503, "OVERLOADED");
        retry_after("a full queue", &answer);
    }
    let grown = resident(gateway.pid()).saturating_sub(before);
    let sent = (REFUSED * FILLING) as u64;
    assert!(
        grown < sent / 4,
        "{grown} bytes more after {sent} were refused"
    );
    // The gateway wants traffic: a full queue of logs is nobody else's problem.
    assert_eq!(get(gateway.health, "/readyz").await.status(), 200);

    cluster.behave(Behaviour::healthy());
    promises.are_kept(&cluster).await;
    // And there is room again.
    crate::command::until("room in the queue", || async {
        let answer = super::send_one(&gateway, "client0", "after").await;
        (answer.status() == 202).then_some(())
    })
    .await;
}
