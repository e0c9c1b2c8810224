//! The ways in which clients of logs hold a server up. They run on a thread of their own, so that what they read delays no
//! client that is measured.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gw_tests::bench::Result;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

use super::protection::PLACES;
use super::talk::Talk;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Answers whose bodies never end.
    EndlessBodies,
    /// Handlers that block the thread they run on.
    BlockingHandlers,
    /// Far more requests than there are places, all of which are taken.
    Flood,
    /// Connections that are kept open.
    IdleConnections,
    /// Uploads of a byte now and then.
    SlowUploads,
}

/// All of them, in the order of the table.
pub const WAYS: [Way; 5] = [
    Way::EndlessBodies,
    Way::BlockingHandlers,
    Way::Flood,
    Way::IdleConnections,
    Way::SlowUploads,
];

impl Way {
    /// Its name in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EndlessBodies => "a: bodies that never end",
            Self::BlockingHandlers => "b: handlers that block",
            Self::Flood => "c: a flood",
            Self::IdleConnections => "d: idle connections",
            Self::SlowUploads => "e: slow uploads",
        }
    }
}

/// How many clients there are, and how busy.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Clients of most ways.
    pub clients: usize,
    /// Connections that are kept open.
    pub idle: usize,
    /// Requests a second of a flood.
    pub flood: u32,
}

/// What clients of logs have seen so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Requests that have come to an answer, or to their end without one.
    pub asked: usize,
    /// Those answered 503.
    pub refused: usize,
    /// Those that are not answered at once, and bodies that have not ended; of [`Way::IdleConnections`] open connections.
    pub held: usize,
}

#[derive(Debug, Default)]
struct Shared {
    asked: AtomicUsize,
    refused: AtomicUsize,
    held: AtomicUsize,
    opened: AtomicUsize,
}

/// Clients at work. Dropping it closes their connections.
#[derive(Debug)]
pub struct Saturation {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Pause of a client that was refused.
const PAUSE: Duration = Duration::from_millis(100);

/// Who has no answer by then has not been refused.
const AT_ONCE: Duration = Duration::from_millis(50);

/// Connections that a flood comes over.
const FLOODING: usize = 50;

/// For all clients to be connected, and a place to be taken.
const PATIENCE: Duration = Duration::from_secs(30);

/// After that: what comes at the beginning is not what is measured.
const SETTLE: Duration = Duration::from_millis(300);

impl Saturation {
    /// Starts the clients, and waits until all of them are at it.
    ///
    /// # Errors
    ///
    /// If they cannot connect.
    pub async fn start(addr: SocketAddr, way: Way, size: Size) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let counts = Arc::clone(&shared);
        let all = async move {
            let mut tasks = JoinSet::new();
            spawn(&mut tasks, addr, way, size, &counts);
            // Sent or dropped, both mean the end; the tasks end with their set.
            _ = stopped.await;
        };
        let thread = thread::Builder::new()
            .name("saturation".to_owned())
            .spawn(move || runtime.block_on(all))?;
        let saturation = Self {
            shared,
            stop: Some(stop),
            thread: Some(thread),
        };
        let wanted = match way {
            Way::EndlessBodies | Way::BlockingHandlers | Way::SlowUploads => size.clients,
            Way::Flood => 2 * PLACES + FLOODING,
            Way::IdleConnections => size.idle,
        };
        let deadline = Instant::now() + PATIENCE;
        while saturation.shared.opened.load(Ordering::Relaxed) < wanted {
            if Instant::now() >= deadline {
                let opened = saturation.shared.opened.load(Ordering::Relaxed);
                return Err(format!("{opened} of {wanted} clients have connected").into());
            }
            sleep(SETTLE / 10).await;
        }
        sleep(SETTLE).await;
        Ok(saturation)
    }

    /// What they have seen so far.
    pub fn counts(&self) -> Counts {
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        Counts {
            asked: read(&self.shared.asked),
            refused: read(&self.shared.refused),
            held: read(&self.shared.held),
        }
    }
}

impl Drop for Saturation {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It has no result, and a panic in it has been printed.
            _ = thread.join();
        }
    }
}

fn spawn(tasks: &mut JoinSet<()>, addr: SocketAddr, way: Way, size: Size, counts: &Arc<Shared>) {
    let ask = |tasks: &mut JoinSet<()>, clients: usize, path: &'static str| {
        for number in 0..clients {
            let client = Client::new(addr, number, counts);
            tasks.spawn(client.ask_for_ever(path, PAUSE.mul_f64(number as f64 / clients as f64)));
        }
    };
    match way {
        Way::EndlessBodies => ask(tasks, size.clients, "/logs/stream"),
        Way::BlockingHandlers => ask(tasks, size.clients, "/logs/block"),
        Way::Flood => {
            // More than there are places, so that none is free while one of them is away.
            ask(tasks, 2 * PLACES, "/logs/hang");
            for number in 0..FLOODING {
                let client = Client::new(addr, number, counts);
                tasks.spawn(client.flood(Duration::from_secs(1) * FLOODING as u32 / size.flood));
            }
        }
        Way::IdleConnections => {
            // As many at a time as a listener's queue takes.
            for first in 0..FLOODING {
                let numbers = (first..size.idle).step_by(FLOODING);
                let clients: Vec<_> = numbers.map(|it| Client::new(addr, it, counts)).collect();
                tasks.spawn(keep_open(clients));
            }
        }
        Way::SlowUploads => {
            for number in 0..size.clients {
                let client = Client::new(addr, number, counts);
                tasks.spawn(client.upload_slowly());
            }
        }
    }
}

/// A client of logs.
struct Client {
    addr: SocketAddr,
    number: usize,
    counts: Arc<Shared>,
    has_connected: bool,
}

/// Counts a request as held for as long as it is there.
struct Held<'a>(&'a AtomicUsize);

impl<'a> Held<'a> {
    fn count_in(held: &'a AtomicUsize) -> Self {
        held.fetch_add(1, Ordering::Relaxed);
        Self(held)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: logs.example.com\r\n\r\n")
}

impl Client {
    fn new(addr: SocketAddr, number: usize, counts: &Arc<Shared>) -> Self {
        Self {
            addr,
            number,
            counts: Arc::clone(counts),
            has_connected: false,
        }
    }

    async fn open(&mut self) -> Result<Talk> {
        let talk = Talk::open(self.addr, self.number).await?;
        if !std::mem::replace(&mut self.has_connected, true) {
            self.counts.opened.fetch_add(1, Ordering::Relaxed);
        }
        Ok(talk)
    }

    /// Counts what has become of a request: its status, if there was an answer.
    fn count<T>(&self, answer: &Result<(u16, T)>) {
        self.counts.asked.fetch_add(1, Ordering::Relaxed);
        if let Ok((503, _)) = answer {
            self.counts.refused.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Asks again at once when it is answered, and after a pause when it is refused.
    async fn ask_for_ever(mut self, path: &'static str, ahead: Duration) {
        // Nothing makes real clients ask in step.
        sleep(ahead).await;
        let request = get(path);
        loop {
            let Ok(mut talk) = self.open().await else {
                sleep(PAUSE).await;
                continue;
            };
            while let Ok(goes_on) = self.ask(&mut talk, &request).await {
                if !goes_on {
                    break;
                }
            }
        }
    }

    /// Whether the connection goes on.
    async fn ask(&self, talk: &mut Talk, request: &str) -> Result<bool> {
        talk.send(request.as_bytes()).await?;
        let answer = match timeout(AT_ONCE, talk.answer()).await {
            Ok(answer) => answer,
            Err(_) => {
                let _held = Held::count_in(&self.counts.held);
                talk.answer().await
            }
        };
        self.count(&answer);
        let (status, goes_on) = answer?;
        if status == 503 {
            sleep(PAUSE).await;
        } else if request.contains("/stream") {
            let _held = Held::count_in(&self.counts.held);
            talk.drain().await?;
        }
        Ok(goes_on)
    }

    /// Asks on time, whatever is answered.
    async fn flood(mut self, every: Duration) {
        let request = get("/logs/now");
        let mut ticks = interval(every);
        loop {
            let Ok(mut talk) = self.open().await else {
                sleep(PAUSE).await;
                continue;
            };
            let mut goes_on = true;
            while goes_on {
                ticks.tick().await;
                let asked = async {
                    talk.send(request.as_bytes()).await?;
                    talk.answer().await
                };
                let answer = asked.await;
                self.count(&answer);
                goes_on = answer.is_ok_and(|(_, goes_on)| goes_on);
            }
        }
    }

    async fn upload_slowly(mut self) {
        loop {
            if let Ok(mut talk) = self.open().await {
                let answer = self.drip(&mut talk).await;
                self.count(&answer);
            }
            sleep(PAUSE).await;
        }
    }

    /// Sends a byte now and then until there is an answer.
    async fn drip(&self, talk: &mut Talk) -> Result<(u16, bool)> {
        let head = "POST /logs/upload HTTP/1.1\r\nhost: logs.example.com\r\ncontent-length: 1000000\r\n\r\n";
        talk.send(head.as_bytes()).await?;
        let mut held = None;
        loop {
            if let Ok(answer) = timeout(PAUSE, talk.answer()).await {
                return answer;
            }
            held.get_or_insert_with(|| Held::count_in(&self.counts.held));
            talk.send(b"x").await?;
        }
    }
}

/// Opens one connection after another, asks once on each, and keeps them all.
async fn keep_open(clients: Vec<Client>) {
    let counts = clients.first().map(|client| Arc::clone(&client.counts));
    let Some(counts) = counts else { return };
    let request = get("/logs/now");
    let mut open = JoinSet::new();
    for mut client in clients {
        let Ok(mut talk) = client.open().await else {
            continue;
        };
        let asked = async {
            talk.send(request.as_bytes()).await?;
            talk.answer().await
        };
        client.count(&asked.await);
        let counts = Arc::clone(&counts);
        open.spawn(async move {
            let _held = Held::count_in(&counts.held);
            // Until the server closes it.
            _ = talk.drain().await;
        });
    }
    while open.join_next().await.is_some() {}
}
