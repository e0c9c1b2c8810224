//! Running out of file descriptors.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use gw_pipeline::server::CloseReason;
use gw_testkit::client::Client;
use gw_testkit::with_few_descriptors;

use crate::support::{Running, echo_path, ok};

#[test]
fn the_server_lives_through_it_and_recovers() {
    with_few_descriptors(
        "descriptors::the_server_lives_through_it_and_recovers",
        run_out(),
    );
}

async fn run_out() {
    let running = Running::start(|b| b).await;
    echo_path(&running.service);
    tokio::task::yield_now().await;
    // Clients of the kernel's queue take every descriptor before the server can accept one of them.
    let mut clients = Vec::new();
    while let Ok(mut client) = TcpStream::connect(running.addr) {
        write!(client, "GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", clients.len()).unwrap();
        clients.push(client);
    }
    assert!(clients.len() > 20);
    running
        .until("accepting to fail", |snapshot| snapshot.accept_errors > 0)
        .await;

    // Most of the clients leave, which is room enough for the others.
    let kept = clients.split_off(clients.len() * 2 / 3);
    let first = clients.len();
    drop(clients);
    let answered = kept.len();
    running
        .until("all to be served", |_| running.service.calls() >= answered)
        .await;
    for (n, mut client) in kept.into_iter().enumerate() {
        let expected = format!("/{}", first + n);
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        client.set_nonblocking(true).unwrap();
        while !answer.ends_with(expected.as_bytes()) {
            match client.read(&mut buffer) {
                Ok(0) => panic!(
                    "closed without an answer: {}",
                    String::from_utf8_lossy(&answer)
                ),
                Ok(count) => answer.extend_from_slice(&buffer[..count]),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

#[test]
fn who_comes_then_is_told_so() {
    with_few_descriptors("descriptors::who_comes_then_is_told_so", told());
}

/// Story: where every connection had a request, nobody made room, and newcomers hung in the kernel's queue, neither closed nor
/// counted.
async fn told() {
    let running = Running::start(|b| b).await;
    let mut busy = Client::connect(running.addr).await;
    busy.get("/").await;
    let call = running.service.next_call().await;

    tokio::time::pause();
    // The server has no chance to accept them before nothing is left.
    let newcomers: Vec<_> = (0..5)
        .map(|_| TcpStream::connect(running.addr).unwrap())
        .collect();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    running.closed(CloseReason::NoDescriptors, 5).await;
    tokio::time::resume();
    for mut newcomer in newcomers {
        assert_eq!(newcomer.read(&mut [0]).unwrap(), 0);
    }
    assert_eq!(running.snapshot().active, 1);

    drop(taken);
    call.respond(ok("done"));
    assert_eq!(busy.read_answer().await.text(), "done");
    running.idle().await;
    assert_eq!(
        running.snapshot().closed.count(CloseReason::NoDescriptors),
        5
    );
}
