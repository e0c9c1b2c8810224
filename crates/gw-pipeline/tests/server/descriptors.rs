//! Running out of file descriptors.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use gw_testkit::within;

use crate::support::{Running, echo_path};

const CHILD: &str = "GW_TEST_WITH_FEW_DESCRIPTORS";

/// The limit is the process's, so the test runs itself again in a process of its own.
#[test]
fn the_server_lives_through_it_and_recovers() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(within("the server to recover", run_out()));
    }
    let output = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -n 64 && exec "$0" --exact "$1" --nocapture"#,
        ])
        .arg(std::env::current_exe().unwrap())
        .arg("descriptors::the_server_lives_through_it_and_recovers")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{failed}"
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
