//! A TCP stream with what was read from it and not used yet.

use std::future::pending;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::body::{Decoder, Payload};
use super::head::Parsed;

/// A head larger than this is malformed, so that an endless one ends.
const MAX_HEAD: usize = 16 * 1024 * 1024;

/// How much is read ahead while only waiting for the peer to go away.
const MAX_READ_AHEAD: usize = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Socket {
    stream: TcpStream,
    unread: BytesMut,
}

/// Why no more can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The peer has closed its side.
    Closed,
    /// The peer has reset the connection.
    Reset,
    /// What came is not HTTP.
    Malformed(String),
}

impl Socket {
    pub(crate) fn new(stream: TcpStream) -> Self {
        // Each write is sent at once, or the peer would see our pieces glued together.
        stream.set_nodelay(true).expect("TCP_NODELAY can be set");
        Self {
            stream,
            unread: BytesMut::new(),
        }
    }

    /// What was read and not used yet.
    pub(crate) fn unread(&mut self) -> &mut BytesMut {
        &mut self.unread
    }

    /// Waits for more bytes. Cancel safe.
    pub(crate) async fn fill(&mut self) -> Result<(), Stop> {
        self.unread.reserve(16 * 1024);
        match self.stream.read_buf(&mut self.unread).await {
            Ok(0) => Err(Stop::Closed),
            Ok(_) => Ok(()),
            // Some platforms report a reset as an abort or a broken pipe; a read has no other way to fail here.
            Err(_) => Err(Stop::Reset),
        }
    }

    /// Reads a head. Cancel safe: what came stays unread until the head is complete.
    pub(crate) async fn head<T>(&mut self, parse: impl Fn(&[u8]) -> Parsed<T>) -> Result<T, Stop> {
        loop {
            if let Some((length, head)) = parse(&self.unread).map_err(Stop::Malformed)? {
                self.unread.advance(length);
                return Ok(head);
            }
            if self.unread.len() > MAX_HEAD {
                return Err(Stop::Malformed(format!(
                    "a head of more than {MAX_HEAD} bytes"
                )));
            }
            self.fill().await?;
        }
    }

    /// Reads a body to its end; `payload` has what came, also after an error.
    pub(crate) async fn body(
        &mut self,
        decoder: &mut Decoder,
        payload: &mut Payload,
    ) -> Result<(), Stop> {
        loop {
            decoder
                .decode(&mut self.unread, payload)
                .map_err(Stop::Malformed)?;
            if decoder.is_done() {
                return Ok(());
            }
            match self.fill().await {
                Ok(()) => {}
                Err(Stop::Closed) if decoder.may_end() => return Ok(()),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// Returns when the peer has gone, and reads ahead to notice. Cancel safe.
    pub(crate) async fn gone(&mut self) -> Stop {
        loop {
            if self.unread.len() >= MAX_READ_AHEAD {
                return pending().await;
            }
            if let Err(stop) = self.fill().await {
                return stop;
            }
        }
    }

    /// Writes and returns how many bytes of `bytes` went out in one go.
    pub(crate) async fn write_some(&mut self, bytes: &mut Bytes) -> io::Result<usize> {
        self.stream.write_buf(bytes).await
    }

    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Ends our side; the other may still send.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Drops the connection so that the peer sees a reset. What was written but not yet delivered is lost.
    pub(crate) fn reset(self) {
        self.stream.set_zero_linger().expect("SO_LINGER can be set");
    }
}
