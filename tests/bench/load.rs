//! A closed loop over HTTP: each connection sends its next request when it has read the answer to the last one.

use std::net::SocketAddr;

use bytes::Bytes;

use super::Result;
use super::closed_loop::{self, Run};
use super::connection::Connection;

/// Requests that count for nothing: pools fill, buffers grow, branches are learned.
pub const WARM_UP: usize = 2_000;

/// The fields an API client in a browser sends.
const FIELDS: &str = "host: api.example.com\r\n\
    user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
    accept: application/json, text/plain, */*\r\n\
    accept-language: en-GB,en;q=0.8\r\n\
    accept-encoding: gzip, deflate, br\r\n\
    origin: https://shop.example.com\r\n\
    referer: https://shop.example.com/orders?page=2\r\n\
    cookie: session=8f14e45fceea167a5a36dedd4bea2543; theme=dark\r\n\
    \r\n";

/// A GET for this target with the fields of a browser, rendered once.
pub fn get(target: &str) -> Bytes {
    format!("GET {target} HTTP/1.1\r\n{FIELDS}").into()
}

/// A POST of this JSON for this target with the fields of a browser, rendered once.
pub fn post(target: &str, json: &str) -> Bytes {
    let length = json.len();
    format!(
        "POST {target} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{FIELDS}{json}"
    )
    .into()
}

/// Open connections that send the same request again and again.
#[derive(Debug)]
pub struct Load {
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    connection: Connection,
    request: Bytes,
    status: u16,
}

impl Load {
    /// Opens the connections.
    ///
    /// # Errors
    ///
    /// If one is refused.
    pub async fn open(addr: SocketAddr, connections: usize, request: Bytes) -> Result<Self> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(Client {
                connection: Connection::open(addr).await?,
                request: request.clone(),
                status: 200,
            });
        }
        Ok(Self { clients })
    }

    /// Takes answers of this status for good, instead of 200.
    #[must_use]
    pub fn answered(mut self, status: u16) -> Self {
        for client in &mut self.clients {
            client.status = status;
        }
        self
    }

    /// Sends so many requests over all connections together.
    ///
    /// # Errors
    ///
    /// If one is answered by anything but the good status on a connection that stays open.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connections; the load is of no use afterwards.
    pub async fn run(&mut self, requests: usize) -> Result<Run> {
        let clients = std::mem::take(&mut self.clients);
        let (clients, run) = closed_loop::run(clients, requests).await?;
        self.clients = clients;
        Ok(run)
    }
}

impl closed_loop::Client for Client {
    async fn exchange(&mut self) -> Result<()> {
        let head = self.connection.exchange(&self.request).await?;
        if head.status != self.status || head.close {
            let body = String::from_utf8_lossy(self.connection.body(head));
            return Err(
                format!("a request under load was answered {}: {body}", head.status).into(),
            );
        }
        Ok(())
    }
}
