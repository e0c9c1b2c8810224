//! The socket under hyper, which reports what happens on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::link::{Link, Way};
use super::registry::Slot;
use crate::pieces::poll_write_pieces;

/// What an HTTP/2 client sends first (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A socket. Dropping it closes the connection and gives its place in the server back.
#[derive(Debug)]
pub(super) struct Io {
    // Before the slot, so that the place is free only once the socket is closed.
    stream: TcpStream,
    start: Start,
    /// The last write had to wait.
    blocked: bool,
    slot: Slot,
}

/// The first bytes, read to tell the protocol, until hyper has taken them.
#[derive(Debug, Default)]
struct Start {
    bytes: [u8; PREFACE.len()],
    read: usize,
    taken: usize,
}

impl Start {
    /// The protocol, as soon as the bytes tell.
    fn protocol(&self) -> Option<Protocol> {
        let read = self.bytes.get(..self.read)?;
        match PREFACE.strip_prefix(read) {
            None => Some(Protocol::Http1),
            Some([]) => Some(Protocol::Http2),
            Some(_) => None,
        }
    }

    /// Moves bytes that hyper has not seen yet.
    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let Some(rest) = self.bytes.get(self.taken..self.read) else {
            return;
        };
        let count = rest.len().min(buf.remaining());
        if let Some(now) = rest.get(..count) {
            buf.put_slice(now);
            self.taken += count;
        }
    }
}

impl Io {
    pub(super) fn new(stream: TcpStream, slot: Slot) -> Self {
        Self {
            stream,
            start: Start::default(),
            blocked: false,
            slot,
        }
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        self.slot.link()
    }

    /// Reads until the protocol is known; `None` if the client leaves before it has said anything.
    ///
    /// Takes at most 24 bytes from the socket, which later reads give first.
    pub(super) fn poll_protocol(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<Protocol>>> {
        loop {
            if let Some(protocol) = self.start.protocol() {
                return Poll::Ready(Ok(Some(protocol)));
            }
            let free = self
                .start
                .bytes
                .get_mut(self.start.read..)
                .unwrap_or_default();
            let mut buf = ReadBuf::new(free);
            if let Err(error) = ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buf)) {
                self.link().peer_gone();
                return Poll::Ready(Err(error));
            }
            match buf.filled().len() {
                0 if self.start.read == 0 => return Poll::Ready(Ok(None)),
                // hyper answers a preface that breaks off.
                0 => return Poll::Ready(Ok(Some(Protocol::Http1))),
                count => self.start.read += count,
            }
            self.link().received();
        }
    }

    /// Fails if the client has left, else wakes the task of `cx` when it does.
    ///
    /// Takes nothing from the socket, so it does not see how the connection ends behind bytes that wait there. Nor does it mind an
    /// end behind a body, which may have come whole and not been read yet.
    pub(super) fn ask_for_client(&self, cx: &mut Context<'_>) -> io::Result<()> {
        let left = match self.stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
            Poll::Ready(Ok(0)) if !self.link().may_be_uploading() => {
                io::ErrorKind::UnexpectedEof.into()
            }
            Poll::Ready(Err(error)) => error,
            Poll::Ready(Ok(_)) | Poll::Pending => return Ok(()),
        };
        self.link().peer_gone();
        Err(left)
    }

    /// Wakes the task of `cx` when there is more to read, or the client has left: at once if that may be so already. Does not
    /// ask the system.
    pub(super) fn wait_for_more(&self, cx: &mut Context<'_>) {
        if self.stream.poll_read_ready(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn note_written(&mut self, way: &Poll<io::Result<usize>>, cx: &Context<'_>) -> io::Result<()> {
        match way {
            Poll::Ready(Ok(0)) => {}
            Poll::Ready(Ok(_)) => {
                let waited = std::mem::take(&mut self.blocked);
                self.link().wrote(waited);
            }
            Poll::Ready(Err(_)) => self.link().peer_gone(),
            Poll::Pending => {
                if !self.blocked {
                    self.blocked = true;
                    self.link().write_blocked();
                }
                self.wait(Way::Write, cx)?;
            }
        }
        Ok(())
    }

    fn wait(&self, way: Way, cx: &Context<'_>) -> io::Result<()> {
        if self.link().may_be_tunnel() {
            self.link().wait_in_tunnel(way, cx)?;
        }
        Ok(())
    }
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let given_before = this.start.taken < this.start.read;
        if given_before {
            this.start.give(buf);
        }
        // Also after the first bytes were given: one look at the socket more saves hyper a try to parse them alone.
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if given_before && buf.filled().len() > before {
            return Poll::Ready(Ok(()));
        }
        match &read {
            Poll::Ready(Ok(())) if buf.filled().len() > before => this.link().received(),
            Poll::Ready(Ok(())) if buf.remaining() == 0 => {}
            Poll::Ready(_) => this.link().peer_gone(),
            Poll::Pending => this.wait(Way::Read, cx)?,
        }
        read
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_written(&written, cx)?;
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = poll_write_pieces(&mut this.stream, cx, bufs);
        this.note_written(&written, cx)?;
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if self.link().ends_with_reset() {
            // Closing in order would pass for the end of an answer whose length is not known. What the client has not
            // taken is thrown away. If this fails, the socket does close in order.
            _ = self.stream.set_zero_linger();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(text: &[u8]) -> Start {
        let mut start = Start {
            read: text.len(),
            ..Start::default()
        };
        start.bytes[..text.len()].copy_from_slice(text);
        start
    }

    #[test]
    fn the_protocol_is_told_by_the_first_byte_that_differs() {
        assert_eq!(start(b"").protocol(), None);
        assert_eq!(start(b"P").protocol(), None);
        assert_eq!(start(b"PO").protocol(), Some(Protocol::Http1));
        assert_eq!(
            start(b"GET / HTTP/1.1\r\nhost: \r\n").protocol(),
            Some(Protocol::Http1)
        );
        assert_eq!(start(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r").protocol(), None);
        assert_eq!(start(PREFACE).protocol(), Some(Protocol::Http2));
        assert_eq!(
            start(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\rx").protocol(),
            Some(Protocol::Http1)
        );
    }

    #[test]
    fn the_first_bytes_are_given_once_and_in_order() {
        let mut start = start(b"GET /abc");
        let mut given = Vec::new();
        for _ in 0..4 {
            let mut room = [0; 3];
            let mut buf = ReadBuf::new(&mut room);
            start.give(&mut buf);
            given.extend_from_slice(buf.filled());
        }
        assert_eq!(given, b"GET /abc");
    }
}
