//! The program, killed and started again.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::{fs, io};

use gw_testkit::client::{Answer, Client};
use gw_testkit::within;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The program on a free port. It ends when the first part is dropped.
async fn start(directory: &Path) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_log-intake"));
    let command = command.arg("127.0.0.1:0").arg(directory);
    let command = command.stdout(Stdio::piped()).kill_on_drop(true);
    let mut program = command.spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = within("its first line", lines.next_line()).await;
    let line = line.unwrap().unwrap();
    let (_, address) = line.split_once("http://").unwrap();
    (program, address.parse().unwrap())
}

async fn upload(address: SocketAddr, events: &str) -> Answer {
    let mut client = Client::connect(address).await;
    let head = "POST /logs HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n";
    let length = events.len();
    let request = format!("{head}content-length: {length}\r\n\r\n{events}");
    client.send(&request).await;
    client.read_answer().await
}

fn event(message: &str) -> String {
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    format!(
        r#"{{"trace_id":"{trace}","service":"shop","level":"info","message":"{message}"}}{}"#,
        "\n"
    )
}

#[tokio::test]
async fn what_was_answered_202_is_delivered_after_a_kill() {
    let directory = tempfile::tempdir().unwrap();
    let delivered = directory.path().join("events.ndjson");
    // Nothing can be delivered for now, as if the cluster were down.
    fs::create_dir(&delivered).unwrap();

    let (mut program, address) = start(directory.path()).await;
    let batch = [&event("first"), "no event\n", &event("second")].concat();
    let answer = upload(address, &batch).await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    let receipt: serde_json::Value = serde_json::from_str(answer.text()).unwrap();
    assert_eq!(
        (
            &receipt["accepted"],
            &receipt["rejected"],
            &receipt["durability"]
        ),
        (&2.into(), &1.into(), &"host".into())
    );
    let mut client = Client::connect(address).await;
    client.get("/").await;
    assert_eq!(client.read_answer().await.text(), "hello\n");
    program.kill().await.unwrap();

    fs::remove_dir(&delivered).unwrap();
    let (_program, _) = start(directory.path()).await;
    let read = || match fs::read_to_string(&delivered) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        text => text.unwrap(),
    };
    let both = async {
        while !(read().contains("first") && read().contains("second")) {
            tokio::task::yield_now().await;
        }
    };
    within("both events", both).await;
}
