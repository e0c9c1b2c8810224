//! HTTP/2 clients that do not take the end of an answer, which is invisible at the socket.

use std::time::Duration;

use bytes::Bytes;
use gw_pipeline::Body;
use gw_testkit::body::ScriptedBody;
use gw_testkit::client::Client;
use http::Response;

use crate::support::{HTTP2_PREFACE, Running, frame, next_frame, ok, pass};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// GET http://a/ in HPACK.
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 1, b'a'];

/// SETTINGS with these windows for streams.
fn windows(size: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 4][..], &size.to_be_bytes()].concat())
}

fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, GET)
}

/// An answer of one frame, of a length that is known or not, or of two frames that are followed by trailers.
fn answers(length: usize) -> [Body; 3] {
    let whole = Bytes::from(vec![b'x'; length]);
    let (chunked, _) = ScriptedBody::script().data(whole.clone()).build();
    let (trailed, _) = ScriptedBody::script()
        .data(whole.slice(length / 2..))
        .data(whole.slice(..length / 2))
        .trailers([("x", "y")])
        .build();
    [Body::from(whole), Body::new(chunked), Body::new(trailed)]
}

/// Story: hyper needs room for one byte to give the last piece of an answer to the connection, and with it the end. Nobody timed
/// such a stream any more, and each answered ping kept the connection, with up to 32 KiB for each of its streams.
#[tokio::test]
async fn an_answer_whose_end_is_not_taken_is_reset() {
    for (length, window) in [(8192, 1), (32_768, 1), (8192, 8191), (40_000, 39_999)] {
        for body in answers(length) {
            let running = Running::start(|b| b).await;
            let mut client = Client::connect(running.addr).await;
            client
                .send(&[HTTP2_PREFACE, &windows(window), &get(1)].concat())
                .await;
            let call = running.service.next_call().await;
            call.respond(Response::new(body));
            let mut taken = 0;
            while taken < window as usize {
                let (kind, _, payload) = next_frame(&mut client).await;
                if kind == DATA {
                    taken += payload.len();
                }
            }
            pass(Duration::from_secs(5)).await;
            client.send(&frame(PING, 0, 0, b"01234567")).await;
            assert_eq!(next_frame(&mut client).await.0, PING);
            pass(Duration::from_secs(5)).await;
            let (kind, _, payload) = next_frame(&mut client).await;
            assert_eq!((kind, &payload[..]), (RST_STREAM, &CANCEL[..]));
            assert_eq!(running.snapshot().stalled_streams, 1);
            assert_eq!(running.snapshot().active, 1);
        }
    }
}

/// Story: the answer had ended for the server when the client took back the room that it had given.
#[tokio::test]
async fn an_answer_is_reset_whose_client_takes_its_room_back() {
    let running = Running::start(|b| b).await;
    let mut beside = running.idle().await;
    let mut client = Client::connect(running.addr).await;
    let room = frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes());
    client
        .send(&[HTTP2_PREFACE, &windows(0x7fff_ffff), &room].concat())
        .await;
    // The first answer fills the socket, so the second one waits in the connection.
    for (stream, length) in [(1, 24 * 1024 * 1024), (3, 8192)] {
        client.send(&get(stream)).await;
        let answer = Response::new(Body::from(vec![b'x'; length]));
        running.service.next_call().await.respond(answer);
        settle(&running, &mut beside).await;
    }
    client
        .send(&[windows(0), frame(PING, 0, 0, b"01234567")].concat())
        .await;
    settle(&running, &mut beside).await;
    // The first SETTINGS, the second, and the PING.
    let mut acks = 0;
    while acks < 3 {
        let (kind, flags, _) = next_frame(&mut client).await;
        acks += u32::from(matches!(kind, SETTINGS | PING) && flags == ACK);
    }
    pass(Duration::from_secs(10)).await;
    let mut resets = 0;
    while resets < 2 {
        let (kind, flags, payload) = next_frame(&mut client).await;
        assert_eq!(flags & END_STREAM, 0);
        if kind == RST_STREAM {
            assert_eq!(payload, CANCEL);
            resets += 1;
        }
    }
    assert_eq!(running.snapshot().stalled_streams, 2);
}

/// There is one thread, which has seen what came before.
async fn settle(running: &Running, beside: &mut Client) {
    for _ in 0..3 {
        beside.get("/").await;
        running.service.next_call().await.respond(ok("seen"));
        assert_eq!(beside.read_answer().await.text(), "seen");
    }
}
