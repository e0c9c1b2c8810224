//! How often an HTTP/2 upstream is asked for a sign of life.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use gw_pipeline::upstream::{Protocol, UpstreamBuilder};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use crate::support::*;

const MINUTE: Duration = Duration::from_secs(60);

/// SETTINGS without any, and the confirmation of the peer's.
const HELLO: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0];
/// The head of an answer whose body is to come: 200, and the end of the fields.
const HEAD: &[u8] = &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
/// GOAWAY with `ENHANCE_YOUR_CALM`, by a server that has looked at the first stream.
const CALM: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 11];

/// When pings have come.
type Pings = Arc<Mutex<Vec<Instant>>>;

/// A stream without messages, by a server that counts pings as gRPC's do which nobody has configured: in C, Go and Java the
/// third within five minutes of the one before, with nothing sent meanwhile, ends the connection.
async fn serve(mut stream: TcpStream, pings: Pings) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    stream.write_all(HELLO).await?;
    let (mut last, mut strikes) = (None::<Instant>, 0);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        match (head[3], head[4]) {
            (1, _) => stream.write_all(HEAD).await?,
            (6, 0) => {
                let now = Instant::now();
                strikes += usize::from(last.is_some_and(|last| now - last < 5 * MINUTE));
                if strikes > 2 {
                    stream.write_all(CALM).await?;
                    return stream.shutdown().await;
                }
                last = Some(now);
                pings.lock().unwrap().push(now);
                let pong = [&[0, 0, 8, 6, 1, 0, 0, 0, 0], &*payload].concat();
                stream.write_all(&pong).await?;
            }
            _ => {}
        }
    }
}

/// Keeps a stream without messages open for so long, with pings as `configure` has them; when they have come.
async fn be_silent(
    length: Duration,
    configure: impl Fn(UpstreamBuilder) -> UpstreamBuilder,
) -> Pings {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let pings = Pings::default();
    tokio::spawn({
        let pings = Arc::clone(&pings);
        async move {
            let (stream, _) = listener.accept().await.unwrap();
            serve(stream, pings).await
        }
    });
    let gateway = configure(builder(addr).protocol(Protocol::Http2));
    let gateway = gateway.build().unwrap();
    let mut watch = get("/watch");
    watch.extensions_mut().insert(PATIENT);
    let response = send(&forward(&gateway), watch).await.unwrap();
    let mut body = std::pin::pin!(response.into_body().collect());
    let end = Instant::now() + length;
    while Instant::now() < end {
        pass(MINUTE / 2).await;
        // Both sides are on this thread, so that what one has sent the other can read.
        for _ in 0..1000 {
            tokio::select! {
                biased;
                ended = &mut body => panic!("{ended:?} after {} pings", pings.lock().unwrap().len()),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    pings
}

/// Story: a stream without messages ended after a minute and a half at gRPC servers, each time.
#[tokio::test]
async fn a_silent_stream_is_not_ended_by_pings() {
    // How long a pong takes on a busy machine is another question.
    let pings = be_silent(HOUR, |upstream| upstream.ping_timeout(HOUR)).await;
    // Those who are gone are found, though.
    assert!(pings.lock().unwrap().len() > 5);
}

/// Story: whoever wanted no pings, or no end to the wait for them, asked for the longest time there is, and the connection's task
/// panicked.
#[tokio::test]
async fn times_that_never_run_out_are_no_overflow() {
    let (never, often) = (Duration::MAX, 6 * MINUTE);
    let pings = be_silent(20 * MINUTE, |upstream| {
        upstream.ping_interval(never).ping_timeout(HOUR)
    });
    assert_eq!(pings.await.lock().unwrap().len(), 0);
    let pings = be_silent(20 * MINUTE, |upstream| {
        upstream.ping_interval(often).ping_timeout(never)
    });
    assert!(!pings.await.lock().unwrap().is_empty());
}
