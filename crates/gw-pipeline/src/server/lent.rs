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
    /// The last read since hyper flushed.
    read: LastRead,
}

#[derive(Debug, Clone, Copy, Default)]
enum LastRead {
    /// There was none.
    #[default]
    Missing,
    /// It gave bytes, or the end.
    Done,
    /// hyper waits for it.
    Waits,
}

impl Lent {
    /// Lends a socket, and waits for it.
    pub(super) fn new(io: Io) -> (Self, Returned) {
        let (home, returned) = oneshot::channel();
        let lent = Self {
            io: Some(io),
            home: Some(home),
            read: LastRead::Missing,
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
        self.read = match read {
            Poll::Ready(_) => LastRead::Done,
            Poll::Pending => LastRead::Waits,
        };
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
    /// this looks instead. Not right behind a read: nearly always the next one follows, and until then a look would be one
    /// more system call for each piece of a body.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let read = mem::take(&mut self.read);
        self.with(|mut io| {
            match read {
                LastRead::Missing if io.link().has_request() => io.ask_for_client(cx)?,
                LastRead::Done => io.wait_for_more(cx),
                LastRead::Missing | LastRead::Waits => {}
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
