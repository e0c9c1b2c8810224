//! An upstream below HTTP that ends a connection after any byte, and writes down what it was sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::wire::{Answer, GREETING, Protocol, Reader};

/// Where a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// As soon as it is there; on one that was used, as soon as that answer is out.
    AtOnce,
    /// When something has come, which is not read.
    Unread,
    /// After so many bytes of the request, or all of it.
    Read(usize),
    /// After so many bytes of the answer.
    Wrote(usize),
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Reset,
    Close,
}

/// What happens to one request: the first of its connection, or the one after an answered one. All else is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) reused: bool,
    pub(crate) fault: Fault,
    pub(crate) end: End,
    pub(crate) answer: Answer,
}

/// What the upstream was sent in one case.
#[derive(Debug, Default, Clone)]
pub(crate) struct Record {
    /// Requests of which something has come, the one before included.
    pub(crate) begun: usize,
    /// The bodies of those that came whole.
    pub(crate) whole: Vec<Vec<u8>>,
    pub(crate) connections: usize,
    /// Whether the fault has happened.
    pub(crate) broke: bool,
    /// How many bytes the request had that the fault was for.
    pub(crate) request_bytes: usize,
}

#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) protocol: Protocol,
    pub(crate) addr: SocketAddr,
    current: Arc<Mutex<Arc<Case>>>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct Case {
    protocol: Protocol,
    plan: Plan,
    record: Mutex<Record>,
}

impl Upstream {
    pub(crate) async fn start(protocol: Protocol) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let nothing = Plan {
            reused: false,
            fault: Fault::Wrote(usize::MAX),
            end: End::Close,
            answer: Answer::Ok,
        };
        let current = Arc::new(Mutex::new(Case::new(protocol, nothing)));
        let accepting = tokio::spawn({
            let current = Arc::clone(&current);
            async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let case = Arc::clone(&current.lock().unwrap());
                    // An error is the client's end of the connection.
                    tokio::spawn(async move { _ = case.serve(stream).await });
                }
            }
        });
        Self {
            protocol,
            addr,
            current,
            accepting,
        }
    }

    /// From now on new connections are of this case.
    pub(crate) fn begin(&self, plan: Plan) {
        *self.current.lock().unwrap() = Case::new(self.protocol, plan);
    }

    /// What the upstream was sent since then.
    pub(crate) fn record(&self) -> Record {
        let case = Arc::clone(&self.current.lock().unwrap());
        case.record.lock().unwrap().clone()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Case {
    fn new(protocol: Protocol, plan: Plan) -> Arc<Self> {
        Arc::new(Self {
            protocol,
            plan,
            record: Mutex::default(),
        })
    }

    async fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let first = {
            let mut record = self.record.lock().unwrap();
            record.connections += 1;
            record.connections == 1
        };
        let mut reader = Reader::new(self.protocol);
        for request in 0_usize.. {
            let broken = first && request == usize::from(self.plan.reused);
            let fault = broken.then_some(self.plan.fault);
            if fault == Some(Fault::AtOnce) {
                return self.end(stream).await;
            }
            if fault == Some(Fault::Unread) {
                let mut seen = [0; 4096];
                let seen_bytes = stream.peek(&mut seen).await?;
                let mut ahead = reader.clone();
                ahead.read(&seen[..seen_bytes]);
                self.note(&reader, &ahead);
                return self.end(stream).await;
            }
            let limit = match fault {
                Some(Fault::Read(bytes)) => bytes,
                _ => usize::MAX,
            };
            let came = self.read_request(&mut stream, &mut reader, limit).await?;
            if broken {
                self.record.lock().unwrap().request_bytes = came;
            }
            if limit < usize::MAX {
                return self.end(stream).await;
            }
            let said = if broken { self.plan.answer } else { Answer::Ok };
            let (mut bytes, _) = said.bytes(self.protocol, reader.stream);
            if let Some(Fault::Wrote(count)) = fault {
                bytes.truncate(count);
            }
            stream.write_all(&bytes).await?;
            if broken {
                return self.end(stream).await;
            }
        }
        Ok(())
    }

    /// Reads until a request is whole, or so many bytes have come; how many did.
    async fn read_request(
        &self,
        stream: &mut TcpStream,
        reader: &mut Reader,
        limit: usize,
    ) -> std::io::Result<usize> {
        let (whole, mut came) = (reader.whole.len(), 0);
        while reader.whole.len() == whole && came < limit {
            let mut bytes = [0; 4096];
            let room = (limit - came).min(bytes.len());
            let count = stream.read(&mut bytes[..room]).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            came += count;
            let (before, greeted) = (reader.clone(), reader.greeted());
            reader.read(&bytes[..count]);
            self.note(&before, reader);
            if reader.greeted() && !greeted {
                stream.write_all(GREETING).await?;
            }
        }
        Ok(came)
    }

    fn note(&self, before: &Reader, after: &Reader) {
        let mut record = self.record.lock().unwrap();
        record.begun += after.begun - before.begun;
        record
            .whole
            .extend_from_slice(&after.whole[before.whole.len()..]);
    }

    async fn end(&self, mut stream: TcpStream) -> std::io::Result<()> {
        self.record.lock().unwrap().broke = true;
        match self.plan.end {
            End::Reset => stream.set_zero_linger(),
            End::Close => stream.shutdown().await,
        }
    }
}
