//! The program in front of an upstream, asked over a socket.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test")]

use std::net::SocketAddr;
use std::process::Stdio;

use gw_testkit::client::{Answer, Client};
use gw_testkit::upstream::{Reply, Upstream, in_order};
use gw_testkit::within;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// It ends when it is dropped.
struct Program {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Program {
    fn start(upstream: &Upstream) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_typed-pipeline"));
        let command = command.args([&upstream.url(), "127.0.0.1:0"]);
        let command = command.stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let _child = child;
        Self { _child, lines }
    }

    /// The lines up to the one that holds this text.
    async fn lines_to(&mut self, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while lines
            .last()
            .is_none_or(|line: &String| !line.contains(text))
        {
            let line = within(text, self.lines.next_line()).await;
            lines.push(line.unwrap().expect("it runs"));
        }
        lines
    }
}

async fn get(address: SocketAddr, target: &str, key: Option<&str>) -> Answer {
    let key = key.map_or(String::new(), |key| format!("x-api-key: {key}\r\n"));
    let mut client = Client::connect(address).await;
    // Whatever it says of itself.
    let fields = format!("host: shop.example\r\nx-consumer-id: admin\r\n{key}");
    let request = format!("GET {target} HTTP/1.1\r\n{fields}\r\n");
    client.send(&request).await;
    client.read_answer().await
}

#[tokio::test]
async fn each_stage_does_its_part() {
    let replies = [Reply::status(503), Reply::ok().body("two pairs of shoes")];
    let upstream = Upstream::start(in_order(replies)).await;
    let mut program = Program::start(&upstream);
    let described = program.lines_to("listening on").await;
    let slots = described.iter().filter_map(|line| line.split_once(": "));
    let slots: Vec<_> = slots.map(|(slot, _)| slot).collect();
    assert_eq!(
        (slots.len(), slots[0], slots[12]),
        (13, "observe", "orders")
    );
    let (_, address) = described.last().unwrap().split_once("http://").unwrap();
    let address = address.parse().unwrap();

    let refused = get(address, "/orders/7", None).await;
    assert_eq!(refused.status(), 401);
    assert!(refused.text().contains("AUTH_REQUIRED"), "{refused:?}");
    assert_eq!(get(address, "/elsewhere", Some("k1")).await.status(), 404);
    // Tried again by the gateway: it is a GET.
    let answer = get(address, "/orders/7", Some("k1")).await;
    assert_eq!(
        (answer.status(), answer.text()),
        (200, "two pairs of shoes")
    );
    let received = upstream.requests();
    assert_eq!(received.len(), 2);
    assert!(received[1].header("x-request-id").is_some());
    assert_eq!(received[1].header("x-api-key"), None);
    assert_eq!(received[1].header("x-consumer-id"), Some("acme"));

    let log = program.lines_to(r#""attempts":2"#).await.join("\n");
    assert!(
        log.contains("AUTH_REQUIRED") && log.contains("acme"),
        "{log}"
    );
}
