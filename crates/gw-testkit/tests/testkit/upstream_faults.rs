//! Misbehaviour: each seen by a raw client as exactly those bytes and that ending.

use bytes::Bytes;
use gw_testkit::Gate;
use gw_testkit::client::{Client, Ended};
use gw_testkit::upstream::{At, Framing, Progress, Reply, Upstream, always};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n";
const CHUNKED_HEAD: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn ten_bytes() -> Reply {
    Reply::ok().body("0123456789")
}

async fn pair(reply: Reply) -> (Upstream, Client) {
    let upstream = Upstream::start(always(reply)).await;
    let client = Client::connect(upstream.addr()).await;
    (upstream, client)
}

/// What a client sees that asks once, and whether it ends with a reset; and how the upstream calls that.
async fn rest_of(reply: Reply) -> (String, bool, Progress) {
    let (upstream, mut client) = pair(reply).await;
    client.get("/").await;
    let rest = client.read_rest().await;
    upstream.ended(1).await;
    let text = String::from_utf8(rest.bytes.to_vec()).unwrap();
    (text, rest.reset, upstream.requests()[0].progress)
}

#[tokio::test]
async fn resets_come_after_exactly_so_many_bytes() {
    for (at, bytes) in [
        (At::Start, String::new()),
        (At::Head(0), String::new()),
        (At::Head(20), HEAD[..20].to_owned()),
        (At::Head(HEAD.len()), HEAD.to_owned()),
        (At::Body(0), HEAD.to_owned()),
        (At::Body(4), format!("{HEAD}0123")),
        (At::End, format!("{HEAD}0123456789")),
    ] {
        let seen = rest_of(ten_bytes().reset(at)).await;
        assert_eq!(seen, (bytes, true, Progress::Reset), "{at:?}");
    }
}

#[tokio::test]
async fn cuts_come_after_exactly_so_many_bytes() {
    for (at, bytes) in [
        (At::Start, String::new()),
        (At::Head(20), HEAD[..20].to_owned()),
        (At::Body(0), HEAD.to_owned()),
        (At::Body(9), format!("{HEAD}012345678")),
        (At::End, format!("{HEAD}0123456789")),
    ] {
        let seen = rest_of(ten_bytes().cut(at)).await;
        assert_eq!(seen, (bytes, false, Progress::Cut), "{at:?}");
    }
}

#[tokio::test]
async fn a_chunked_body_can_end_without_its_last_chunk_or_inside_one() {
    let chunked = || Reply::ok().chunks(["abc", "de"]).trailer("x-sum", "5");
    let seen = rest_of(chunked().cut(At::LastChunk)).await;
    assert_eq!(
        seen,
        (
            format!("{CHUNKED_HEAD}3\r\nabc\r\n2\r\nde\r\n"),
            false,
            Progress::Cut
        )
    );
    let seen = rest_of(chunked().reset(At::Body(5))).await;
    assert_eq!(
        seen,
        (format!("{CHUNKED_HEAD}3\r\nab"), true, Progress::Reset)
    );
}

#[tokio::test]
async fn the_client_names_the_endings() {
    for (reply, body, ended) in [
        (ten_bytes().cut(At::Body(4)), "0123", Ended::Cut),
        (ten_bytes().reset(At::Body(4)), "0123", Ended::Reset),
        (
            Reply::ok().chunks(["ab"]).cut(At::LastChunk),
            "ab",
            Ended::Cut,
        ),
        (ten_bytes().reset(At::End), "0123456789", Ended::Complete),
    ] {
        let (_upstream, mut client) = pair(reply).await;
        client.get("/").await;
        let answer = client.read_answer().await;
        assert_eq!((answer.text(), &answer.ended), (body, &ended));
    }
    for (reply, ended) in [
        (ten_bytes().cut(At::Head(20)), Ended::Cut),
        (ten_bytes().reset(At::Start), Ended::Reset),
    ] {
        let (_upstream, mut client) = pair(reply).await;
        client.get("/").await;
        let answer = client.read_answer().await;
        assert!(answer.head.is_none());
        assert_eq!(answer.ended, ended);
    }
}

#[tokio::test]
async fn a_stalled_head_comes_when_it_is_released() {
    let gate = Gate::new();
    let (upstream, mut client) = pair(ten_bytes().hold(At::Start, &gate)).await;
    client.get("/").await;
    upstream.arrived(1).await;
    gate.reached(1).await;
    assert_eq!((upstream.in_flight(), upstream.requests()[0].sent), (1, 0));
    assert_eq!(upstream.requests()[0].progress, Progress::Open);
    gate.release(1);
    assert_eq!(client.read_answer().await.text(), "0123456789");
    upstream.ended(1).await;
    assert_eq!(upstream.requests()[0].progress, Progress::Answered);
}

#[tokio::test]
async fn one_gate_holds_many_requests_and_releases_them_one_by_one() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(ten_bytes().hold(At::Start, &gate))).await;
    for _ in 0..3 {
        let mut client = Client::connect(upstream.addr()).await;
        client.get("/").await;
        tokio::spawn(async move { client.read_answer().await });
    }
    gate.reached(3).await;
    assert_eq!((upstream.in_flight(), upstream.peak_in_flight()), (3, 3));
    gate.release(2);
    upstream.ended(2).await;
    assert_eq!(upstream.in_flight(), 1);
    gate.open();
    upstream.ended(3).await;
    assert_eq!((upstream.in_flight(), upstream.peak_in_flight()), (0, 3));
}

#[tokio::test]
async fn a_stall_after_the_head_sends_the_head_alone() {
    let gate = Gate::new();
    let (upstream, mut client) = pair(ten_bytes().hold(At::Body(0), &gate)).await;
    client.get("/").await;
    let head = client.read_head().await;
    assert_eq!(head.headers().get("content-length"), Some("10"));
    gate.reached(1).await;
    assert_eq!(upstream.requests()[0].sent, HEAD.len() as u64);
    gate.open();
    assert_eq!(client.read_body_of(head).await.text(), "0123456789");
}

#[tokio::test]
async fn several_events_happen_in_the_order_of_their_places() {
    let (first, second) = (Gate::new(), Gate::new());
    let reply = ten_bytes()
        .reset(At::Body(6))
        .hold(At::Body(4), &second)
        .hold(At::Body(2), &first);
    let (_upstream, mut client) = pair(reply).await;
    client.get("/").await;
    client.read_head().await;
    assert_eq!(client.read_exact(2).await, "01");
    first.reached(1).await;
    first.open();
    assert_eq!(client.read_exact(2).await, "23");
    second.reached(1).await;
    second.open();
    let rest = client.read_rest().await;
    assert_eq!((&rest.bytes[..], rest.reset), (&b"45"[..], true));
}

#[tokio::test]
async fn a_client_that_leaves_a_stall_is_noticed() {
    for with_reset in [false, true] {
        let (upstream, mut client) = pair(ten_bytes().stall(At::Start)).await;
        client.get("/").await;
        upstream.arrived(1).await;
        if with_reset {
            client.reset();
        } else {
            drop(client);
        }
        upstream.ended(1).await;
        assert_eq!(upstream.requests()[0].progress, Progress::ClientLeft);
        upstream.open_connections(0).await;
    }
}

#[tokio::test]
async fn an_unread_answer_is_backed_up_and_not_buffered() {
    const PIECE: usize = 64 * 1024;
    let pieces = std::iter::repeat_n(Bytes::from(vec![b'x'; PIECE]), 3200);
    let (upstream, mut client) = pair(Reply::ok().pieces(pieces)).await;
    client.get("/").await;
    client.read_head().await;
    let request = upstream.requests().remove(0);
    assert!(
        request.sent < 200 * 1024 * 1024,
        "{} bytes went out",
        request.sent
    );
    assert_eq!(request.progress, Progress::Open);
    drop(client);
    upstream.ended(1).await;
    assert_eq!(upstream.requests()[0].progress, Progress::ClientLeft);
}

#[tokio::test]
async fn lengths_can_be_wrong() {
    let body = |framing| {
        Reply::ok()
            .body("0123456789")
            .framing(framing)
            .close_unannounced()
    };
    let seen = rest_of(body(Framing::Length(12))).await.0;
    assert_eq!(
        seen,
        "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n0123456789"
    );
    let seen = rest_of(body(Framing::TwoLengths(10, 3))).await.0;
    assert_eq!(
        seen,
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\ncontent-length: 3\r\n\r\n0123456789"
    );
    let seen = rest_of(body(Framing::LengthAndChunked)).await.0;
    assert_eq!(
        seen,
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\ntransfer-encoding: chunked\r\n\r\n\
         a\r\n0123456789\r\n0\r\n\r\n"
    );
}

#[tokio::test]
async fn the_client_does_not_guess_at_wrong_framing() {
    for (framing, malformed) in [
        (Framing::TwoLengths(10, 10), "2 content-length fields"),
        (
            Framing::LengthAndChunked,
            "transfer-encoding together with content-length",
        ),
    ] {
        let (_upstream, mut client) = pair(ten_bytes().framing(framing)).await;
        client.get("/").await;
        assert_eq!(
            client.read_answer().await.ended,
            Ended::Malformed(malformed.to_owned())
        );
    }
}

#[tokio::test]
async fn bytes_beyond_the_message_stay_on_the_connection() {
    let (_upstream, mut client) = pair(ten_bytes().framing(Framing::Length(3))).await;
    client.get("/").await;
    assert_eq!(client.read_answer().await.text(), "012");
    assert_eq!(client.read_exact(7).await, "3456789");
}

#[tokio::test]
async fn garbage_is_sent_as_it_is() {
    let garbage = b"\x16\x03\x01\x00 not http \r\n\r\n";
    let (_upstream, mut client) = pair(Reply::raw(&garbage[..])).await;
    client.get("/").await;
    assert_eq!(&client.read_rest().await.bytes[..], garbage);

    let (_upstream, mut client) = pair(Reply::raw(&garbage[..])).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert!(answer.head.is_none());
    assert!(
        matches!(answer.ended, Ended::Malformed(_)),
        "{:?}",
        answer.ended
    );
}

#[tokio::test]
async fn a_reused_connection_can_break_at_its_next_request() {
    let upstream = Upstream::start(|request| match request.on_connection {
        0 => Reply::ok().body("fine"),
        _ => Reply::ok().reset(At::Start),
    })
    .await;
    let mut client = Client::connect(upstream.addr()).await;
    client.get("/").await;
    assert_eq!(client.read_answer().await.text(), "fine");
    client.get("/").await;
    assert_eq!(client.read_answer().await.ended, Ended::Reset);
    let mut fresh = Client::connect(upstream.addr()).await;
    fresh.get("/").await;
    assert_eq!(fresh.read_answer().await.text(), "fine");
}

#[tokio::test]
async fn a_stopped_upstream_refuses_and_has_closed_everything() {
    let (upstream, mut client) = pair(ten_bytes().stall(At::Start)).await;
    client.get("/").await;
    upstream.arrived(1).await;
    let addr = upstream.addr();
    gw_testkit::within("the upstream to stop", upstream.stop()).await;
    assert!(client.read_rest().await.bytes.is_empty());
    let error = tokio::net::TcpStream::connect(addr).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn dropping_the_upstream_closes_its_connections() {
    let (upstream, mut client) = pair(ten_bytes().stall(At::Start)).await;
    client.get("/").await;
    upstream.arrived(1).await;
    drop(upstream);
    assert!(client.read_rest().await.bytes.is_empty());
}

#[tokio::test]
#[should_panic(expected = "the upstream's script panicked: no reply for /")]
async fn a_panic_of_the_script_reaches_who_waits() {
    let upstream = Upstream::start(|request| panic!("no reply for {}", request.target)).await;
    let mut client = Client::connect(upstream.addr()).await;
    client.get("/").await;
    upstream.ended(2).await;
}

#[tokio::test]
#[should_panic(expected = "the upstream's script panicked: no reply for /")]
async fn a_panic_of_the_script_reaches_who_drops_the_upstream() {
    let upstream = Upstream::start(|request| panic!("no reply for {}", request.target)).await;
    let mut client = Client::connect(upstream.addr()).await;
    client.get("/").await;
    assert!(client.read_answer().await.head.is_none());
    drop(upstream);
}

#[tokio::test]
#[should_panic(expected = "acts at byte 11 behind its head, where only 10 are")]
async fn an_event_outside_of_the_answer_is_an_error() {
    let (upstream, mut client) = pair(ten_bytes().cut(At::Body(11))).await;
    client.get("/").await;
    upstream.ended(2).await;
}

#[tokio::test]
#[should_panic(expected = "a raw reply has no fields")]
async fn a_raw_reply_takes_no_fields() {
    let _reply = Reply::raw("x").header("a", "b");
}

#[tokio::test]
#[should_panic(expected = "in vain for 2 requests to arrive")]
async fn waiting_for_more_requests_than_come_fails_loudly() {
    let (upstream, mut client) = pair(ten_bytes()).await;
    client.get("/").await;
    assert!(client.read_answer().await.is_complete());
    // The exchange is over, so stopping the clock only shortens the wait.
    tokio::time::pause();
    upstream.arrived(2).await;
}
