//! Uploads over HTTP/2 whose client resets the stream, before their end and behind it.

use gw_testkit::client::Client;
use gw_testkit::within;
use http_body_util::BodyExt as _;

use crate::support::{HTTP2_PREFACE, Running, frame};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// POST http://a/ in HPACK.
const POST: &[u8] = &[0x83, 0x86, 0x84, 0x41, 1, b'a'];
/// x: y in HPACK.
const TRAILERS: &[u8] = &[0, 1, b'x', 1, b'y'];

const NO_ERROR: u32 = 0;
const CANCEL: u32 = 8;

fn data(flags: u8, payload: &[u8]) -> Vec<u8> {
    frame(DATA, flags, 1, payload)
}

fn reset(reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, 1, &reason.to_be_bytes())
}

/// What the service reads of an upload: its data and whether there were trailers, unless it failed. `later` comes once it reads.
async fn read(at_once: &[Vec<u8>], later: &[Vec<u8>]) -> Option<(String, bool)> {
    let running = Running::start(|b| b).await;
    let mut client = Client::connect(running.addr).await;
    let settings = frame(SETTINGS, 0, 0, &[]);
    let head = frame(HEADERS, END_HEADERS, 1, POST);
    let first = [HTTP2_PREFACE, &settings, &head, &at_once.concat()].concat();
    client.send(&first).await;
    let (request, _reply) = running.service.next_call().await.into_parts();
    let mut body = request.into_body();
    let mut begun = Vec::new();
    if !later.is_empty() {
        let piece = within("a piece", body.frame()).await.unwrap().unwrap();
        begun.extend(piece.into_data().unwrap());
        client.send(&later.concat()).await;
    }
    let rest = within("the upload", body.collect()).await.ok()?;
    let trailers = rest.trailers().is_some();
    begun.extend(rest.to_bytes());
    Some((String::from_utf8(begun).unwrap(), trailers))
}

/// Story: hyper takes NO_ERROR, with which Node resets a stream that its program closes, for the end wherever it comes. A part of an
/// upload ended in order, and whoever commits at the end committed it.
#[tokio::test]
async fn an_upload_that_is_reset_before_its_end_fails() {
    for reason in [NO_ERROR, CANCEL] {
        let at_once = [data(0, b"part"), reset(reason)];
        assert_eq!(read(&at_once, &[]).await, None, "{reason}");
        assert_eq!(read(&[reset(reason)], &[]).await, None, "{reason}");
        let later = [reset(reason)];
        assert_eq!(read(&at_once[..1], &later).await, None, "{reason}");
    }
}

#[tokio::test]
async fn an_upload_that_is_reset_behind_its_end_is_whole() {
    let part = || data(0, b"part");
    let trailers = frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS);
    for (end, expected) in [
        (data(END_STREAM, b""), ("part", false)),
        (data(END_STREAM, b"ner"), ("partner", false)),
        (trailers, ("part", true)),
    ] {
        let expected = Some((expected.0.to_owned(), expected.1));
        for behind in [None, Some(NO_ERROR), Some(CANCEL)] {
            let behind = behind.map(reset);
            let end: Vec<_> = [end.clone()].into_iter().chain(behind).collect();
            assert_eq!(read(&[part()], &end).await, expected, "{end:?}");
            let at_once = [&[part()], &end[..]].concat();
            assert_eq!(read(&at_once, &[]).await, expected, "{end:?}");
        }
    }
}
