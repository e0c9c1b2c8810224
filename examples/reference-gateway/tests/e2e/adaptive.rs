//! Lanes whose limits are found: what tells them that it is too much.

use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, always};

use crate::gateway::{Gateway, all_to, config, without_breakers};
use crate::http::{is_refusal, send};

/// One lane with a limit that is found, and one route, to `upstream`.
async fn start(upstream: &Upstream, lane: &str, route: &str) -> Gateway {
    let tables = format!(
        "[lanes]\ntotal = {{ adaptive = \"gradient2\", min = 20, max = 2000 }}\n\
         [lanes.lane.core]\nguaranteed = 1.0\n{lane}\n{}",
        without_breakers(&all_to(&upstream.url(), route))
    );
    Gateway::serve(&config("", &tables)).await
}

/// How many windows have been closed, and what was counted in them: answers and drops.
async fn seen(gateway: &Gateway) -> [u64; 3] {
    let lane = gateway.lane("core").await;
    ["windows", "answered", "dropped"].map(|key| lane["adaptive"][key].as_u64().expect("a number"))
}

/// Story: the time limits of our own that end the wait for an upstream were not heard of, so that it could hang with as
/// many requests as the lane had been allowed before.
#[tokio::test]
async fn an_upstream_that_hangs_is_too_much() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    for lane in ["", "threads = 1"] {
        // Longer than a window, which closes with the tenth.
        let timers = "timeouts = { first_byte = \"200ms\" }";
        let gateway = start(&upstream, lane, timers).await;
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = Client::connect(gateway.traffic).await;
            client.get("/").await;
            clients.push(client);
        }
        for client in &mut clients {
            let answer = client.read_answer().await;
            is_refusal("an upstream that hangs", &answer, 504, "GATEWAY_TIMEOUT");
        }
        assert_eq!(seen(&gateway).await, [1, 0, 10], "{lane}");
    }
}

/// Story: with the deadline of the request, by which the client was cut that had not sent it, it was taken for one that the
/// upstream had been waited for. Ten clients that sent slowly lowered the limit for all.
#[tokio::test]
async fn clients_that_send_until_their_time_is_over_lower_no_limit() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    for lane in ["", "threads = 1"] {
        let timers = "timeouts = { request = \"200ms\", first_byte = \"200ms\" }";
        let gateway = start(&upstream, lane, timers).await;
        let mut clients = Vec::new();
        for _ in 0..10 {
            let mut client = Client::connect(gateway.traffic).await;
            client
                .send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nabc")
                .await;
            clients.push(client);
        }
        for client in &mut clients {
            let answer = client.read_answer().await;
            is_refusal("a slow client", &answer, 408, "CLIENT_TIMEOUT");
        }
        assert_eq!(seen(&gateway).await, [0, 0, 0], "{lane}");
    }
}

/// Story: the lane did not know yet that it is the client that gave the time. A few such calls had the limit fall to its
/// least for all.
#[tokio::test]
async fn calls_that_give_too_little_time_lower_no_limit() {
    let out_of_time = Reply::ok()
        .header("content-type", "application/grpc")
        .header("grpc-status", "4");
    let upstream = Upstream::start(always(out_of_time)).await;
    for lane in ["", "threads = 1"] {
        let gateway = start(&upstream, lane, "").await;
        let call = async |time: &str| {
            let call = format!(
                "POST /a.B/C HTTP/1.1\r\nhost: a\r\ncontent-type: application/grpc\r\nte: trailers\r\n\
                 content-length: 5\r\n{time}\r\n\0\0\0\0\0"
            );
            let answer = send(gateway.traffic, call).await;
            assert_eq!(answer.header("grpc-status"), Some("4"), "{answer:?}");
        };
        for _ in 0..20 {
            call("grpc-timeout: 10S\r\n").await;
        }
        // Those that keep to the time of the route count. No window closes before one of them asks it to.
        let mut sent = 0;
        let seen = loop {
            call("").await;
            sent += 1;
            match seen(&gateway).await {
                [0, ..] => {}
                seen => break seen,
            }
        };
        assert!(sent >= 10, "{lane}: {sent}");
        assert_eq!(seen, [1, 0, sent], "{lane}");
    }
}
