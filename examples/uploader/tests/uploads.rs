//! The program, and an intake that has it wait.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_testkit::upstream::{Reply, Upstream, always, in_order};
use gw_testkit::within;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::Instant;

const EVENTS: &str = "{\"message\":\"a\"}\n{\"message\":\"b\",\"event_id\":\"7\"}\nno event\n";

const RECEIPT: &str = r#"{"receipt":"1","accepted":2,"rejected":1,"durability":"host"}"#;

/// What it says in the end.
async fn upload(url: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_uploader"));
    let command = command.arg(format!("{url}/logs")).kill_on_drop(true);
    let command = command.stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut program = command.spawn().unwrap();
    let mut stdin = program.stdin.take().unwrap();
    stdin.write_all(EVENTS.as_bytes()).await.unwrap();
    drop(stdin);
    let output = within("its end", program.wait_with_output()).await.unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// The bodies of what was uploaded.
fn uploads(intake: &Upstream) -> Vec<String> {
    let bodies = intake.requests().into_iter().map(|request| request.body);
    bodies
        .map(|body| String::from_utf8(body.to_vec()).unwrap())
        .collect()
}

#[tokio::test]
async fn a_refused_batch_comes_again_when_it_may_and_without_a_word_about_it() {
    let replies = in_order([
        Reply::status(503).header("retry-after", "1"),
        Reply::status(429),
        Reply::status(202).body(RECEIPT),
    ]);
    let times = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&times);
    let intake = Upstream::start(move |request| {
        noted.lock().unwrap().push(Instant::now());
        replies(request)
    });
    let intake = intake.await;
    let said = upload(&intake.url()).await;
    assert_eq!(said, "2 of 3 events were taken\n");
    let uploads = uploads(&intake);
    // The same three each time, by the same ids: nothing about what failed.
    assert_eq!(uploads, [&*uploads[0]; 3]);
    assert_eq!(uploads[0].lines().count(), 3);
    assert!(uploads[0].contains(r#""event_id":"7""#));
    assert_eq!(uploads[0].matches("event_id").count(), 3);
    let times = times.lock().unwrap();
    assert!(times[1] - times[0] >= Duration::from_secs(1), "{times:?}");
}

#[tokio::test]
async fn what_is_refused_for_good_does_not_come_again() {
    let intake = Upstream::start(always(Reply::status(422))).await;
    let said = upload(&intake.url()).await;
    assert_eq!(said, "0 of 3 events were taken\n");
    assert_eq!(uploads(&intake).len(), 1);
}

#[tokio::test]
async fn an_intake_that_stays_down_is_given_up() {
    let intake = Upstream::start(always(Reply::status(502))).await;
    let said = upload(&intake.url()).await;
    assert_eq!(said, "0 of 3 events were taken\n");
    assert_eq!(uploads(&intake).len(), 4);
}
