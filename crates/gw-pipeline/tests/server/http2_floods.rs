//! Floods of HTTP/2 frames that are cheap to send: they are ignored, answered one by one, or end their connection.
//!
//! The limits are those of hyper and h2. These tests tell when a new version, or a setting of ours, takes one away.

use std::time::Duration;

use gw_pipeline::server::{CloseReason, ServerConfigBuilder};
use gw_testkit::client::Client;
use gw_testkit::within;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;

use crate::support::{HTTP2_PREFACE, Running, echo_path, frame, next_frame, ok};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const UNKNOWN: u8 = 0xfa;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const NO_ERROR: u32 = 0;
const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// GET http://a/ in HPACK.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];
/// POST http://a/ in HPACK, with a `content-length` of 1.
const POST_OF_ONE: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a', 0x0f, 0x0d, 1, b'1'];

/// How many streams of a connection are reset for the client's faults, or given up by it, before the connection ends.
const RESETS: usize = 900;
/// How many streams a connection has at a time, by default.
const STREAMS: usize = 100;

/// A connection that floods, and one beside it.
struct Flood {
    client: Client,
    running: Running,
    beside: Client,
    /// The service of the other connection, so that all calls of `running` are the flood's.
    _echo: Running,
}

impl Flood {
    async fn start(set: impl FnOnce(ServerConfigBuilder) -> ServerConfigBuilder) -> Self {
        let running = Running::start(set).await;
        let echo = Running::start_on(running.server.clone()).await;
        echo_path(&echo.service);
        Self {
            client: connect(&running).await,
            beside: Client::connect(echo.addr).await,
            running,
            _echo: echo,
        }
    }

    /// Sends bytes, if the server still takes them, and asserts that the other connection is answered.
    async fn send(&mut self, bytes: &[u8]) {
        _ = self.client.try_send(bytes).await;
        self.is_answered_beside().await;
    }

    async fn is_answered_beside(&mut self) {
        self.beside.get("/beside").await;
        assert_eq!(self.beside.read_answer().await.text(), "/beside");
    }

    /// Sends a request, which must be the first on its connection.
    async fn is_served(&mut self) {
        assert_eq!(self.running.service.calls(), 0);
        self.send(&whole(1)).await;
        self.running.service.next_call().await.respond(ok("served"));
        assert_eq!(next_frame(&mut self.client).await.0, HEADERS);
    }

    /// Sends a request on a stream, and takes the answer.
    async fn is_answered_on(&mut self, stream: u32) {
        self.client.send(&whole(stream)).await;
        self.running.service.next_call().await.respond(ok("served"));
        for kind in [HEADERS, DATA] {
            assert_eq!(next_frame(&mut self.client).await.0, kind);
        }
    }

    /// Sends a request, and gives it up once the service has it.
    async fn is_given_up(&mut self, stream: u32) {
        self.client.send(&whole(stream)).await;
        let mut call = self.running.service.next_call().await;
        self.client.send(&reset(stream)).await;
        call.abandoned().await;
    }

    /// Reads to the end of the connection; the error of the GOAWAY before it.
    async fn error_at_the_end(&mut self) -> u32 {
        loop {
            let (kind, _, payload) = next_frame(&mut self.client).await;
            if kind == GOAWAY {
                assert!(self.client.read_rest().await.bytes.is_empty());
                // What the end has woken comes before.
                self.is_answered_beside().await;
                return u32::from_be_bytes(payload[4..8].try_into().unwrap());
            }
        }
    }
}

/// A connection on which both sides have said hello.
async fn connect(running: &Running) -> Client {
    let mut client = Client::connect(running.addr).await;
    let hello = [HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
    client.send(&hello).await;
    // The server's settings, their acknowledgement of ours, and the window of the connection.
    for _ in 0..3 {
        next_frame(&mut client).await;
    }
    client.send(&frame(SETTINGS, ACK, 0, &[])).await;
    client
}

fn whole(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

fn upload(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, POST_OF_ONE)
}

/// A frame of the stream of this number, or none.
type Frame = fn(u32) -> Vec<u8>;

/// So many streams after the first so many.
fn streams(first: u32, count: usize, begin: Frame, fault: Frame) -> Vec<u8> {
    let both = |n| [begin(n), fault(n)].concat();
    let numbers = (2 * first + 1..).step_by(2).take(count);
    numbers.flat_map(both).collect()
}

/// How a stream begins, and what is wrong then, so that the server resets it.
const FAULTS: [(Frame, Frame); 4] = [
    // A window that overflows, a stream that depends on itself, more data than declared, trailers that are not the end.
    (whole, |n| frame(WINDOW_UPDATE, 0, n, &[0xff; 4])),
    (whole, |n| {
        frame(PRIORITY, 0, n, &[&n.to_be_bytes()[..], &[1]].concat())
    }),
    (upload, |n| frame(DATA, 0, n, b"ab")),
    (upload, |n| frame(HEADERS, END_HEADERS, n, &[])),
];

/// MadeYouReset (CVE-2025-8671): the client need not even reset its streams, if the server does it for each fault.
#[tokio::test]
async fn a_flood_of_faulty_streams_ends_the_connection() {
    let mut flood = Flood::start(|b| b).await;
    for (begin, fault) in FAULTS {
        let before = flood.running.service.calls();
        flood.client = connect(&flood.running).await;
        // As many at a time as may be open: of more, most are refused, and are worth less.
        for first in (0..900).step_by(STREAMS) {
            flood.send(&streams(first, STREAMS, begin, fault)).await;
            for _ in 0..STREAMS {
                assert_eq!(next_frame(&mut flood.client).await.0, RST_STREAM);
            }
        }
        flood.send(&streams(900, STREAMS, begin, fault)).await;
        assert_eq!(flood.error_at_the_end().await, ENHANCE_YOUR_CALM);
        let calls = flood.running.service.calls() - before;
        assert!(calls <= RESETS, "{calls} calls");
        assert_eq!(flood.running.service.in_flight(), 0);
        assert!(flood.running.service.peak_in_flight() <= STREAMS);
    }
}

/// The same at leisure: each request is with the service when its stream is reset, and is dropped with it.
#[tokio::test]
async fn a_faulty_stream_drops_its_request() {
    let mut flood = Flood::start(|b| b).await;
    for (begin, fault) in FAULTS {
        flood.client = connect(&flood.running).await;
        for n in (1..).step_by(2).take(RESETS + 1) {
            flood.client.send(&begin(n)).await;
            let mut call = flood.running.service.next_call().await;
            flood.client.send(&fault(n)).await;
            call.abandoned().await;
        }
        assert_eq!(flood.error_at_the_end().await, ENHANCE_YOUR_CALM);
    }
}

fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    frame(RST_STREAM, 0, stream, &CANCEL)
}

/// Rapid reset (CVE-2023-44487) by a client that lets each request get as far as the service.
#[tokio::test]
async fn who_gives_up_all_that_it_asks_for_has_to_leave() {
    // Story: only those were counted that hyper had not handed on yet, so 5,000 in a row were begun for nothing.
    let mut flood = Flood::start(|b| b).await;
    for n in (1..).step_by(2).take(RESETS + 1) {
        flood.is_given_up(n).await;
    }
    // What has come of other streams is gone with the connection.
    let (kind, _, payload) = next_frame(&mut flood.client).await;
    assert_eq!(
        (kind, &payload[4..8]),
        (GOAWAY, &NO_ERROR.to_be_bytes()[..])
    );
    flood.client.read_rest().await;
    flood.running.closed(CloseReason::RapidReset, 1).await;
}

#[tokio::test]
async fn who_takes_as_many_answers_as_it_gives_up_may_stay() {
    let mut flood = Flood::start(|b| b).await;
    let mut numbers = (1..).step_by(2);
    for _ in 0..=RESETS {
        flood.is_answered_on(numbers.next().unwrap()).await;
        flood.is_given_up(numbers.next().unwrap()).await;
    }
    flood.is_answered_on(numbers.next().unwrap()).await;
}

/// What h2 takes for the fault of the whole connection is not worth a second stream.
#[tokio::test]
async fn a_fault_of_the_connection_ends_it() {
    // A window that does not grow, a priority that is cut off, data and a head after the end.
    let faults: [Frame; 4] = [
        |n| frame(WINDOW_UPDATE, 0, n, &[0; 4]),
        |n| frame(PRIORITY, 0, n, &[0; 4]),
        |n| frame(DATA, 0, n, b"a"),
        whole,
    ];
    let mut flood = Flood::start(|b| b).await;
    for (fault, calls) in faults.into_iter().zip(1..) {
        flood.client = connect(&flood.running).await;
        flood.send(&streams(0, 1000, whole, fault)).await;
        assert_eq!(flood.error_at_the_end().await, PROTOCOL_ERROR);
        assert!(flood.running.service.calls() <= calls);
    }
}

#[tokio::test]
async fn a_flood_of_refused_streams_ends_the_connection() {
    let mut flood = Flood::start(|b| b).await;
    flood.send(&streams(0, 5000, whole, |_| vec![])).await;
    assert_eq!(flood.error_at_the_end().await, ENHANCE_YOUR_CALM);
    assert!(flood.running.service.calls() <= STREAMS);
}

/// CVE-2024-27316 and its like: a head that goes on and on.
#[tokio::test]
async fn a_flood_of_continuations_ends_the_connection() {
    let field = [&[0, 1, b'x', 0x7f, 0x81, 0x7c][..], &[b'y'; 16_000]].concat();
    // A value of 1 MiB (RFC 7541 section 5.1), of which each frame has a piece.
    let long = [0, 1, b'x', 0x7f, 0x81, 0xfe, 0x3f];
    let mut flood = Flood::start(|b| b).await;
    for (what, begin, more) in [
        ("nothing", GET, &[][..]),
        ("fields", GET, &field),
        ("one field", &long, &[b'y'; 16_000]),
    ] {
        flood.client = connect(&flood.running).await;
        flood.send(&frame(HEADERS, END_STREAM, 1, begin)).await;
        for _ in 0..20 {
            flood.send(&frame(CONTINUATION, 0, 1, more)).await;
        }
        assert_eq!(flood.error_at_the_end().await, ENHANCE_YOUR_CALM, "{what}");
    }
    assert_eq!(flood.running.service.calls(), 0);
}

#[tokio::test]
async fn a_flood_of_empty_data_ends_the_connection() {
    let mut flood = Flood::start(|b| b).await;
    for empty in [frame(DATA, 0, 1, &[]), frame(DATA, PADDED, 1, &[1, 0])] {
        flood.client = connect(&flood.running).await;
        flood.send(&upload(1)).await;
        let mut call = flood.running.service.next_call().await;
        flood.send(&empty.repeat(1000)).await;
        assert_eq!(flood.error_at_the_end().await, ENHANCE_YOUR_CALM);
        call.abandoned().await;
    }
}

#[tokio::test]
async fn pings_and_settings_are_answered_one_by_one() {
    let mut flood = Flood::start(|b| b).await;
    for asked in [
        frame(PING, 0, 0, &[7; 8]),
        frame(SETTINGS, 0, 0, &[]),
        // No table for fields, and no window for streams.
        frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]),
    ] {
        for _ in 0..50 {
            flood.send(&asked.repeat(100)).await;
            for _ in 0..100 {
                let (kind, flags, _) = next_frame(&mut flood.client).await;
                assert_eq!((kind, flags), (asked[3], ACK));
            }
        }
    }
    flood.is_served().await;
}

/// CVE-2019-9512 and CVE-2019-9515: answers that nobody reads must not heap up.
#[tokio::test]
async fn a_flood_of_pings_or_settings_without_reading_ends_the_connection() {
    let mut flood = Flood::start(|b| b.write_stall_timeout(Duration::from_millis(100))).await;
    let asked = [frame(PING, 0, 0, &[7; 8]), frame(SETTINGS, 0, 0, &[])];
    for (asked, ended) in asked.iter().zip(1..) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut client = socket.connect(flood.running.addr).await.unwrap();
        let mut bytes = [HTTP2_PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
        let mut sent = 0;
        // The kernel's buffers take some. When they are full, the server reads no more, waits, and gives up.
        while within("the end", client.write_all(&bytes)).await.is_ok() {
            sent += bytes.len();
            assert!(sent < 64 << 20, "the server reads on and on");
            bytes = asked.repeat(4096);
            flood.is_answered_beside().await;
        }
        flood.running.closed(CloseReason::WriteStall, ended).await;
    }
}

#[tokio::test]
async fn frames_without_effect_are_ignored() {
    let mut flood = Flood::start(|b| b).await;
    for ignored in [
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]),
        frame(UNKNOWN, 0xff, 0, &[7; 100]),
        frame(PING, ACK, 0, &[7; 8]),
    ] {
        for _ in 0..10 {
            flood.send(&ignored.repeat(1000)).await;
        }
        flood.send(&frame(PING, 0, 0, &[9; 8])).await;
        let answer = next_frame(&mut flood.client).await;
        assert_eq!(answer, (PING, ACK, vec![9; 8]));
    }
    flood.is_served().await;
}
