//! Clients, one that behaves and nine that do not.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use gw_tests::bench::connection::Connection;
use gw_tests::bench::{Result, load};
use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::stage::Ports;

/// Of each kind.
const CLIENTS: usize = 6;

/// Those that log in ask so often: they are to be many among the others, not all the machine does.
const PAUSE: Duration = Duration::from_millis(5);

const ROUTES: [&str; 5] = [
    "/hanging/x",
    "/resetting/x",
    "/half/x",
    "/large/x",
    "/nowhere",
];

/// What clients saw in a round.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Seen {
    pub(super) logins: usize,
    pub(super) failed_logins: usize,
    /// Those read to their end by clients that do not log in.
    pub(super) answers: usize,
    /// 202 among these.
    pub(super) accepted: usize,
    /// Exchanges that the client or the gateway ended.
    pub(super) broken_off: usize,
}

impl Seen {
    pub(super) fn add(&mut self, other: Self) {
        self.logins += other.logins;
        self.failed_logins += other.failed_logins;
        self.answers += other.answers;
        self.accepted += other.accepted;
        self.broken_off += other.broken_off;
    }

    fn note(&mut self, exchange: &Result<Option<u16>>) {
        match exchange {
            Ok(Some(status)) => {
                self.answers += 1;
                self.accepted += usize::from(*status == 202);
            }
            Ok(None) | Err(_) => self.broken_off += 1,
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    TornHead,
    TornBody,
    Drip,
    SlowReader,
    Impatient,
    Patient,
    Upload,
    Nonsense,
    Http2,
}

const KINDS: [Kind; 9] = [
    Kind::TornHead,
    Kind::TornBody,
    Kind::Drip,
    Kind::SlowReader,
    Kind::Impatient,
    Kind::Patient,
    Kind::Upload,
    Kind::Nonsense,
    Kind::Http2,
];

/// All of them for so long. Whoever is in the middle of something then vanishes.
pub(super) async fn run(ports: &Ports, load: Duration, mut random: fastrand::Rng) -> Seen {
    let (report, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = JoinSet::new();
    for _ in 0..CLIENTS {
        let (ports, logins) = (*ports, report.clone());
        tasks.spawn(async move {
            let mut connection = None;
            loop {
                let login = log_in(&mut connection, ports.gateway).await;
                let failed = usize::from(login.is_err());
                // The receiver outlives the tasks.
                _ = logins.send(Seen {
                    logins: 1 - failed,
                    failed_logins: failed,
                    ..Seen::default()
                });
                sleep(PAUSE).await;
            }
        });
        for kind in KINDS {
            let (mut random, others) = (random.fork(), report.clone());
            tasks.spawn(async move {
                loop {
                    let mut seen = Seen::default();
                    seen.note(&kind.exchange(&ports, &mut random).await);
                    _ = others.send(seen);
                    sleep(Duration::from_millis(random.u64(0..10))).await;
                }
            });
        }
    }
    sleep(load).await;
    tasks.shutdown().await;
    drop(report);
    let mut all = Seen::default();
    while let Some(seen) = reports.recv().await {
        all.add(seen);
    }
    all
}

async fn log_in(open: &mut Option<Connection>, gateway: SocketAddr) -> Result<()> {
    let mut connection = match open.take() {
        Some(connection) => connection,
        None => Connection::open(gateway).await?,
    };
    let head = connection.exchange(&load::get("/api/auth/login")).await?;
    if head.status != 200 {
        return Err(format!("a login was answered {}", head.status).into());
    }
    if !head.close {
        *open = Some(connection);
    }
    Ok(())
}

impl Kind {
    /// One exchange on a connection of its own: the status of an answer that was read whole, nothing of one that was left.
    async fn exchange(self, ports: &Ports, random: &mut fastrand::Rng) -> Result<Option<u16>> {
        // Logs have a listener of their own besides the common one.
        let anywhere = if random.bool() {
            ports.gateway
        } else {
            ports.lane
        };
        let route = ROUTES
            .get(random.usize(..ROUTES.len()))
            .copied()
            .unwrap_or("/");
        let moment = Duration::from_millis(random.u64(0..300));
        match self {
            Self::TornHead => {
                let request = load::get(route);
                let torn = random.usize(..request.len());
                vanish(
                    ports.gateway,
                    request.get(..torn).unwrap_or_default(),
                    moment,
                    random,
                )
                .await
            }
            Self::TornBody => {
                let request = load::post("/api/logs", &events(random));
                let torn = random.usize(..request.len());
                vanish(
                    anywhere,
                    request.get(..torn).unwrap_or_default(),
                    moment,
                    random,
                )
                .await
            }
            Self::Drip => drip(anywhere, random).await,
            Self::SlowReader => {
                let request = load::get("/large/x");
                let mut stream = TcpStream::connect(ports.gateway).await?;
                stream.write_all(&request).await?;
                for _ in 0..random.u32(0..8) {
                    stream.read_exact(&mut [0; 4096]).await?;
                    sleep(moment / 4).await;
                }
                leave(&stream, random)
            }
            Self::Impatient => vanish(ports.gateway, &load::get(route), moment, random).await,
            Self::Patient => {
                let route = if route.starts_with("/large") {
                    "/half/x"
                } else {
                    route
                };
                let mut connection = Connection::open(ports.gateway).await?;
                Ok(Some(connection.exchange(&load::get(route)).await?.status))
            }
            Self::Upload => {
                let mut connection = Connection::open(anywhere).await?;
                let request = load::post("/api/logs", &events(random));
                Ok(Some(connection.exchange(&request).await?.status))
            }
            Self::Nonsense => vanish(anywhere, &nonsense(random), moment, random).await,
            Self::Http2 => http2(ports.gateway, random).await,
        }
    }
}

/// Sends this, waits, and is gone.
async fn vanish(
    addr: SocketAddr,
    bytes: &[u8],
    moment: Duration,
    random: &mut fastrand::Rng,
) -> Result<Option<u16>> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.write_all(bytes).await?;
    sleep(moment).await;
    leave(&stream, random)
}

/// Closes or resets the connection as it is dropped, with or without anything unread.
fn leave(stream: &TcpStream, random: &mut fastrand::Rng) -> Result<Option<u16>> {
    if random.bool() {
        stream.set_zero_linger()?;
    }
    Ok(None)
}

/// A body that comes by bytes, and may come whole.
async fn drip(addr: SocketAddr, random: &mut fastrand::Rng) -> Result<Option<u16>> {
    let mut stream = TcpStream::connect(addr).await?;
    let head = "POST /api/logs HTTP/1.1\r\nhost: api.example.com\r\ncontent-type: application/json\r\n\
                transfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await?;
    let body = events(random);
    for piece in body.as_bytes().chunks(body.len() / 10 + 1) {
        stream
            .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
            .await?;
        stream.write_all(piece).await?;
        stream.write_all(b"\r\n").await?;
        sleep(Duration::from_millis(random.u64(0..60))).await;
    }
    if random.bool() {
        return leave(&stream, random);
    }
    stream.write_all(b"0\r\n\r\n").await?;
    let mut answer = Vec::new();
    // The head of an answer is what is waited for, whatever it says.
    stream.read_buf(&mut answer).await?;
    leave(&stream, random)
}

fn events(random: &mut fastrand::Rng) -> String {
    let padding = "x".repeat(random.usize(0..4_000));
    let event = format!(
        "{{\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"service\":\"shop\",\"level\":\"info\",\
         \"message\":\"{padding}\"}}"
    );
    format!("[{}]", vec![event; random.usize(1..10)].join(","))
}

/// A request that is none, or one with a few bytes changed.
fn nonsense(random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = match random.u8(0..3) {
        0 => std::iter::repeat_with(|| random.u8(..))
            .take(2_000)
            .collect(),
        1 => load::get("/half/x").to_vec(),
        _ => load::post("/api/logs", &events(random)).to_vec(),
    };
    for _ in 0..random.u8(1..5) {
        let at = random.usize(..bytes.len());
        if let Some(byte) = bytes.get_mut(at) {
            *byte = random.u8(..);
        }
    }
    bytes
}

/// Some streams at once on one connection, most of them reset, and the connection left in the middle of what remains.
async fn http2(addr: SocketAddr, random: &mut fastrand::Rng) -> Result<Option<u16>> {
    let (mut streams, connection) = h2::client::handshake(TcpStream::connect(addr).await?).await?;
    let connection = tokio::spawn(connection);
    let mut last = Ok(None);
    for _ in 0..random.u32(1..12) {
        let route = ROUTES
            .get(random.usize(..ROUTES.len()))
            .copied()
            .unwrap_or("/");
        let request = Request::get(format!("http://api.example.com{route}")).body(())?;
        streams = streams.ready().await?;
        let (answer, _) = streams.send_request(request, true)?;
        let patience = Duration::from_millis(random.u64(0..100));
        // An answer that is not there yet is reset as it is dropped, and so is one whose body is left.
        last = match timeout(patience, answer).await {
            Ok(answer) => read(answer?, random).await,
            Err(_) => Ok(None),
        };
    }
    connection.abort();
    last
}

async fn read(
    answer: http::Response<h2::RecvStream>,
    random: &mut fastrand::Rng,
) -> Result<Option<u16>> {
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut left = random.usize(..64 << 10);
    while let Some(data) = body.data().await {
        let data: Bytes = data?;
        body.flow_control().release_capacity(data.len())?;
        left = match left.checked_sub(data.len()) {
            Some(left) => left,
            None => return Ok(None),
        };
    }
    Ok(Some(status))
}
