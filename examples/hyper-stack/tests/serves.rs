//! The program, asked over a socket.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::process::Stdio;

use gw_testkit::client::Client;
use gw_testkit::within;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The program on a free port. It ends when the first part is dropped.
async fn start() -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hyper-stack"));
    let command = command.arg("127.0.0.1:0").stdout(Stdio::piped());
    let mut program = command.kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = within("its first line", lines.next_line()).await;
    let line = line.unwrap().unwrap();
    let (_, address) = line.split_once("http://").unwrap();
    (program, address.parse().unwrap())
}

#[tokio::test]
async fn one_limit_holds_over_all_connections() {
    let (_program, address) = start().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let mut client = Client::connect(address).await;
        client.get("/").await;
        let answer = client.read_answer().await;
        statuses.push(answer.status());
        let said = match answer.status() {
            200 => "hello\n",
            _ => "RATE_LIMIT_EXCEEDED",
        };
        assert!(answer.text().contains(said), "{answer:?}");
    }
    assert_eq!(statuses, [200, 200, 200, 429]);
}
