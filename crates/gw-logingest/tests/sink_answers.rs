//! Answers that cost more than they say.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a broken expectation must stop the test at once, with a message"
)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use gw_logingest::sink::elasticsearch::ElasticsearchSink;
use gw_logingest::sink::{Delivery, Item, Sink as _};
use gw_logingest::{Batch, BatchId, Class, ClientId, Event};
use gw_testkit::PATIENCE;

/// A node that answers its first request like this, on a thread of its own.
fn answering(answer: impl FnOnce(&mut TcpStream) + Send + 'static) -> ElasticsearchSink {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let _ = client.read(&mut [0; 4096]).unwrap();
        answer(&mut client);
        // Until the other side ends it.
        while client.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {}
    });
    let sink = ElasticsearchSink::builder("logs").node(format!("http://{address}"));
    sink.request_timeout(PATIENCE).build().unwrap()
}

fn event() -> Vec<Event> {
    let now = std::time::SystemTime::UNIX_EPOCH;
    let mut batch = Batch::builder(BatchId::new(now), ClientId::new("c").unwrap(), now);
    batch.push(Some("a"), Class::Normal, b"{}");
    batch.finish().events().collect()
}

/// Story: each piece of an answer was kept by itself until its end, a byte as 32: of the 16 MiB that an answer may have, half a
/// gigabyte.
#[test]
fn an_answer_in_tiny_pieces_costs_what_its_bytes_do() {
    const PIECES: usize = 300_000;
    const TEXT: &str = r#"{"items":[{"create":{"_id":"a","status":201}}]}"#;
    let sink = answering(|client| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let rest = format!("{:x}\r\n{TEXT}\r\n0\r\n\r\n", TEXT.len());
        let answer = [head, &"1\r\n \r\n".repeat(PIECES), &rest].concat();
        client.write_all(answer.as_bytes()).unwrap();
    });
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let events = event();
    let mut delivery = None;
    let taken = allocation_counter::measure(|| {
        delivery = Some(runtime.block_on(sink.deliver(&events)));
    });
    assert_eq!(delivery, Some(Delivery::Items(vec![Item::Delivered])));
    assert!(taken.bytes_max < 10 * PIECES as u64, "{taken:?}");
}

/// Story: an explanation was read to its end, up to 16 MiB, for its first 512 bytes, and one without an end was taken for no answer.
#[tokio::test]
async fn an_explanation_is_not_read_to_its_end() {
    let sink = answering(|client| {
        let head = "HTTP/1.1 403 Forbidden\r\ncontent-length: 1000000\r\n\r\n";
        let answer = [head, &"x".repeat(20_000)].concat();
        client.write_all(answer.as_bytes()).unwrap();
    });
    let delivery = sink.deliver(&event()).await;
    let Delivery::Blocked(reason) = delivery else {
        panic!("{delivery:?}");
    };
    assert_eq!(reason.status(), Some(403));
    assert_eq!(reason.message(), "x".repeat(512));
}
