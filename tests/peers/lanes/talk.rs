//! One connection, as clients have it that do not read what they get.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use gw_tests::bench::Result;
use httparse::{EMPTY_HEADER, Response, Status};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// The end of a read is the end of the connection.
const CLOSED: &str = "the connection has ended";

/// A connection that is asked one thing after another.
#[derive(Debug)]
pub struct Talk {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Talk {
    /// Connects, from one of some two hundred addresses: many clients are not one.
    ///
    /// # Errors
    ///
    /// If nobody listens, or no port is left.
    pub async fn open(addr: SocketAddr, client: usize) -> Result<Self> {
        let last = u8::try_from(client % 200).unwrap_or(0) + 1;
        let own = IpAddr::V4(Ipv4Addr::new(127, 1, 0, last));
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(own, 0))?;
        let stream = socket.connect(addr).await?;
        stream.set_nodelay(true)?;
        // Closed at once at the end, without a port that waits: there are too many.
        stream.set_zero_linger()?;
        Ok(Self {
            stream,
            buffer: Vec::new(),
        })
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Reads the head of an answer, and its body if its length is told; the status, and whether the connection goes on.
    ///
    /// # Errors
    ///
    /// If the connection has ended.
    ///
    /// # Cancel safety
    ///
    /// What has been read is kept for the next call.
    pub async fn answer(&mut self) -> Result<(u16, bool)> {
        loop {
            if let Some((status, whole, close)) = head(&self.buffer)?
                && self.buffer.len() >= whole
            {
                self.buffer.clear();
                return Ok((status, !close));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(CLOSED.into());
            }
        }
    }

    /// Reads and forgets, until the connection ends.
    ///
    /// # Errors
    ///
    /// Always, in the end.
    pub async fn drain(&mut self) -> Result<()> {
        loop {
            self.buffer.clear();
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(CLOSED.into());
            }
        }
    }
}

/// Status, length with the body as far as it is told, and whether the server closes.
fn head(bytes: &[u8]) -> Result<Option<(u16, usize, bool)>> {
    let mut fields = [EMPTY_HEADER; 64];
    let mut response = Response::new(&mut fields);
    let Status::Complete(length) = response.parse(bytes)? else {
        return Ok(None);
    };
    let status = response.code.unwrap_or_default();
    let field = |name: &str| {
        let mut fields = response.headers.iter();
        let found = fields.find(|field| field.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(found.value).ok()
    };
    let body = field("content-length").and_then(|value| value.parse().ok());
    let body: usize = body.unwrap_or_default();
    let close = field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    Ok(Some((status, length + body, close)))
}
