//! Right answers: the exact bytes of each, and what happens to the connection after it.

use std::time::Duration;

use gw_testkit::client::{Client, Ended};
use gw_testkit::upstream::{
    At, Framing, Progress, ReadBody, Reply, Upstream, always, by_path, in_order,
};

const CLOSING_GET: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

/// Starts an upstream with this reply, and a client of it.
async fn pair(reply: Reply) -> (Upstream, Client) {
    let upstream = Upstream::start(always(reply)).await;
    let client = Client::connect(upstream.addr()).await;
    (upstream, client)
}

/// All bytes that a client sees which asks once and lets the connection end.
async fn bytes_of(reply: Reply) -> String {
    let (_upstream, mut client) = pair(reply).await;
    client.send(CLOSING_GET).await;
    let rest = client.read_rest().await;
    assert!(!rest.reset);
    String::from_utf8(rest.bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn a_plain_answer_has_a_length() {
    let reply = Reply::ok().header("X-Test", "1").body("hello");
    assert_eq!(
        bytes_of(reply).await,
        "HTTP/1.1 200 OK\r\nX-Test: 1\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"
    );
}

#[tokio::test]
async fn a_chunked_answer_has_one_chunk_for_each_piece_and_trailers() {
    let reply = Reply::status(201)
        .chunks(["abc", "", "0123456789"])
        .trailer("X-Sum", "7");
    assert_eq!(
        bytes_of(reply).await,
        "HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n\
         3\r\nabc\r\na\r\n0123456789\r\n0\r\nX-Sum: 7\r\n\r\n"
    );
}

#[tokio::test]
async fn chunks_and_trailers_come_back_as_body_and_fields() {
    let (_upstream, mut client) =
        pair(Reply::ok().chunks(["ab", "cd"]).trailer("x-sum", "7")).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert!(answer.is_complete());
    assert_eq!(
        (answer.text(), answer.trailers.get("X-Sum")),
        ("abcd", Some("7"))
    );
}

#[tokio::test]
async fn a_body_may_end_with_the_connection() {
    let (_upstream, mut client) =
        pair(Reply::ok().body("to the end").framing(Framing::UntilClose)).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.text(), &answer.ended),
        ("to the end", &Ended::Complete)
    );
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(answer.header("content-length"), None);
}

#[tokio::test]
async fn an_odd_status_and_reason_are_sent_as_given() {
    let bytes = bytes_of(Reply::status(799).reason("Very Odd")).await;
    assert!(bytes.starts_with("HTTP/1.1 799 Very Odd\r\n"), "{bytes}");
    let bytes = bytes_of(Reply::status(799)).await;
    assert!(bytes.starts_with("HTTP/1.1 799 Unnamed\r\n"), "{bytes}");
}

#[tokio::test]
async fn names_and_values_are_not_checked() {
    let bytes = bytes_of(Reply::ok().header("bad name", b"\x00\r\nX: y")).await;
    assert!(bytes.contains("\r\nbad name: \0\r\nX: y\r\n"), "{bytes:?}");
}

#[tokio::test]
async fn statuses_without_a_body_have_no_length() {
    for status in [204, 304] {
        let bytes = bytes_of(Reply::status(status)).await;
        assert!(!bytes.contains("content-length"), "{bytes}");
    }
}

#[tokio::test]
async fn head_gets_the_fields_without_the_body() {
    let (_upstream, mut client) = pair(Reply::ok().body("hello")).await;
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = client.read_answer_to("HEAD").await;
    assert_eq!(
        (answer.header("content-length"), answer.text()),
        (Some("5"), "")
    );
    client.get("/").await;
    assert_eq!(client.read_answer().await.text(), "hello");
}

#[tokio::test]
async fn connections_are_kept_unless_somebody_says_close() {
    let (upstream, mut client) = pair(Reply::ok().body("x")).await;
    for _ in 0..3 {
        client.get("/").await;
        assert!(client.read_answer().await.is_complete());
    }
    assert_eq!(upstream.connections().total, 1);
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nConnection: foo, Close\r\n\r\n")
        .await;
    assert_eq!(
        client.read_answer().await.header("connection"),
        Some("close")
    );
    assert!(client.read_rest().await.bytes.is_empty());
    upstream.open_connections(0).await;
}

#[tokio::test]
async fn http_1_0_gets_one_answer() {
    let (_upstream, mut client) = pair(Reply::ok()).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(
        client.read_answer().await.header("connection"),
        Some("close")
    );
    assert!(client.read_rest().await.bytes.is_empty());
}

#[tokio::test]
async fn closing_is_announced_or_not_as_asked() {
    for (reply, announced) in [
        (Reply::ok().close(), Some("close")),
        (Reply::ok().close_unannounced(), None),
    ] {
        let (_upstream, mut client) = pair(reply).await;
        client.get("/").await;
        assert_eq!(client.read_answer().await.header("connection"), announced);
        let rest = client.read_rest().await;
        assert!(rest.bytes.is_empty() && !rest.reset);
    }
}

#[tokio::test]
async fn a_connection_can_be_kept_against_the_client_s_will() {
    let (upstream, mut client) = pair(Reply::ok().keep_open()).await;
    for _ in 0..2 {
        client.send(CLOSING_GET).await;
        assert_eq!(client.read_answer().await.header("connection"), None);
    }
    assert_eq!(upstream.connections().total, 1);
}

#[tokio::test]
async fn interim_answers_come_before_the_answer() {
    let reply = Reply::ok()
        .interims(3, 103, [("link", "</a.css>")])
        .interims(1, 102, [])
        .body("x");
    assert!(bytes_of(reply.clone()).await.starts_with(
        "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
    ));
    let (_upstream, mut client) = pair(reply).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    let statuses: Vec<_> = answer.interims.iter().map(|head| head.status()).collect();
    assert_eq!(statuses, [103, 103, 103, 102]);
    assert_eq!(answer.interims[0].headers().get("link"), Some("</a.css>"));
    assert_eq!(answer.text(), "x");
}

#[tokio::test]
async fn a_100_comes_before_the_body_is_read() {
    let (upstream, mut client) = pair(Reply::ok().interims(1, 100, [])).await;
    client
        .send("PUT / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.status(), 100);
    assert!(!upstream.requests()[0].complete);
    client.send("abc").await;
    assert_eq!(client.read_answer().await.status(), 200);
    assert_eq!(upstream.requests()[0].body, "abc");
}

#[tokio::test]
async fn heads_can_be_huge() {
    let (_upstream, mut client) = pair(Reply::ok().large_head(1024).many_headers(5000)).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    let headers = answer.head.as_ref().unwrap().headers();
    assert_eq!(headers.get("x-large").unwrap().len(), 1024 * 1024);
    assert_eq!(
        headers
            .iter()
            .filter(|(name, _)| name.starts_with("x-many-"))
            .count(),
        5000
    );
    assert!(answer.is_complete());
}

#[tokio::test]
async fn an_upgraded_connection_echoes_until_the_client_closes() {
    let (upstream, mut client) = pair(Reply::upgrade("websocket")).await;
    // The bytes behind the head belong to the new protocol already.
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nearly")
        .await;
    let answer = client.read_answer().await;
    assert_eq!(
        (answer.status(), answer.header("upgrade")),
        (101, Some("websocket"))
    );
    assert_eq!(client.read_exact(5).await, "early");
    client.send(b"\x00\xff\r\n").await;
    assert_eq!(&client.read_exact(4).await[..], b"\x00\xff\r\n");
    assert_eq!(upstream.in_flight(), 1);
    drop(client);
    upstream.ended(1).await;
    assert_eq!(upstream.requests()[0].progress, Progress::Answered);
}

#[tokio::test]
async fn a_dripped_body_arrives_whole() {
    let reply = Reply::ok()
        .chunks(["abcde", "fgh"])
        .drip(3, Duration::from_millis(1));
    let (_upstream, mut client) = pair(reply).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert_eq!((answer.text(), answer.is_complete()), ("abcdefgh", true));
}

#[tokio::test]
async fn a_drip_sends_each_step_after_its_pause() {
    let hour = Duration::from_secs(3600);
    let (upstream, mut client) = pair(Reply::ok().body("0123456789").drip(4, hour)).await;
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n".len() as u64;
    client.get("/").await;
    client.read_head().await;
    assert_eq!(client.read_exact(4).await, "0123");
    // The clock stands still only while nobody waits for a socket: the limits of the client use it too.
    tokio::time::pause();
    for (pass, sent) in [
        (hour - Duration::from_secs(1), 4),
        (Duration::from_secs(2), 8),
    ] {
        tokio::time::advance(pass).await;
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        assert_eq!(upstream.requests()[0].sent, head + sent);
    }
    tokio::time::resume();
    assert_eq!(client.read_exact(4).await, "4567");
    assert_eq!(upstream.in_flight(), 1);
}

#[tokio::test]
async fn an_answer_may_come_before_the_body_is_read() {
    let (upstream, mut client) = pair(Reply::status(413).read_body(ReadBody::After)).await;
    client
        .send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
        .await;
    assert_eq!(client.read_answer().await.status(), 413);
    assert!(!upstream.requests()[0].complete);
    client.send("abc").await;
    client.get("/next").await;
    assert_eq!(client.read_answer().await.status(), 413);
    assert!(upstream.requests()[0].complete);
    assert_eq!(upstream.requests()[1].target, "/next");
}

#[tokio::test]
async fn an_unread_body_closes_the_connection() {
    let (upstream, mut client) = pair(Reply::status(413).read_body(ReadBody::Never)).await;
    client
        .send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n")
        .await;
    assert_eq!(client.read_answer().await.status(), 413);
    assert!(client.read_rest().await.bytes.is_empty());
    let request = &upstream.requests()[0];
    assert_eq!(
        (request.complete, request.progress),
        (false, Progress::Answered)
    );
}

#[tokio::test]
async fn rules_go_by_path_without_the_query() {
    let rules = [("/a", Reply::ok().body("a")), ("/b", Reply::ok().body("b"))];
    let upstream = Upstream::start(by_path(rules, Reply::status(404))).await;
    let mut client = Client::connect(upstream.addr()).await;
    for (target, status, body) in [("/a?x", 200, "a"), ("/b", 200, "b"), ("/a/", 404, "")] {
        client.get(target).await;
        let answer = client.read_answer().await;
        assert_eq!((answer.status(), answer.text()), (status, body));
    }
}

#[tokio::test]
async fn replies_come_in_order_and_the_last_one_stays() {
    let upstream = Upstream::start(in_order([Reply::status(503), Reply::ok()])).await;
    for status in [503, 200, 200] {
        let mut client = Client::connect(upstream.addr()).await;
        client.get("/").await;
        assert_eq!(client.read_answer().await.status(), status);
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_by_one() {
    let upstream = Upstream::start(|request| Reply::ok().body(request.target.clone())).await;
    let mut client = Client::connect(upstream.addr()).await;
    let requests: String = (0..4)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    client.send(&requests).await;
    for n in 0..4 {
        assert_eq!(client.read_answer().await.text(), format!("/{n}"));
    }
    assert_eq!(upstream.peak_in_flight(), 1);
}

#[tokio::test]
async fn a_raw_reply_can_stand_for_several_answers() {
    let two =
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\naHTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n";
    let (_upstream, mut client) = pair(Reply::raw(two).keep_open()).await;
    for _ in 0..2 {
        client.get("/").await;
        assert_eq!(client.read_answer().await.text(), "a");
        assert_eq!(client.read_answer().await.status(), 404);
    }
}

#[tokio::test]
async fn a_held_part_of_a_raw_reply_comes_later() {
    let gate = gw_testkit::Gate::new();
    let (_upstream, mut client) = pair(Reply::raw("abcdef").hold(At::Body(2), &gate)).await;
    client.get("/").await;
    assert_eq!(client.read_exact(2).await, "ab");
    gate.reached(1).await;
    gate.release(1);
    assert_eq!(client.read_rest().await.bytes, "cdef");
}
