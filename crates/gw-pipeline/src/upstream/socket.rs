//! The connections of an upstream, counted where they are: at the socket itself.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

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
    io: TokioIo<TcpStream>,
    doubt: Doubt,
    heard: Heard,
    _permit: SocketPermit,
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

/// How often something has come from the peer, whatever it was. Clones are the same count.
#[derive(Debug, Clone, Default)]
pub(super) struct Heard(Arc<AtomicU32>);

impl Heard {
    /// The count so far. It wraps; two that are equal tell that nothing came in between.
    pub(super) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Relaxed, and no read-modify-write: only the socket counts.
    fn note(&self) {
        self.0
            .store(self.count().wrapping_add(1), Ordering::Relaxed);
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
    pub(super) fn new(io: TokioIo<TcpStream>, permit: SocketPermit) -> Self {
        Self {
            io,
            doubt: Doubt::default(),
            heard: Heard::default(),
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
        let peeked = SockRef::from(self.io.inner()).peek(&mut [MaybeUninit::uninit()]);
        !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if polled.is_ready() {
            self.heard.note();
        } else if self.doubt.settle() && self.is_spoilt() {
            // Nothing was put into the buffer: the end of file.
            return Poll::Ready(Ok(()));
        }
        polled
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
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
        poll_write_pieces(self.io.inner_mut(), cx, bufs)
    }
}
