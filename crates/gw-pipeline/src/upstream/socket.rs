//! The connections of an upstream, counted where they are: at the socket itself.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

use super::config::Protocol;
use crate::pieces::poll_write_pieces;

/// How many sockets an upstream may have, and has.
#[derive(Debug)]
pub(super) struct Sockets {
    free: Arc<Semaphore>,
    total: usize,
}

/// The right to have one more socket.
#[derive(Debug)]
pub(super) struct SocketPermit {
    _permit: OwnedSemaphorePermit,
}

/// A connected socket. It counts until it is closed, whatever owns it by then: a connection's task or a tunnel.
#[derive(Debug)]
pub(super) struct Socket {
    // Declared before the permit, so that the socket is closed when the next one may be opened.
    io: TcpStream,
    protocol: Protocol,
    doubt: Doubt,
    heard: Heard,
    turn: Turn,
    parting: Parting,
    _permit: SocketPermit,
}

/// How much was read since the task that drives the connection last had to wait.
///
/// Over HTTP/2 answers are taken up by other tasks than the one that reads, interim ones as well. Those h2 keeps until then without a
/// bound, so reading must not go on for as long as there is something to read: a head of a few bytes may take a hundred times as much
/// when it is kept.
#[derive(Debug, Default)]
struct Turn {
    read: usize,
}

/// So much is read before others have their turn, and what comes together with the last of it. No less than one answer may have
/// unread: of a large one that comes alone, less is read in more turns.
const TURN: usize = 128 * 1024;

impl Turn {
    /// Whether it is the others' turn. The next one begins then.
    fn is_over(&mut self) -> bool {
        let is_over = self.read >= TURN;
        if is_over {
            self.read = 0;
        }
        is_over
    }
}

/// How the peer has gone.
///
/// A server may answer before it has read all of a request, and close: one that refuses a large upload does. Writing fails from
/// then on, while the answer may be there and unread. Whoever writes takes the failure for the end of the connection, and of the answer.
/// So it is the reading side that tells of the end, when it comes to it; until then writing only gets nowhere.
#[derive(Debug, Default)]
struct Parting {
    /// How writing has failed first.
    deaf: Option<io::ErrorKind>,
    /// Whether the end was read, or an error in its place.
    ended: bool,
}

/// Whether the peer may have gone while nobody looked. Clones are the same doubt.
///
/// An idle connection may have been closed already when the next request is given to it, and tokio tells only what its
/// driver has seen: on a busy thread that was some time ago. So whoever takes an idle connection raises a doubt, and
/// the socket asks the system, once, before hyper takes the request. If the peer has gone, hyper sees the end of file
/// and hands the request back unsent.
#[derive(Debug, Clone, Default)]
pub(super) struct Doubt(Arc<AtomicBool>);

impl Doubt {
    pub(super) fn raise(&self) {
        // Relaxed: the request goes to the connection's task through a channel, which orders the two.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether there was a doubt. There is none now.
    fn settle(&self) -> bool {
        self.0.load(Ordering::Relaxed) && self.0.swap(false, Ordering::Relaxed)
    }
}

/// How many bytes have come from the peer, and how many may. Clones are the same count.
#[derive(Debug, Clone)]
pub(super) struct Heard(Arc<Bytes>);

/// Relaxed all through, and no read-modify-write: only the socket counts, and only who has the connection sets the bound. A
/// request goes to the connection's task through a channel, and its answer comes back through one, which orders the two.
#[derive(Debug)]
struct Bytes {
    come: AtomicU64,
    most: AtomicU64,
}

impl Heard {
    pub(super) fn new() -> Self {
        Self(Arc::new(Bytes {
            come: AtomicU64::new(0),
            most: AtomicU64::new(u64::MAX),
        }))
    }

    /// The count so far. Two that are equal tell that nothing came in between.
    pub(super) fn count(&self) -> u64 {
        self.0.come.load(Ordering::Relaxed)
    }

    /// From now on no more is read than `bytes` and what comes together with the last of them: more than that is an error.
    pub(super) fn limit(&self, bytes: u64) {
        let most = self.count().saturating_add(bytes);
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// As much may come as likes.
    pub(super) fn lift(&self) {
        self.0.most.store(u64::MAX, Ordering::Relaxed);
    }

    fn is_enough(&self) -> bool {
        self.count() >= self.0.most.load(Ordering::Relaxed)
    }

    fn note(&self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let come = self.count().wrapping_add(bytes);
        self.0.come.store(come, Ordering::Relaxed);
    }
}

impl Sockets {
    pub(super) fn new(total: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(total)),
            total,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.total.saturating_sub(self.free.available_permits())
    }

    pub(super) fn has_room(&self) -> bool {
        self.free.available_permits() > 0
    }

    pub(super) fn try_permit(&self) -> Option<SocketPermit> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(SocketPermit { _permit: permit })
    }

    /// Waits, in order of arrival, until a socket is closed.
    pub(super) async fn permit(&self) -> Result<SocketPermit, AcquireError> {
        let permit = Arc::clone(&self.free).acquire_owned().await?;
        Ok(SocketPermit { _permit: permit })
    }
}

impl Socket {
    pub(super) fn new(io: TcpStream, protocol: Protocol, permit: SocketPermit) -> Self {
        Self {
            io,
            protocol,
            doubt: Doubt::default(),
            heard: Heard::new(),
            turn: Turn::default(),
            parting: Parting::default(),
            _permit: permit,
        }
    }

    pub(super) fn doubt(&self) -> Doubt {
        self.doubt.clone()
    }

    pub(super) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Whether the peer has closed, or sent something unasked. Asks the system without taking anything from the socket.
    fn is_spoilt(&self) -> bool {
        let peeked = SockRef::from(&self.io).peek(&mut [MaybeUninit::uninit()]);
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Parting {
    /// What a write of so many `bytes` comes to.
    fn written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        protocol: Protocol,
        bytes: impl FnOnce() -> usize,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Err(error)) if !self.ended && is_of_a_closed_peer(&error) => {
                self.deaf.get_or_insert(error.kind());
                match protocol {
                    // The request has not been sent, so the connection serves no other one. Reading wakes the task; where nobody reads,
                    // a timer of the exchange ends it.
                    Protocol::Http1 | Protocol::Auto => Poll::Pending,
                    // Who cannot write does not read either.
                    Protocol::Http2 => Poll::Ready(Ok(bytes())),
                }
            }
            polled => polled,
        }
    }

    /// What was read, if the end was.
    fn end(&mut self) -> io::Result<()> {
        self.ended = true;
        match self.deaf {
            // The system tells of a reset once, and writing was told: what was read until then is not all.
            Some(kind @ io::ErrorKind::ConnectionReset) => Err(kind.into()),
            _ => Ok(()),
        }
    }
}

/// Whether all is there that the peer has sent or ever will.
fn is_of_a_closed_peer(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
    )
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.protocol == Protocol::Http2 && self.turn.is_over() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Only if there is more: what came together with the last of it may have been the end of the answer.
        let is_enough = self.heard.is_enough();
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() {
            let come = buf.filled().len().saturating_sub(before);
            self.heard.note(come);
            self.turn.read = self.turn.read.saturating_add(come);
            if come == 0 {
                return polled.map(|read| self.parting.end().and(read));
            }
            if is_enough {
                let error =
                    io::Error::new(io::ErrorKind::InvalidData, "too much before the answer");
                return Poll::Ready(Err(error));
            }
        } else {
            self.turn = Turn::default();
            if self.doubt.settle() && self.is_spoilt() {
                // Nothing was put into the buffer: the end of file.
                return Poll::Ready(Ok(()));
            }
        }
        polled
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        let protocol = self.protocol;
        self.parting.written(polled, protocol, || buf.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = poll_write_pieces(&mut self.io, cx, bufs);
        let protocol = self.protocol;
        let bytes = || bufs.iter().map(|buf| buf.len()).sum();
        self.parting.written(polled, protocol, bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair(protocol: Protocol) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let io = TcpStream::connect(listener.local_addr().unwrap());
        let permit = Sockets::new(1).try_permit().unwrap();
        let socket = Socket::new(io.await.unwrap(), protocol, permit);
        (socket, listener.accept().await.unwrap().0)
    }

    /// As much as hyper reads at a time.
    const PIECE: usize = 8 * 1024;

    fn poll(socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [0; PIECE];
        let mut bytes = ReadBuf::new(&mut bytes);
        let polled = Pin::new(socket).poll_read(cx, &mut bytes);
        polled.map_ok(|()| bytes.filled().len())
    }

    /// Story: heads of interim answers were read for as long as there were any, and kept until the task had its turn that passes over
    /// them: so many together took 100 MB.
    #[tokio::test]
    async fn others_have_their_turn_between_reads() {
        const ALL: usize = 2 * TURN;
        let (mut socket, mut peer) = pair(Protocol::Http2).await;
        SockRef::from(&socket.io)
            .set_recv_buffer_size(2 * ALL)
            .unwrap();
        SockRef::from(&peer).set_send_buffer_size(2 * ALL).unwrap();
        let mut read = 0;
        let writing = peer.write_all(&[0; ALL]);
        let reading = async {
            while read < ALL {
                let turn = poll_fn(|cx| {
                    let mut turn = 0;
                    while let Poll::Ready(come) = poll(&mut socket, cx) {
                        turn += come.unwrap();
                    }
                    match turn {
                        0 => Poll::Pending,
                        turn => Poll::Ready(turn),
                    }
                });
                let turn = turn.await;
                assert!(turn < TURN + PIECE, "{turn}");
                read += turn;
            }
        };
        tokio::join!(writing, gw_testkit::within("all to be read", reading))
            .0
            .unwrap();
    }

    /// Over HTTP/1 the task that reads is the one that reads on.
    #[test]
    fn a_turn_ends_and_begins_anew() {
        let mut turn = Turn { read: TURN - 1 };
        assert!(!turn.is_over());
        turn.read += 1;
        assert!(turn.is_over());
        assert!(!turn.is_over());
    }

    /// Story: of an answer that one large read took as a whole the body used the bound up. hyper looks behind an answer that has ended
    /// for more, was told of an error, and closed a connection that nothing was wrong with.
    #[tokio::test]
    async fn only_what_comes_beyond_the_bound_is_too_much() {
        let (mut socket, mut peer) = pair(Protocol::Http1).await;
        let heard = socket.heard();
        heard.limit(2);
        peer.write_all(b"whole").await.unwrap();
        let read = poll_fn(|cx| poll(&mut socket, cx)).await;
        assert_eq!(read.unwrap(), 5);
        assert!(poll_fn(|cx| Poll::Ready(poll(&mut socket, cx).is_pending())).await);
        peer.write_all(b"x").await.unwrap();
        let more = poll_fn(|cx| poll(&mut socket, cx)).await;
        assert_eq!(more.unwrap_err().kind(), io::ErrorKind::InvalidData);
        // The end is none of it.
        drop(peer);
        let end = poll_fn(|cx| poll(&mut socket, cx)).await;
        assert_eq!(end.unwrap(), 0);
    }

    fn poll_write(socket: &mut Socket, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        Pin::new(socket).poll_write(cx, b"more")
    }

    async fn read(socket: &mut Socket) -> Result<usize, io::ErrorKind> {
        let read = poll_fn(|cx| poll(socket, cx)).await;
        read.map_err(|error| error.kind())
    }

    /// The peer answers while there is something that it has not read, and closes; `fin` says whether it ends what it sends before.
    async fn answered(protocol: Protocol, fin: bool) -> Socket {
        let (mut socket, mut peer) = pair(protocol).await;
        socket.write_all(b"unread").await.unwrap();
        peer.readable().await.unwrap();
        peer.write_all(b"answer").await.unwrap();
        if fin {
            peer.shutdown().await.unwrap();
        }
        drop(peer);
        socket
    }

    /// Story: an upstream refused uploads before it had read them, and closed. Where its answer and the client's next piece were there
    /// together, the piece went first, the answer was lost, and so many failures opened the breaker for all.
    #[tokio::test]
    async fn an_answer_outlives_the_connection() {
        for protocol in [Protocol::Http1, Protocol::Http2] {
            for (fin, end) in [(true, Ok(0)), (false, Err(io::ErrorKind::ConnectionReset))] {
                let mut socket = answered(protocol, fin).await;
                // Not a byte can be written, nor does that tell of it.
                for _ in 0..2 {
                    let written = poll_fn(|cx| Poll::Ready(poll_write(&mut socket, cx))).await;
                    match (protocol, written) {
                        (Protocol::Http1, Poll::Pending)
                        | (Protocol::Http2, Poll::Ready(Ok(4))) => {}
                        (_, written) => panic!("{protocol:?}, {fin}: {written:?}"),
                    }
                }
                assert_eq!(read(&mut socket).await, Ok(6), "{protocol:?}, {fin}");
                assert_eq!(read(&mut socket).await, end, "{protocol:?}, {fin}");
                let written = poll_fn(|cx| poll_write(&mut socket, cx)).await;
                assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            }
        }
    }
}
