//! Upstreams that break the rules, or break off.

use gw_pipeline::upstream::ErrorKind;
use gw_testkit::client::{Client, Ended};
use gw_testkit::upstream::{At, Framing, Reply, Upstream, always};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

fn bad_heads() -> Vec<(&'static str, Reply)> {
    vec![
        ("reset", Reply::ok().reset(At::Start)),
        ("cut", Reply::ok().cut(At::Start)),
        ("reset in the head", Reply::ok().reset(At::Head(12))),
        ("cut in the head", Reply::ok().cut(At::Head(12))),
        ("garbage", Reply::raw("SSH-2.0-OpenSSH_9.7\r\n")),
        ("http/0.9", Reply::raw("<html>hello</html>")),
        ("a huge head", Reply::ok().large_head(256)),
        ("many fields", Reply::ok().many_headers(500)),
        (
            "two lengths",
            Reply::ok().body("abc").framing(Framing::TwoLengths(3, 4)),
        ),
        (
            "length and chunks",
            Reply::ok().body("abc").framing(Framing::LengthAndChunked),
        ),
        (
            "a coding",
            Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        ),
        (
            "codings",
            Reply::raw(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ),
        ),
        (
            "a bad length",
            Reply::raw("HTTP/1.1 200 OK\r\ncontent-length: +3\r\n\r\nabc"),
        ),
        (
            "a space in a name",
            Reply::raw("HTTP/1.1 200 OK\r\nx y: z\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "a folded line",
            Reply::raw("HTTP/1.1 200 OK\r\nx: y\r\n z\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "a bad status",
            Reply::raw("HTTP/1.1 2000 OK\r\ncontent-length: 0\r\n\r\n"),
        ),
        (
            "a status of no class",
            Reply::raw("HTTP/1.1 600 OK\r\ncontent-length: 6\r\n\r\nsecret"),
        ),
        (
            "the last status",
            Reply::raw("HTTP/1.1 999 OK\r\ncontent-length: 6\r\n\r\nsecret"),
        ),
        ("http/2", Reply::raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
    ]
}

#[tokio::test]
async fn what_is_no_answer_is_a_bad_gateway() {
    for (what, reply) in bad_heads() {
        let upstream = Upstream::start(always(reply)).await;
        let gateway = plain(&upstream);
        let refusal = refused(&forward(&gateway), get("/")).await;
        assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Answer), "{what}");
        assert_eq!(upstream.requests().len(), 1, "{what}");
        is_quiet(&gateway).await;
    }
}

#[tokio::test]
async fn the_client_learns_nothing_of_the_cause() {
    let upstream = Upstream::start(always(Reply::raw("10.0.0.7 says no"))).await;
    let front = Front::start(forward(&plain(&upstream))).await;
    let mut client = Client::connect(front.addr).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.text(),
        r#"{"error":{"code":"BAD_GATEWAY","message":"The upstream service gave no usable answer.","details":{}}}"#
    );
}

#[tokio::test]
async fn nobody_listens() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = plain(&upstream);
    upstream.stop().await;
    let refusal = refused(&forward(&gateway), get("/")).await;
    assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Connect));
    is_quiet(&gateway).await;
    let nowhere = gw_pipeline::upstream::Upstream::builder(gateway.name().clone())
        .endpoint("http://does-not-exist.invalid".parse().unwrap())
        .build()
        .unwrap();
    let refusal = refused(&forward(&nowhere), get("/")).await;
    assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Connect));
}

fn cut_bodies() -> Vec<(&'static str, Reply)> {
    let sized = || Reply::ok().body("0123456789");
    let chunked = || Reply::ok().chunks(["01234", "56789"]);
    vec![
        ("a short body", sized().cut(At::Body(3))),
        ("a reset body", sized().reset(At::Body(3))),
        ("a cut chunk", chunked().cut(At::Body(5))),
        ("no last chunk", chunked().cut(At::LastChunk)),
        ("a reset between chunks", chunked().reset(At::LastChunk)),
        (
            "a bad chunk size",
            Reply::raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n"),
        ),
    ]
}

#[tokio::test]
async fn a_part_is_never_taken_for_the_whole() {
    for (what, reply) in cut_bodies() {
        let upstream = Upstream::start(always(reply)).await;
        let gateway = plain(&upstream);
        let response = send(&forward(&gateway), get("/")).await.unwrap();
        let collecting = gw_testkit::within(what, response.into_body().collect());
        assert_eq!(
            collecting.await.unwrap_err().kind(),
            ErrorKind::Answer,
            "{what}"
        );
        is_quiet(&gateway).await;

        let front = Front::start(forward(&gateway)).await;
        let mut client = Client::connect(front.addr).await;
        client.get("/").await;
        let answer = client.read_answer().await;
        assert!(
            matches!(answer.ended, Ended::Cut | Ended::Reset),
            "{what}: {:?}",
            answer.ended
        );
        is_quiet(&gateway).await;
    }
}

#[tokio::test]
async fn a_body_up_to_the_end_of_the_connection_is_whole() {
    let reply = Reply::ok()
        .pieces(["abc", "def"])
        .framing(Framing::UntilClose);
    let upstream = Upstream::start(always(reply)).await;
    let gateway = plain(&upstream);
    assert_eq!(
        fetch(&forward(&gateway), get("/")).await,
        (200, "abcdef".to_owned())
    );
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn stray_bytes_behind_an_answer_end_the_connection() {
    let stray = "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
    let upstream = Upstream::start(always(Reply::raw(stray).keep_open())).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    for _ in 0..3 {
        assert_eq!(fetch(&forward, get("/")).await, (204, String::new()));
        is_quiet(&gateway).await;
    }
    assert_eq!(upstream.connections().total, 3);
}

#[tokio::test]
async fn interim_answers_are_left_out() {
    let reply = Reply::ok().body("ok").interims(1, 100, []).interims(
        3,
        103,
        [("link", "</style.css>; rel=preload")],
    );
    let upstream = Upstream::start(always(reply)).await;
    assert_eq!(
        fetch(&forward(&plain(&upstream)), get("/")).await,
        (200, "ok".to_owned())
    );
}

/// Story: an upstream that never came to its answer could have the gateway read interim answers until the attempt's time was
/// over, as fast as they came.
#[tokio::test]
async fn interim_answers_are_bounded() {
    let early = |count| {
        let link = [("link", "</style.css>; rel=preload")];
        Reply::ok().body("ok").interims(count, 103, link)
    };
    let upstream = Upstream::start(always(early(10_000))).await;
    let gateway = plain(&upstream);
    let refusal = refused(&forward(&gateway), get("/")).await;
    assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Answer));
    is_quiet(&gateway).await;
    // The bound is anew for each request, and does not count what comes behind the head.
    let some = early(200).large_head(48).body(vec![b'x'; 1 << 20]);
    let upstream = Upstream::start(always(some)).await;
    let forward = forward(&plain(&upstream));
    for _ in 0..3 {
        assert_eq!(fetch(&forward, get("/")).await.1.len(), 1 << 20);
    }
    assert_eq!(upstream.connections().total, 1);
}

#[tokio::test]
async fn a_length_that_is_stated_twice_reaches_the_client_once() {
    for length in [
        "content-length: 3, 3\r\n",
        "content-length: 3\r\ncontent-length: 3\r\n",
    ] {
        for (method, body) in [("GET", "abc"), ("HEAD", "")] {
            let answer = format!("HTTP/1.1 200 OK\r\n{length}\r\n{body}");
            let upstream = Upstream::start(always(Reply::raw(answer).keep_open())).await;
            let gateway = plain(&upstream);
            let response = send(&forward(&gateway), request(method, "/", "")).await;
            let response = response.unwrap();
            let lengths = response.headers().get_all("content-length").iter();
            assert_eq!(lengths.collect::<Vec<_>>(), ["3"]);
            assert_eq!(text(response).await, body);
        }
    }
    // Nothing reads the length of an answer to HEAD but its client.
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n";
    let upstream = Upstream::start(always(Reply::raw(answer))).await;
    let refusal = refused(&forward(&plain(&upstream)), request("HEAD", "/", "")).await;
    assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Answer));
}

#[tokio::test]
async fn an_answer_that_cannot_have_a_body_states_no_length() {
    let answer = "HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n";
    let upstream = Upstream::start(always(Reply::raw(answer).keep_open())).await;
    let response = send(&forward(&plain(&upstream)), get("/")).await.unwrap();
    assert!(!response.headers().contains_key("content-length"));
}

/// Story: an upstream that sent a body behind a 204, a moment after the head, had it read as the answer to somebody else's request.
#[tokio::test]
async fn a_body_that_must_not_come_is_not_waited_for() {
    for (head, connections) in [
        ("204 No Content\r\ncontent-length: 5", 2),
        ("204 No Content\r\ntransfer-encoding: chunked", 2),
        ("304 Not Modified\r\ntransfer-encoding: chunked", 2),
        // What the client has is as long.
        ("304 Not Modified\r\ncontent-length: 5", 1),
        ("204 No Content\r\ncontent-length: 0", 1),
        ("204 No Content", 1),
    ] {
        let answer = format!("HTTP/1.1 {head}\r\n\r\n");
        let upstream = Upstream::start(always(Reply::raw(answer).keep_open())).await;
        let forward = forward(&plain(&upstream));
        for _ in 0..2 {
            fetch(&forward, get("/")).await;
        }
        assert_eq!(upstream.connections().total, connections, "{head}");
    }
}

/// Reads a request without a body, and writes what answers it.
async fn serve(stream: &mut TcpStream, answer: &str) {
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\n") {
        read.push(stream.read_u8().await.unwrap());
    }
    stream.write_all(answer.as_bytes()).await.unwrap();
}

/// Story: nobody looked at a connection in steady use, so that a body behind the answer to a HEAD was the next one's answer.
#[tokio::test]
async fn what_comes_behind_an_answer_without_a_body_answers_nobody() {
    for (method, head) in [
        ("HEAD", "200 OK\r\ncontent-length: 44"),
        ("HEAD", "200 OK\r\ntransfer-encoding: chunked"),
        ("GET", "304 Not Modified"),
        ("GET", "204 No Content"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let gateway = builder(listener.local_addr().unwrap()).build().unwrap();
        let forward = forward(&gateway);
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let first = async {
            let mut stream = listener.accept().await.unwrap().0;
            // Or the next request would fetch what it is not to find.
            stream.set_nodelay(true).unwrap();
            serve(&mut stream, ok).await;
            stream
        };
        let (_, mut stream) = tokio::join!(fetch(&forward, get("/")), first);
        for _ in 0..3 {
            let serving = serve(&mut stream, ok);
            tokio::join!(fetch(&forward, get("/")), serving);
        }
        let answer = format!("HTTP/1.1 {head}\r\n\r\n");
        let asked = fetch(&forward, request(method, "/", ""));
        tokio::join!(asked, serve(&mut stream, &answer));
        tokio::task::yield_now().await;
        // Nobody has a turn between this and the next request.
        let stray = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison";
        assert_eq!(stream.try_write(stray).unwrap(), stray.len());
        let others = async {
            let mut stream = listener.accept().await.unwrap().0;
            serve(&mut stream, ok).await;
            std::future::pending().await
        };
        let body = tokio::select! {
            (_, body) = fetch(&forward, get("/")) => body,
            () = others => unreachable!(),
        };
        assert_eq!(body, "ok", "{method} {head}");
    }
}
