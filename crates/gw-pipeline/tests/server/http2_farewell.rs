//! Goodbyes over HTTP/2: to a client that has no room for the end of its answer, and to one that has had no request for long.

use std::time::Duration;

use gw_pipeline::Body;
use gw_pipeline::server::CloseReason;
use gw_testkit::client::Client;
use http::Response;

use crate::support::{HTTP2_PREFACE, Running, frame, next_frame, ok, pass};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// GET http://a/ in HPACK.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

/// What a client takes before it says more.
const WINDOW: u32 = 65_535;

/// A window and an answer that is handed over before the client has taken it.
const SMALL: (u32, usize) = (1, 1000);

/// An answer of so many bytes, of which the client has taken as many as its window lets it, on a server that stops.
async fn leaving(running: &mut Running, (window, length): (u32, usize)) -> Client {
    let mut client = Client::connect(running.addr).await;
    let settings = [&[0, 4][..], &window.to_be_bytes()].concat();
    let settings = frame(SETTINGS, 0, 0, &settings);
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, GET);
    client
        .send(&[HTTP2_PREFACE, &settings, &request].concat())
        .await;
    let answer = Response::new(Body::from(vec![b'x'; length]));
    running.service.next_call().await.respond(answer);
    let mut taken = 0;
    while taken < window as usize {
        let (kind, _, payload) = next_frame(&mut client).await;
        if kind == DATA {
            taken += payload.len();
        }
    }
    running.stop();
    client
}

/// Answers the server's goodbye.
async fn answer_goodbye(client: &mut Client) {
    let mut goodbyes = 0;
    while goodbyes < 2 {
        let (kind, _, payload) = next_frame(client).await;
        match kind {
            GOAWAY => goodbyes += 1,
            PING => client.send(&frame(PING, ACK, 0, &payload)).await,
            kind => panic!("frame {kind}"),
        }
    }
}

/// Story: hyper has taken the last piece of an answer while the client has room for none of it, or for one byte less than all
/// of it. The connection passed for one without a request, and was closed a second later.
#[tokio::test]
async fn the_end_of_an_answer_is_waited_for() {
    for (window, length) in [(WINDOW, 65_536), (WINDOW, 98_304), SMALL] {
        let mut running = Running::start(|b| b).await;
        let mut client = leaving(&mut running, (window, length)).await;
        answer_goodbye(&mut client).await;
        pass(Duration::from_secs(5)).await;
        for stream in [0, 1] {
            let room = frame(WINDOW_UPDATE, 0, stream, &0xffff_u32.to_be_bytes());
            client.send(&room).await;
        }
        let mut taken = window as usize;
        loop {
            let (kind, flags, payload) = next_frame(&mut client).await;
            assert_eq!(kind, DATA, "{length}");
            taken += payload.len();
            if flags & END_STREAM != 0 {
                break;
            }
        }
        assert_eq!(taken, length);
        assert!(!client.read_rest().await.reset);
        running.closed(CloseReason::Shutdown, 1).await;
        assert!(running.stopped().await.is_clean());
    }
}

/// For as long as a client may take nothing of an answer, and no longer.
#[tokio::test]
async fn who_does_not_take_the_end_is_not_waited_for() {
    let mut running = Running::start(|b| b).await;
    let mut client = leaving(&mut running, SMALL).await;
    answer_goodbye(&mut client).await;
    pass(Duration::from_secs(10)).await;
    running.closed(CloseReason::WriteStall, 1).await;
}

/// Who does not answer the goodbye is taken to be gone.
#[tokio::test]
async fn who_is_silent_gets_a_second() {
    let mut running = Running::start(|b| b).await;
    let mut client = leaving(&mut running, SMALL).await;
    while next_frame(&mut client).await.0 != PING {}
    pass(Duration::from_secs(1)).await;
    running.closed(CloseReason::Shutdown, 1).await;
    assert!(running.stopped().await.is_clean());
}

/// A connection that has had one answer, and none for so long that the server says goodbye.
async fn idle(running: &Running) -> Client {
    let mut client = Client::connect(running.addr).await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 1, GET);
    client
        .send(&[HTTP2_PREFACE, &settings, &request].concat())
        .await;
    running.service.next_call().await.respond(ok("first"));
    while next_frame(&mut client).await.0 != DATA {}
    pass(Duration::from_secs(60)).await;
    client
}

/// Story: the goodbye went with the connection. A call that crossed it was lost, and its client could not know that nobody had
/// begun it: exporters that report each minute came just then.
#[tokio::test]
async fn a_call_that_crosses_the_goodbye_to_an_idle_client_is_served() {
    let running = Running::start(|b| b).await;
    let mut client = idle(&running).await;
    let ping = loop {
        let (kind, _, payload) = next_frame(&mut client).await;
        match kind {
            GOAWAY => assert_eq!(payload[..4], i32::MAX.to_be_bytes()),
            PING => break payload,
            kind => assert_eq!(kind, WINDOW_UPDATE),
        }
    };
    let request = frame(HEADERS, END_HEADERS | END_STREAM, 3, GET);
    let pong = frame(PING, ACK, 0, &ping);
    client.send(&[request, pong].concat()).await;
    running.service.next_call().await.respond(ok("crossed"));
    let (mut last, mut text) = (Vec::new(), Vec::new());
    while text != b"crossed" {
        let (kind, _, payload) = next_frame(&mut client).await;
        match kind {
            GOAWAY => last = payload,
            DATA => text = payload,
            kind => assert_eq!(kind, HEADERS),
        }
    }
    assert_eq!(last[..4], 3_u32.to_be_bytes());
    assert!(!client.read_rest().await.reset);
    running.closed(CloseReason::KeepAliveTimeout, 1).await;
}

#[tokio::test]
async fn an_idle_client_that_does_not_answer_the_goodbye_gets_a_second() {
    let running = Running::start(|b| b).await;
    let mut client = idle(&running).await;
    while next_frame(&mut client).await.0 != PING {}
    assert_eq!(running.snapshot().active, 1);
    pass(Duration::from_secs(1)).await;
    running.closed(CloseReason::KeepAliveTimeout, 1).await;
}
