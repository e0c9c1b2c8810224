//! One keep-alive connection that sends bytes rendered before and reads one answer at a time.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Result;
use super::answer::Head;

/// Enough for any answer in a measurement.
const BUFFER: usize = 8 << 10;

/// A connection to the thing that is measured. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody listens.
    pub async fn open(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        // A request is one write, so this only keeps the kernel from guessing.
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(BUFFER),
        })
    }

    /// Sends one request and reads its whole answer.
    ///
    /// # Errors
    ///
    /// If the connection ends, or the answer is longer than 8 KiB, or followed by bytes that nobody asked for.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Head> {
        self.buffer.clear();
        self.stream.write_all(request).await?;
        let mut head = None;
        loop {
            if self.buffer.len() >= BUFFER {
                return Err("an answer of more than 8 KiB".into());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err("the connection ended before the answer did".into());
            }
            if head.is_none() {
                head = Head::parse(&self.buffer)?;
            }
            if let Some(head) = head {
                match self.buffer.len().cmp(&(head.length + head.body)) {
                    std::cmp::Ordering::Less => {}
                    std::cmp::Ordering::Equal => return Ok(head),
                    std::cmp::Ordering::Greater => return Err("bytes after the answer".into()),
                }
            }
        }
    }

    /// The body of the last answer.
    pub fn body(&self, head: Head) -> &[u8] {
        self.buffer.get(head.length..).unwrap_or_default()
    }
}
