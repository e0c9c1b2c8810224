//! The end of a gateway.

use gw_testkit::Gate;
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Reply, Upstream, always, by_path};

use crate::command::until;
use crate::gateway::{Gateway, all_to, config};
use crate::http::{get, page};

/// A lane with a thread of its own, for all.
const THREAD: &str = "[lanes.lane.core]\nguaranteed = 1.0\nthreads = 1\n";

#[tokio::test]
async fn all_that_is_under_way_finishes() {
    let (head, body) = (Gate::new(), Gate::new());
    let upstream = Upstream::start(by_path(
        [
            (
                "/waiting",
                Reply::ok().body("waited").hold(At::Start, &head),
            ),
            (
                "/streaming",
                Reply::ok()
                    .chunks(["0123", "456789"])
                    .hold(At::Body(9), &body),
            ),
        ],
        Reply::ok().body("uploaded"),
    ))
    .await;
    let server = "drain_delay = \"0s\"\nshutdown_grace = \"1m\"";
    let mut gateway = Gateway::serve(&config(server, &all_to(&upstream.url(), ""))).await;

    let mut idle = Client::connect(gateway.traffic).await;
    idle.get("/idle").await;
    assert_eq!(idle.read_answer().await.status(), 200);
    let mut waiting = Client::connect(gateway.traffic).await;
    waiting.get("/waiting").await;
    let mut streaming = Client::connect(gateway.traffic).await;
    streaming.get("/streaming").await;
    let streaming_head = streaming.read_head().await;
    let mut uploading = Client::connect(gateway.traffic).await;
    uploading
        .send("PUT /up HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n01234")
        .await;
    gateway.lane_holds("core", 3).await;
    upstream.arrived(4).await;

    gateway.signal("TERM").await;
    gateway.listener_closed().await;
    assert!(idle.read_rest().await.bytes.is_empty());
    // While requests drain, operators still see what is going on.
    let ready = get(gateway.health, "/readyz").await;
    assert_eq!((ready.status(), ready.text()), (503, "draining\n"));
    assert_eq!(get(gateway.health, "/healthz").await.status(), 200);
    assert_eq!(page(gateway.admin, "/").await["phase"], "draining");
    assert_eq!(page(gateway.admin, "/lanes").await["in_flight"], 3);

    head.open();
    let answer = waiting.read_answer().await;
    assert_eq!(
        (answer.status(), answer.text(), answer.is_complete()),
        (200, "waited", true)
    );
    body.open();
    let answer = streaming.read_body_of(streaming_head).await;
    assert_eq!((answer.text(), answer.is_complete()), ("0123456789", true));
    uploading.send("56789").await;
    let answer = uploading.read_answer().await;
    assert_eq!(
        (answer.status(), answer.text(), answer.is_complete()),
        (200, "uploaded", true)
    );
    assert_eq!(answer.header("connection"), Some("close"), "{answer:?}");
    let upload = upstream
        .requests()
        .into_iter()
        .find(|it| it.method == "PUT")
        .unwrap();
    assert_eq!(
        (&upload.body[..], upload.complete),
        (&b"0123456789"[..], true)
    );

    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(
        said.contains("stopped: every request was finished"),
        "{said}"
    );
}

#[tokio::test]
async fn readiness_fails_first_and_new_requests_are_served_until_the_delay_is_over() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    // Longer than the test: what is seen is seen within the delay. The second signal ends it.
    let mut gateway = Gateway::serve(&config(
        "drain_delay = \"1h\"",
        &all_to(&upstream.url(), ""),
    ))
    .await;
    let mut kept = Client::connect(gateway.traffic).await;
    kept.get("/").await;
    assert_eq!(kept.read_answer().await.status(), 200);
    gateway.signal("TERM").await;
    until("readiness to fail", || async {
        (get(gateway.health, "/readyz").await.status() == 503).then_some(())
    })
    .await;
    assert_eq!(get(gateway.traffic, "/new-connection").await.status(), 200);
    kept.get("/kept-connection").await;
    // Or its next request might come just when the delay is over, and be lost.
    let answer = kept.read_answer().await;
    assert_eq!(
        (answer.status(), answer.header("connection")),
        (200, Some("close"))
    );
    assert_eq!(get(gateway.health, "/healthz").await.status(), 200);

    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_ne!(status, Some(0), "cut short is not a clean end: {said}");
}

#[tokio::test]
async fn the_delay_ends_by_itself() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let mut gateway = Gateway::serve(&config(
        "drain_delay = \"300ms\"",
        &all_to(&upstream.url(), ""),
    ))
    .await;
    assert_eq!(get(gateway.traffic, "/").await.status(), 200);
    gateway.signal("INT").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("every request was finished"), "{said}");
}

#[tokio::test]
async fn what_outlives_the_grace_is_cut_and_counted() {
    for lane in ["", THREAD] {
        let upstream = Upstream::start(by_path(
            [("/body", Reply::ok().body("0123456789").stall(At::Body(4)))],
            Reply::ok().stall(At::Start),
        ))
        .await;
        let server = "drain_delay = \"0s\"\nshutdown_grace = \"300ms\"";
        let tables = format!("{lane}{}", all_to(&upstream.url(), ""));
        let mut gateway = Gateway::serve(&config(server, &tables)).await;
        let mut waiting = Client::connect(gateway.traffic).await;
        waiting.get("/head").await;
        let mut streaming = Client::connect(gateway.traffic).await;
        streaming.get("/body").await;
        let head = streaming.read_head().await;
        upstream.arrived(2).await;

        gateway.signal("TERM").await;
        let (status, said) = gateway.ended().await;
        assert_eq!(status, Some(0), "{said}");
        assert!(
            said.contains("stopped: 2 requests on 2 connections were cut"),
            "{said}"
        );
        assert!(!waiting.read_answer().await.is_complete());
        let answer = streaming.read_body_of(head).await;
        assert_eq!((answer.text(), answer.is_complete()), ("0123", false));
    }
}

/// Through a gateway with these tables, that was told to end and has closed its listeners.
async fn tunnel_at_the_end(lane: &str, grace: &str) -> (Gateway, Client, Upstream) {
    let upstream = Upstream::start(always(Reply::upgrade("websocket"))).await;
    let server = format!("drain_delay = \"0s\"\nshutdown_grace = \"{grace}\"");
    let tables = format!("{lane}{}", all_to(&upstream.url(), ""));
    let gateway = Gateway::serve(&config(&server, &tables)).await;
    let mut client = Client::connect(gateway.traffic).await;
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.status(), 101);
    gateway.signal("TERM").await;
    gateway.listener_closed().await;
    (gateway, client, upstream)
}

/// Story: a lane's threads ended as soon as the listeners were closed and nothing but tunnels was left. Those were cut in
/// the middle, and nobody was told.
#[tokio::test]
async fn a_tunnel_has_the_grace_to_end_and_is_counted_if_it_does_not() {
    for lane in ["", THREAD] {
        let (mut gateway, mut client, _upstream) = tunnel_at_the_end(lane, "1m").await;
        for _ in 0..10 {
            client.send("ping").await;
            assert_eq!(client.read_exact(4).await, "ping");
        }
        assert_eq!(page(gateway.admin, "/lanes").await["in_flight"], 1);
        drop(client);
        let (status, said) = gateway.ended().await;
        assert_eq!(status, Some(0), "{said}");
        assert!(said.contains("every request was finished"), "{said}");

        let (mut gateway, mut client, _upstream) = tunnel_at_the_end(lane, "300ms").await;
        let (status, said) = gateway.ended().await;
        assert_eq!(status, Some(0), "{said}");
        assert!(
            said.contains("stopped: 0 requests on 1 connections were cut"),
            "{said}"
        );
        assert!(client.read_rest().await.bytes.is_empty());
    }
}

#[tokio::test]
async fn an_idle_gateway_ends_at_once_and_its_ports_are_free() {
    let mut text = config("drain_delay = \"0s\"", &all_to("http://127.0.0.1:1", ""));
    for _ in 0..3 {
        // None that the kernel hands out: another test could be given it as soon as it is free.
        let port = format!("127.0.0.1:{}", gw_testkit::redis::free_port());
        text = text.replacen("127.0.0.1:0", &port, 1);
    }
    let mut gateway = Gateway::serve(&text).await;
    // A connection that never says a word does not hold it up for the whole grace.
    let mut silent = Client::connect(gateway.traffic).await;
    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("every request was finished"), "{said}");
    assert!(silent.read_rest().await.bytes.is_empty());
    for address in [gateway.traffic, gateway.health, gateway.admin] {
        std::net::TcpListener::bind(address).unwrap();
    }
}

/// Who sees that the gateway listens may stop it, and it ends in order.
#[tokio::test]
async fn a_signal_right_after_the_announcement_is_heard() {
    let text = config("drain_delay = \"0s\"", &all_to("http://127.0.0.1:1", ""));
    // Several times, since the moment between the two is short.
    for _ in 0..10 {
        let mut gateway = Gateway::announced(&text, &[]).await;
        gateway.signal("TERM").await;
        let (status, said) = gateway.ended().await;
        assert_eq!(status, Some(0), "{said}");
    }
}
