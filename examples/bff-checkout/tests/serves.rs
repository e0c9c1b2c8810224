//! The program in front of its services, asked over a socket.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::net::SocketAddr;
use std::process::Stdio;

use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, by_path};
use gw_testkit::{Gate, within};
use serde_json::{Value, from_str, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The program on a free port. It ends when the first part is dropped.
async fn start(services: &Upstream) -> (Child, SocketAddr) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bff-checkout"));
    let command = command.args([&services.url(), "127.0.0.1:0"]);
    let command = command.stdout(Stdio::piped()).kill_on_drop(true);
    let mut program = command.spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let line = within("its first line", lines.next_line()).await;
    let line = line.unwrap().unwrap();
    let (_, address) = line.split_once("http://").unwrap();
    (program, address.parse().unwrap())
}

/// Asks for the page, with a client's word on the time that changes nothing.
async fn ask(program: SocketAddr) -> Client {
    let mut client = Client::connect(program).await;
    let head = "GET /checkout HTTP/1.1\r\nhost: x\r\nx-request-id: r1\r\n";
    let request = format!("{head}x-timeout-ms: 0\r\n\r\n");
    client.send(&request).await;
    client
}

/// The status of the page, and what is on it.
async fn page(client: &mut Client) -> (u16, Option<Value>) {
    let answer = client.read_answer().await;
    (answer.status(), from_str(answer.text()).ok())
}

fn services(cart: Reply, prices: Reply, hints: Reply) -> impl Future<Output = Upstream> {
    let replies = [("/cart", cart), ("/prices", prices), ("/hints", hints)];
    Upstream::start(by_path(replies, Reply::status(404)))
}

#[tokio::test]
async fn all_services_are_asked_at_once() {
    let gate = Gate::new();
    let reply = |body: &'static str| Reply::ok().body(body).hold(At::Start, &gate);
    let services = services(reply("[7]"), reply("[\"9.99\"]"), reply("[8]")).await;
    let (_program, address) = start(&services).await;
    let mut client = ask(address).await;
    // Nobody is answered before everybody is asked.
    services.arrived(3).await;
    gate.open();
    let all = json!({ "cart": [7], "prices": ["9.99"], "hints": [8] });
    assert_eq!(page(&mut client).await, (200, Some(all)));
    for request in services.requests() {
        assert_eq!(request.header("x-request-id"), Some("r1"));
        assert_ne!(request.header("x-timeout-ms"), Some("0"));
    }
}

#[tokio::test]
async fn hints_that_are_late_are_left_out() {
    let (ok, hangs) = (Reply::ok().body("1"), Reply::ok().stall(At::Start));
    let services = services(ok.clone(), ok, hangs).await;
    let (_program, address) = start(&services).await;
    let without = json!({ "cart": 1, "prices": 1, "hints": null });
    let mut client = ask(address).await;
    assert_eq!(page(&mut client).await, (200, Some(without)));
}

#[tokio::test]
async fn without_prices_there_is_no_page_and_nobody_waits_for_one() {
    let (ok, hangs) = (Reply::ok().body("1"), Reply::ok().stall(At::Start));
    let failing = services(ok.clone(), Reply::status(500), hangs.clone()).await;
    let (_program, address) = start(&failing).await;
    let mut client = ask(address).await;
    assert_eq!(page(&mut client).await.0, 502);

    let hanging = services(ok.clone(), hangs, ok).await;
    let (_program, address) = start(&hanging).await;
    let mut client = ask(address).await;
    assert_eq!(page(&mut client).await.0, 504);
}
