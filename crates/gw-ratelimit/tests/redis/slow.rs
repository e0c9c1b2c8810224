//! A Redis that is well, and far away.

use std::time::Duration;

use gw_ratelimit::redis::RedisStore;
use gw_ratelimit::{Limiter, Quota};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::failures::recovered;
use crate::server::{SECRET, Server};

/// How long each answer is under way.
const DELAY: Duration = Duration::from_millis(60);

/// The URL of a way to the server on which answers take [`DELAY`].
async fn a_long_way_to(server: &Server) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let port = server.port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(async move {
                // There is none while it is stopped.
                if let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await {
                    relay(client, server).await;
                }
            });
        }
    });
    url
}

/// Until one of them ends.
async fn relay(client: TcpStream, server: TcpStream) {
    let (mut questions, mut to_client) = client.into_split();
    let (mut answers, mut to_server) = server.into_split();
    let slowly = async {
        let mut answer = [0; 4096];
        loop {
            let read = answers.read(&mut answer).await.unwrap_or(0);
            if read == 0 {
                return;
            }
            sleep(DELAY).await;
            if to_client.write_all(&answer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = slowly => {}
        _ = copy(&mut questions, &mut to_server) => {}
    }
}

/// Story: a probe for which a connection had to be made took longer than a question may, since setting it up is a round trip as
/// well. It gave up the connection that it had just made, and so did each one after it: a server that was back and answered each
/// question in time was not asked again for as long as it was that far away.
#[tokio::test]
async fn a_server_is_asked_again_though_connecting_and_asking_take_too_long_together() {
    let mut server = Server::start();
    let url = a_long_way_to(&server).await;
    let store = RedisStore::new(url, "test", SECRET)
        .timeout(DELAY + 2 * DELAY / 3)
        .probe_after(Duration::from_millis(5));
    let limiter = Limiter::builder()
        .policy("p", Quota::per_hour(1).burst(5))
        .build_shared(&store)
        .unwrap();
    assert!(limiter.connect().await);
    server.stop();
    let policy = limiter.policy("p").unwrap();
    while limiter.store().is_asked {
        limiter.check(policy, "k", 1).await;
    }
    server.start_again();
    recovered(&limiter).await;
}
