//! Clients that leave at any point, by a seed.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::{Either, select};
use gw_testkit::within;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::{Body, Frame};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, yield_now};

/// How requests are sent, and when who sent them leaves.
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    pub(crate) rng: fastrand::Rng,
    pub(crate) lanes: Vec<&'static str>,
    /// Those in which connections may be upgraded.
    pub(crate) tunnels: Vec<&'static str>,
    pub(crate) saw: Saw,
    h2: Option<H2>,
}

/// What came of it, as far as clients that leave can tell.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Saw {
    pub(crate) sent: u64,
    /// Answers that were read to their end.
    pub(crate) whole: u64,
    pub(crate) refused: u64,
    /// Left before the end.
    pub(crate) left: u64,
    pub(crate) echoed: u64,
}

struct H2 {
    sender: SendRequest<BoxBody<Bytes, Infallible>>,
    connection: JoinHandle<()>,
}

/// How long an upload is.
const LENGTH: usize = 20_000;

impl Client {
    pub(crate) fn new(
        address: SocketAddr,
        seed: u64,
        lanes: Vec<&'static str>,
        tunnels: Vec<&'static str>,
    ) -> Self {
        Self {
            address,
            rng: fastrand::Rng::with_seed(seed),
            lanes,
            tunnels,
            saw: Saw::default(),
            h2: None,
        }
    }

    /// Sends so many requests, one after the other or, with HTTP/2, some at once.
    pub(crate) async fn run(mut self, requests: u64) -> Saw {
        while self.saw.sent < requests {
            if self.rng.bool() {
                within("a client with HTTP/1", self.http1()).await;
            } else {
                within("a client with HTTP/2", self.http2()).await;
            }
        }
        if let Some(h2) = self.h2.take() {
            h2.connection.abort();
        }
        self.saw
    }

    fn lane(&mut self) -> &'static str {
        self.rng.choice(self.lanes.iter().copied()).unwrap()
    }

    /// On a connection of its own, byte by byte if need be.
    async fn http1(&mut self) {
        self.saw.sent += 1;
        let lane = self.lane();
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let kinds = [
            "quick", "slow", "never", "stream", "endless", "broken", "upload", "tunnel",
        ];
        let kind = self.rng.choice(kinds).unwrap();
        let (lane, kind) = match (kind, self.rng.choice(self.tunnels.iter().copied())) {
            ("tunnel", Some(lane)) => (lane, kind),
            ("tunnel", None) => (lane, "quick"),
            _ => (lane, kind),
        };
        let mut request = match kind {
            "upload" => format!(
                "POST /{lane}/{kind} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {LENGTH}\r\n\r\n"
            ),
            "tunnel" => format!(
                "GET /{lane}/{kind} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
            ),
            _ => format!("GET /{lane}/{kind} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"),
        }
        .into_bytes();
        if kind == "upload" {
            request.resize(request.len() + LENGTH, b'x');
        }
        // Half a head or half a body, every fourth time.
        let whole = self.rng.u8(0..4) > 0;
        let sent = if whole {
            request.len()
        } else {
            self.rng.usize(0..request.len())
        };
        // In pieces, some times, so that the server sees the head before the body.
        let first = self.rng.usize(0..=sent);
        // An answer that came early ends the sending.
        let sends = async {
            stream.write_all(&request[..first]).await?;
            yield_now().await;
            stream.write_all(&request[first..sent]).await
        };
        let sent = sends.await.is_ok();
        if sent && whole {
            self.read(&mut stream, kind).await;
        } else {
            self.linger().await;
            self.saw.left += 1;
        }
        if self.rng.bool() {
            // With a reset instead of an end.
            stream.set_zero_linger().unwrap();
        }
    }

    /// Reads as much of an answer as the client stays for.
    async fn read(&mut self, stream: &mut TcpStream, kind: &str) {
        let ends = !matches!(kind, "never" | "endless" | "tunnel");
        let mut answer = Vec::new();
        match self.rng.u8(0..4) {
            0 => self.linger().await,
            // A part. What never answers is not waited for, though it may be refused.
            1 if kind != "never" => {
                let wanted = self.rng.usize(1..2_000);
                while stream.read_buf(&mut answer).await.is_ok_and(|n| n > 0)
                    // After its first bytes a tunnel says nothing by itself, and a refused one is kept open.
                    && kind != "tunnel"
                    && answer.len() < wanted
                {}
            }
            _ if ends => {
                let end = stream.read_to_end(&mut answer).await;
                let head = String::from_utf8_lossy(&answer);
                if head.starts_with("HTTP/1.1 503 ") {
                    self.saw.refused += 1;
                } else if end.is_ok() && head.starts_with("HTTP/1.1 200 ") {
                    assert!(
                        kind != "quick" && kind != "slow" || head.ends_with("\r\n\r\ndone"),
                        "{head}"
                    );
                    assert!(
                        kind != "upload" || head.ends_with(&LENGTH.to_string()),
                        "{head}"
                    );
                    self.saw.whole += 1;
                }
                return;
            }
            _ if kind == "tunnel" => self.echo(stream).await,
            _ => self.linger().await,
        }
        self.saw.left += 1;
    }

    async fn echo(&mut self, stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        if !head.starts_with(b"HTTP/1.1 101 ") {
            self.saw.refused += 1;
            return;
        }
        for _ in 0..self.rng.u8(0..4) {
            let mut echoed = [0; 4];
            stream.write_all(b"ping").await.unwrap();
            stream.read_exact(&mut echoed).await.unwrap();
            assert_eq!(&echoed, b"ping");
            self.saw.echoed += 1;
        }
    }

    /// Some streams at once on a connection that is kept, or not.
    async fn http2(&mut self) {
        if self.h2.as_ref().is_none_or(|h2| h2.sender.is_closed()) {
            self.h2 = Some(H2::connect(self.address).await);
        }
        let mut streams = Vec::new();
        for _ in 0..self.rng.u8(1..5) {
            self.saw.sent += 1;
            streams.push(self.stream());
        }
        let saws = futures_util::future::join_all(streams).await;
        for saw in saws {
            self.saw.whole += saw.whole;
            self.saw.refused += saw.refused;
            self.saw.left += saw.left;
        }
        if self.rng.u8(0..8) == 0
            && let Some(h2) = self.h2.take()
        {
            // With all that is open on it.
            h2.connection.abort();
        }
    }

    /// One stream. It is decided now when it ends.
    fn stream(&mut self) -> impl Future<Output = Saw> + use<> {
        let lane = self.lane();
        let kinds = [
            "quick", "slow", "never", "stream", "endless", "broken", "upload",
        ];
        let kind = self.rng.choice(kinds).unwrap();
        let whole = self.rng.bool();
        let body = match kind {
            "upload" if whole => Full::from(vec![b'x'; LENGTH]).boxed(),
            "upload" => Half(Some(Bytes::from_static(&[b'x'; 4_000]))).boxed(),
            _ => Empty::new().boxed(),
        };
        let request = Request::post(format!("http://a/{lane}/{kind}"));
        let request = request.body(body).unwrap();
        let mut sender = self.h2.as_ref().unwrap().sender.clone();
        let stays = whole && !matches!(kind, "never" | "endless");
        let polls = self.rng.usize(0..60);
        async move {
            let mut saw = Saw::default();
            let exchange = pin!(async {
                let answer = sender.send_request(request).await.ok()?;
                let status = answer.status();
                let body = answer.into_body().collect().await.ok()?;
                Some((status, body.to_bytes()))
            });
            if !stays {
                // Resets the stream, wherever it is.
                match select(exchange, Turns(polls)).await {
                    Either::Left((answer, _)) => count(answer, kind, &mut saw),
                    Either::Right(_) => saw.left += 1,
                }
                return saw;
            }
            count(exchange.await, kind, &mut saw);
            saw
        }
    }

    /// Gives others some turns before it leaves.
    async fn linger(&mut self) {
        Turns(self.rng.usize(0..60)).await;
    }
}

fn count(answer: Option<(StatusCode, Bytes)>, kind: &str, saw: &mut Saw) {
    match answer {
        Some((StatusCode::SERVICE_UNAVAILABLE, _)) => saw.refused += 1,
        Some((StatusCode::OK, body)) => {
            match kind {
                "quick" | "slow" => assert_eq!(body, "done"),
                "stream" => assert_eq!(body.len(), 20 * 512),
                "upload" => assert_eq!(body, LENGTH.to_string()),
                _ => {}
            }
            saw.whole += 1;
        }
        _ => saw.left += 1,
    }
}

impl H2 {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
        let connection = tokio::spawn(async move {
            // However it ends.
            _ = connection.await;
        });
        Self { sender, connection }
    }
}

/// Ready after so many turns of the scheduler.
struct Turns(usize);

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A body whose second half never comes.
struct Half(Option<Bytes>);

impl Body for Half {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.0.take() {
            Some(first) => Poll::Ready(Some(Ok(Frame::data(first)))),
            None => Poll::Pending,
        }
    }
}
