//! A raw HTTP/1.1 client for loopback tests: it sends exactly the bytes it is given.
//!
//! It adds nothing, checks nothing that it sends, and may leave at any point. What it reads it reads strictly:
//! an answer says whether it is complete, cut, reset or malformed. Bytes that follow an answer stay for the
//! next one, so pipelined requests are sent in one go and read one by one.

mod answer;

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use tokio::net::TcpStream;

pub use self::answer::{Answer, Ended, Head, Rest};
use crate::patience::within;
use crate::wire::{Decoder, Payload, ResponseHead, Socket, Stop};

/// A connection of the test's own. Dropping it closes it.
///
/// Each waiting method waits for at most [`PATIENCE`](crate::PATIENCE) and then panics, which ends the test with
/// the name of what did not come.
#[derive(Debug)]
pub struct Client {
    socket: Socket,
    local_addr: SocketAddr,
    peer_addr: SocketAddr,
}

impl Client {
    /// Connects.
    ///
    /// # Panics
    ///
    /// If the connection is refused.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> impl Future<Output = Self> {
        within(&format!("a connection to {addr}"), async move {
            match TcpStream::connect(addr).await {
                Ok(stream) => Self {
                    local_addr: stream
                        .local_addr()
                        .expect("a connected socket has an address"),
                    socket: Socket::new(stream),
                    peer_addr: addr,
                },
                Err(error) => panic!("no connection to {addr}: {error}"),
            }
        })
    }

    /// The client's own address.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Sends these bytes.
    ///
    /// # Panics
    ///
    /// If the peer does not take them; see [`try_send`](Self::try_send).
    #[track_caller]
    pub fn send<'a>(
        &'a mut self,
        bytes: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> impl Future<Output = ()> {
        let sending = self.try_send(bytes);
        async move { sending.await.expect("the peer takes what the client sends") }
    }

    /// Sends these bytes, or says why the peer did not take them. Part of them may have gone out.
    #[track_caller]
    pub fn try_send<'a>(
        &'a mut self,
        bytes: &'a (impl AsRef<[u8]> + ?Sized),
    ) -> impl Future<Output = io::Result<()>> {
        within(
            "the peer to take what the client sends",
            self.socket.write_all(bytes.as_ref()),
        )
    }

    /// Sends a GET for this target, with a `host` field only.
    ///
    /// # Panics
    ///
    /// If the peer does not take it.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> impl Future<Output = ()> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: {}\r\n\r\n", self.peer_addr);
        let sending = within("the peer to take a GET", async move {
            self.socket.write_all(request.as_bytes()).await
        });
        async move { sending.await.expect("the peer takes a GET") }
    }

    /// Reads one answer to a request that is no HEAD, interim answers included.
    #[track_caller]
    pub fn read_answer(&mut self) -> impl Future<Output = Answer> {
        self.read_answer_to("GET")
    }

    /// Reads one answer to a request of this method; an answer to HEAD has no body.
    #[track_caller]
    pub fn read_answer_to<'a>(&'a mut self, method: &'a str) -> impl Future<Output = Answer> {
        within("an answer", async move {
            let mut interims = Vec::new();
            loop {
                match self.socket.head(ResponseHead::parse).await {
                    Err(stop) => return Answer::without_head(interims, stop),
                    // After a 101 the connection is no longer HTTP, so it is the final answer.
                    Ok(head) if head.status < 200 && head.status != 101 => {
                        interims.push(Head(head))
                    }
                    Ok(head) => return self.finish_answer(method, interims, Head(head)).await,
                }
            }
        })
    }

    /// Reads one head, interim or final, and leaves the body.
    ///
    /// # Panics
    ///
    /// If no head comes.
    #[track_caller]
    pub fn read_head(&mut self) -> impl Future<Output = Head> {
        within("the head of an answer", async move {
            match self.socket.head(ResponseHead::parse).await {
                Ok(head) => Head(head),
                Err(stop) => panic!("the connection ended without a head: {stop:?}"),
            }
        })
    }

    /// Reads the body that belongs to a head from [`read_head`](Self::read_head).
    #[track_caller]
    pub fn read_body_of(&mut self, head: Head) -> impl Future<Output = Answer> {
        within(
            "the body of an answer",
            self.finish_answer("GET", Vec::new(), head),
        )
    }

    /// Reads exactly so many bytes, as they are.
    ///
    /// # Panics
    ///
    /// If the connection ends before.
    #[track_caller]
    pub fn read_exact(&mut self, count: usize) -> impl Future<Output = Bytes> {
        within(&format!("{count} bytes"), async move {
            while self.socket.unread().len() < count {
                let ended = self.socket.fill().await;
                let came = self.socket.unread().len();
                assert!(
                    ended.is_ok(),
                    "the connection ended ({ended:?}) after {came} of {count} bytes"
                );
            }
            self.socket.unread().split_to(count).freeze()
        })
    }

    /// Reads all bytes up to the end of the connection, as they are.
    #[track_caller]
    pub fn read_rest(&mut self) -> impl Future<Output = Rest> {
        within("the end of the connection", async move {
            let reset = loop {
                match self.socket.fill().await {
                    Ok(()) => {}
                    Err(stop) => break stop == Stop::Reset,
                }
            };
            let bytes = self.socket.unread().split().freeze();
            Rest { bytes, reset }
        })
    }

    /// Ends the sending side; answers can still be read.
    ///
    /// # Panics
    ///
    /// If the connection has ended already.
    #[track_caller]
    pub fn finish_sending(&mut self) -> impl Future<Output = ()> {
        let finishing = within("the client to end its sending side", self.socket.finish());
        async move { finishing.await.expect("the sending side is open") }
    }

    /// Leaves with a reset. Dropping the client leaves in order, unless there are unread bytes.
    pub fn reset(self) {
        self.socket.reset();
    }

    async fn finish_answer(&mut self, method: &str, interims: Vec<Head>, head: Head) -> Answer {
        let mut payload = Payload::keeping(usize::MAX);
        let ended = match Decoder::for_response(method, &head.0) {
            Err(what) => Ended::Malformed(what),
            Ok(mut decoder) => match self.socket.body(&mut decoder, &mut payload).await {
                Ok(()) => Ended::Complete,
                Err(stop) => stop.into(),
            },
        };
        Answer::new(interims, head, payload, ended)
    }
}
