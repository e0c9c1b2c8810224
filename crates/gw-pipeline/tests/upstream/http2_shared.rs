//! What exchanges do to others on the same HTTP/2 connection: nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use gw_pipeline::upstream::{PoolConfig, Protocol, Upstream};
use gw_testkit::body::ScriptedBody;
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tower::ServiceExt as _;

use crate::support::*;

/// The server's side of a connection, frame by frame.
struct Frames {
    stream: TcpStream,
    /// How much content the gateway takes, on the connection and on each stream.
    connection_window: usize,
    stream_window: usize,
    /// How many requests have come, on all connections.
    heads: Arc<AtomicUsize>,
}

/// What the gateway has sent.
enum Sent {
    Head(u32),
    /// And why.
    Reset(usize),
    Other,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status 200`, by its number in the static table.
const OK: &[u8] = &[0x88];

const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];

/// One stream at the same time.
const ONE: &[u8] = &[0, 3, 0, 0, 0, 1];

const CANCEL: usize = 8;

impl Frames {
    async fn greet(mut stream: TcpStream, heads: Arc<AtomicUsize>) -> io::Result<Self> {
        stream.read_exact(&mut [0; 24]).await?;
        let mut frames = Self {
            stream,
            connection_window: 65_535,
            stream_window: 65_535,
            heads,
        };
        frames.send(SETTINGS, 0, 0, &[]).await?;
        Ok(frames)
    }

    async fn next(&mut self) -> io::Result<Sent> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [a, b, c, kind, flags, id @ ..] = head;
        let id = u32::from_be_bytes(id);
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await?;
        match kind {
            HEADERS => {
                self.heads.fetch_add(1, Ordering::SeqCst);
                return Ok(Sent::Head(id));
            }
            RST_STREAM => return Ok(Sent::Reset(number(&payload))),
            SETTINGS if flags == 0 => {
                for setting in payload.chunks(6) {
                    if setting[..2] == INITIAL_WINDOW_SIZE {
                        self.stream_window = number(&setting[2..]);
                    }
                }
                self.send(SETTINGS, 1, 0, &[]).await?;
            }
            WINDOW_UPDATE if id == 0 => self.connection_window += number(&payload),
            _ => {}
        }
        Ok(Sent::Other)
    }

    async fn send(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<()> {
        let [_, length @ ..] = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length.to_vec();
        frame.extend([kind, flags]);
        frame.extend(id.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).await
    }

    /// Sends an answer in pieces of this size, as much of it as the gateway takes unread.
    async fn press(&mut self, id: u32, piece: usize) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS, id, OK).await?;
        let mut left = self.stream_window;
        while left >= piece && self.connection_window >= piece {
            self.send(DATA, 0, id, &vec![b'.'; piece]).await?;
            left -= piece;
            self.connection_window -= piece;
        }
        Ok(())
    }

    /// Answers, if the gateway takes any content.
    async fn answer(&mut self, id: u32) -> io::Result<()> {
        if self.connection_window < 2 {
            return Ok(());
        }
        self.send(HEADERS, END_HEADERS, id, OK).await?;
        self.send(DATA, END_STREAM, id, b"ok").await
    }
}

fn number(bytes: &[u8]) -> usize {
    u32::from_be_bytes(bytes.try_into().unwrap()) as usize
}

/// A server that writes frames, and stops when it is dropped.
struct Server {
    addr: SocketAddr,
    connections: Arc<AtomicUsize>,
    heads: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Server {
    async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(Frames) -> Fut + Send + Sync + Clone + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let heads = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn({
            let (connections, heads) = (Arc::clone(&connections), Arc::clone(&heads));
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, Ordering::SeqCst);
                    let greeting = Frames::greet(stream, Arc::clone(&heads));
                    let serve = serve.clone();
                    tokio::spawn(async move { serve(greeting.await?).await });
                }
            }
        });
        Self {
            addr,
            connections,
            heads,
            accepting,
        }
    }

    fn gateway(&self, pool: PoolConfig) -> Upstream {
        let gateway = builder(self.addr).protocol(Protocol::Http2).pool(pool);
        gateway.build().unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Twenty answers in pieces of this size that nobody reads, and one more.
async fn nobody_reads(piece: usize) {
    const UNREAD: u32 = 20;
    let server = Server::start(move |mut frames| async move {
        loop {
            match frames.next().await? {
                Sent::Head(id) if id < 2 * UNREAD => frames.press(id, piece).await?,
                Sent::Head(id) => frames.answer(id).await?,
                Sent::Reset(_) | Sent::Other => {}
            }
        }
    })
    .await;
    let forward = forward(&server.gateway(PoolConfig::new()));
    let mut unread = Vec::new();
    for _ in 0..UNREAD {
        unread.push(send(&forward, get("/")).await.unwrap());
    }
    assert_eq!(fetch(&forward, get("/")).await, (200, "ok".to_owned()));
    for response in unread {
        let piece = response.into_body().frame().await.unwrap();
        assert!(piece.unwrap().is_data());
    }
    assert_eq!(server.connections(), 1);
}

/// Story: one client that read a stream of small messages slowly ended the connection, and the calls of all others with it. h2 keeps
/// an account of small frames that nobody has read, which follows the connection's window.
#[tokio::test]
async fn small_pieces_that_nobody_reads_end_no_connection() {
    nobody_reads(50).await;
}

/// Story: three clients that did not read their answers used up the connection's window, so everybody else's answer was late, and
/// the upstream seemed to have failed.
#[tokio::test]
async fn answers_that_nobody_reads_hold_up_no_others() {
    nobody_reads(16_384).await;
}

/// Story: of more than fifty requests that are cancelled within a second h2 forgets some, and takes an answer to them that is on its
/// way for a fault. There could be a thousand of these in the life of a connection.
#[tokio::test]
async fn bursts_of_requests_that_are_cancelled_end_no_connection() {
    const CANCELLED: usize = 1500;
    let server = Server::start(|mut frames| async move {
        let (mut unanswered, mut resets) = (Vec::new(), 0);
        loop {
            match frames.next().await? {
                // The last one comes when all others have been cancelled.
                Sent::Head(id) if id > 1 && unanswered.len() < CANCELLED => unanswered.push(id),
                Sent::Head(id) => frames.answer(id).await?,
                Sent::Reset(_) => resets += 1,
                Sent::Other => {}
            }
            if resets == CANCELLED {
                for id in unanswered.drain(..) {
                    frames.answer(id).await?;
                }
            }
        }
    })
    .await;
    let gateway = server.gateway(PoolConfig::new().max_connections(CANCELLED));
    let forward = forward(&gateway);
    // From now on it is known how many requests the server takes at the same time.
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
    let mut cancelled = JoinSet::new();
    for _ in 0..CANCELLED {
        cancelled.spawn(forward.clone().oneshot(get("/")));
    }
    until("all requests to be sent", &gateway, |_| {
        server.heads.load(Ordering::SeqCst) > CANCELLED
    })
    .await;
    cancelled.shutdown().await;
    assert_eq!(fetch(&forward, get("/")).await, (200, "ok".to_owned()));
    assert_eq!(server.connections(), 1);
}

/// Story: a call whose client left was not reset while its upstream gave no window, and neither was one that was cut: hyper does not
/// look at a request's body before there is room for what it has. A hundred of them were as many as the upstream allowed, and new ones
/// were held back on a connection that seemed to have room. Others were reset for an internal error.
#[tokio::test]
async fn a_request_is_reset_when_nobody_wants_its_answer_any_more() {
    let (resets, mut reset) = mpsc::unbounded_channel();
    let server = Server::start(move |mut frames| {
        let resets = resets.clone();
        async move {
            frames.send(SETTINGS, 0, 0, ONE).await?;
            loop {
                match frames.next().await? {
                    Sent::Head(1) => frames.answer(1).await?,
                    // It answers at once, and takes no more of the request than it has to.
                    Sent::Head(id) => frames.send(HEADERS, END_HEADERS, id, OK).await?,
                    Sent::Reset(reason) => _ = resets.send(reason),
                    Sent::Other => {}
                }
            }
        }
    })
    .await;
    let gateway = server.gateway(PoolConfig::new());
    let forward = forward(&gateway);
    // From now on it is known how many requests the server takes at the same time.
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
    let script = ScriptedBody::script;
    let more_than_the_window = || script().data(vec![b'.'; 100_000]).data("more");
    let some = script().data("some");
    for script in [more_than_the_window(), some, more_than_the_window()] {
        let (body, _handle) = script.hold().data("the rest").build();
        let response = send(&forward, post(body)).await.unwrap();
        assert_eq!(response.status(), 200);
        drop(response);
        let reason = gw_testkit::within("a reset", reset.recv()).await;
        assert_eq!(reason, Some(CANCEL));
    }
    assert_eq!(server.connections(), 1);
}
