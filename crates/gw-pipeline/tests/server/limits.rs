//! Sizes and counts.

use gw_pipeline::server::CloseReason;
use gw_testkit::client::Client;
use http::Request;
use http_body_util::Full;

use crate::support::{Running, echo_path, http2_client, http2_get, http2_send, ok, outcome};

fn head_of(bytes: usize) -> String {
    let start = "GET /head HTTP/1.1\r\nhost: a\r\nx: ";
    format!("{start}{}\r\n\r\n", "a".repeat(bytes - start.len() - 4))
}

fn head_with_fields(count: usize) -> String {
    let fields: String = (1..count).map(|n| format!("x-{n}: a\r\n")).collect();
    format!("GET /fields HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}

#[tokio::test]
async fn a_head_up_to_the_limit_passes_and_a_larger_one_is_answered_431() {
    for limit in [2 * 1024, 32 * 1024, 100 * 1024] {
        let running = Running::start(|b| b.max_header_bytes(limit)).await;
        echo_path(&running.service);
        let mut client = Client::connect(running.addr).await;
        client.send(&head_of(limit)).await;
        assert_eq!(client.read_answer().await.text(), "/head", "{limit}");
        client.send(&head_of(limit + 1)).await;
        assert_eq!(client.read_answer().await.status(), 431, "{limit}");
        assert!(client.read_rest().await.bytes.is_empty());
        drop(client);
        running.closed(CloseReason::Malformed, 1).await;
    }
}

#[tokio::test]
async fn an_endless_head_is_answered_431() {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    client
        .send(&head_of(200 * 1024).as_bytes()[..150 * 1024])
        .await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), 431);
    assert!(answer.is_complete());
}

#[tokio::test]
async fn fields_up_to_the_limit_pass_and_one_more_is_answered_431() {
    for limit in [100, 10, 200] {
        let running = Running::start(|b| b.max_headers(limit)).await;
        echo_path(&running.service);
        let mut client = Client::connect(running.addr).await;
        client.send(&head_with_fields(limit)).await;
        assert_eq!(client.read_answer().await.text(), "/fields", "{limit}");
        client.send(&head_with_fields(limit + 1)).await;
        assert_eq!(client.read_answer().await.status(), 431, "{limit}");
    }
}

#[tokio::test]
async fn http2_fields_and_lists_have_the_same_limits() {
    let running = Running::start(|b| b.max_headers(10).http2_max_header_list_bytes(2048)).await;
    echo_path(&running.service);
    let (mut client, _connection) = http2_client(running.addr).await;
    let request = |fields: usize, length: usize| {
        let mut request = Request::get("http://gateway.example/fields");
        for n in 0..fields {
            request = request.header(format!("x-{n}"), "a".repeat(length));
        }
        request.body(Full::default()).unwrap()
    };
    for (fields, length, expected) in [(10, 1, 200), (11, 1, 431), (10, 300, 431), (10, 1, 200)] {
        let sent = http2_send(&mut client, request(fields, length));
        let answer = outcome("an answer", sent).await.unwrap();
        assert_eq!(
            answer.status(),
            expected,
            "{fields} fields of {length} bytes"
        );
    }
    assert_eq!(running.service.calls(), 2);
}

#[tokio::test]
async fn one_address_has_so_many_connections() {
    let running = Running::start(|b| b.max_connections_per_ip(2)).await;
    echo_path(&running.service);
    let mut first = Client::connect(running.addr).await;
    let mut second = Client::connect(running.addr).await;
    running.active(2).await;
    let mut third = Client::connect(running.addr).await;
    assert!(third.read_rest().await.bytes.is_empty());
    running.closed(CloseReason::PerIpLimit, 1).await;
    second.get("/second").await;
    assert_eq!(second.read_answer().await.text(), "/second");
    first.finish_sending().await;
    assert!(first.read_rest().await.bytes.is_empty());
    running.active(1).await;
    let mut fourth = Client::connect(running.addr).await;
    fourth.get("/fourth").await;
    assert_eq!(fourth.read_answer().await.text(), "/fourth");
}

#[tokio::test]
async fn a_full_server_closes_whoever_is_idle_for_longest() {
    let running = Running::start(|b| b.max_connections(3)).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(running.addr).await;
        client.get("/").await;
        running.service.next_call().await.respond(ok("first"));
        assert_eq!(client.read_answer().await.text(), "first");
        clients.push(client);
    }
    // The oldest has a request again.
    clients[0].get("/busy").await;
    let busy = running.service.next_call().await;

    let mut newcomer = Client::connect(running.addr).await;
    newcomer.get("/new").await;
    running.service.next_call().await.respond(ok("newcomer"));
    assert_eq!(newcomer.read_answer().await.text(), "newcomer");
    let rest = clients[1].read_rest().await;
    assert!(rest.bytes.is_empty() && !rest.reset);
    running.closed(CloseReason::Evicted, 1).await;

    busy.respond(ok("the busy one"));
    assert_eq!(clients[0].read_answer().await.text(), "the busy one");
    clients[2].get("/").await;
    running
        .service
        .next_call()
        .await
        .respond(ok("the younger one"));
    assert_eq!(clients[2].read_answer().await.text(), "the younger one");
    assert_eq!(running.snapshot().active, 3);
}

#[tokio::test]
async fn slow_heads_give_way_like_idle_connections() {
    let running = Running::start(|b| b.max_connections(2)).await;
    echo_path(&running.service);
    let mut slow = Client::connect(running.addr).await;
    slow.send("GET / HT").await;
    let mut silent = Client::connect(running.addr).await;
    running.active(2).await;
    let mut newcomers = Vec::new();
    for path in ["/1", "/2"] {
        let mut client = Client::connect(running.addr).await;
        client.get(path).await;
        assert_eq!(client.read_answer().await.text(), path);
        newcomers.push(client);
    }
    assert!(slow.read_rest().await.bytes.is_empty());
    assert!(silent.read_rest().await.bytes.is_empty());
}

#[tokio::test]
async fn a_server_full_of_requests_refuses_newcomers_and_goes_on_accepting() {
    let running = Running::start(|b| b.max_connections(2)).await;
    let mut clients = Vec::new();
    let mut calls = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(running.addr).await;
        client.get("/").await;
        clients.push(client);
        calls.push(running.service.next_call().await);
    }
    for count in 1..=3 {
        let mut refused = Client::connect(running.addr).await;
        assert!(refused.read_rest().await.bytes.is_empty());
        running.closed(CloseReason::Full, count).await;
    }
    for call in calls {
        call.respond(ok("served"));
    }
    for client in &mut clients {
        assert_eq!(client.read_answer().await.text(), "served");
    }
    let mut welcome = Client::connect(running.addr).await;
    welcome.get("/").await;
    running.service.next_call().await.respond(ok("welcome"));
    assert_eq!(welcome.read_answer().await.text(), "welcome");
}

#[tokio::test]
async fn an_evicted_http2_client_hears_of_it() {
    let running = Running::start(|b| b.max_connections(1)).await;
    echo_path(&running.service);
    let (mut client, connection) = http2_client(running.addr).await;
    let sent = http2_send(&mut client, http2_get("/"));
    assert_eq!(outcome("an answer", sent).await.unwrap().status(), 200);
    running
        .until("the stream to end", |snapshot| snapshot.active == 1)
        .await;
    let mut newcomer = Client::connect(running.addr).await;
    newcomer.get("/new").await;
    assert_eq!(newcomer.read_answer().await.text(), "/new");
    // GOAWAY, so the client's connection ends in order.
    outcome("the connection to end", connection).await.unwrap();
    running.closed(CloseReason::Evicted, 1).await;
}
