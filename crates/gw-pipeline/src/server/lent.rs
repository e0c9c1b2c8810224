//! The socket as hyper has it, which comes back where hyper keeps it for nothing.

use std::future::Future;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

use super::io::Io;
use super::supervisor::Stage;

/// A socket on loan.
///
/// hyper takes each request with an `Upgrade` field for the beginning of a tunnel. Where the answer is none that begins one, the
/// end of the connection leaves the socket with whoever has the request's `OnUpgrade`, and hyper neither ends its sending
/// side nor gives it back. Dropped there, it goes back to the connection's task, which knows how to close it.
#[derive(Debug)]
pub(super) struct Lent {
    // Until it is given back.
    io: Option<Io>,
    home: Option<oneshot::Sender<Io>>,
    /// Since it flushed last, hyper has read until there was nothing more, and waits for it.
    waits: bool,
}

impl Lent {
    /// Lends a socket, and waits for it.
    pub(super) fn new(io: Io) -> (Self, Returned) {
        let (home, returned) = oneshot::channel();
        let lent = Self {
            io: Some(io),
            home: Some(home),
            waits: false,
        };
        (lent, Returned(returned))
    }

    /// The socket, from who has it.
    pub(super) fn into_io(mut self) -> Option<Io> {
        self.io.take()
    }

    fn with<T>(
        self: Pin<&mut Self>,
        poll: impl FnOnce(Pin<&mut Io>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match &mut self.get_mut().io {
            Some(io) => poll(Pin::new(io)),
            None => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let (Some(io), Some(home)) = (self.io.take(), self.home.take()) else {
            return;
        };
        if !io.link().has_switched() {
            // Where the task is gone, the socket is closed here.
            _ = home.send(io);
        }
    }
}

impl AsyncRead for Lent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.as_mut().with(|io| io.poll_read(cx, buf));
        self.waits = read.is_pending();
        read
    }
}

impl AsyncWrite for Lent {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.with(|io| io.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.with(|io| io.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    /// hyper flushes each time that it is polled, and reads before that, by which it learns that the client has left. It does not
    /// read while it has bytes for which it has no use yet, of the next request or of a body that nobody asks for. Then
    /// this looks instead.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let waits = mem::take(&mut self.waits);
        self.with(|mut io| {
            if !waits && io.link().in_flight().requests > 0 {
                io.ask_for_client(cx)?;
            }
            io.as_mut().poll_flush(cx)
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.with(|io| io.poll_shutdown(cx))
    }
}

/// Waits for a socket that was lent. `None` if it was closed where it was: behind the end of a tunnel.
#[derive(Debug)]
pub(super) struct Returned(oneshot::Receiver<Io>);

impl Future for Returned {
    type Output = Option<Io>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Io>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}

impl Stage for Returned {
    // What is no longer HTTP has no goodbye that we know of.
    fn drain(&mut self) {}
}
