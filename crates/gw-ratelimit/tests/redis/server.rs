//! A Redis server of the test's own, and what the tests ask it.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc;
use std::time::Duration;

use gw_ratelimit::redis::RedisStore;
use gw_testkit::PATIENCE;
use gw_testkit::redis as testkit;
use redis::aio::MultiplexedConnection;

pub(crate) const SECRET: &[u8] = b"the tests' own secret";

/// Less than any test's patience, and not waited for: it passes as soon as nothing else is left to happen. See [`unanswered`].
pub(crate) const UNANSWERED: Duration = Duration::from_secs(10);

/// What becomes of questions that a frozen server leaves unanswered: their time, [`UNANSWERED`], is over as soon as all wait
/// for nothing else. Before the server is frozen it is as long as it says, and long enough on a busy machine.
pub(crate) async fn unanswered<F: Future>(asking: F) -> F::Output {
    tokio::time::pause();
    let output = asking.await;
    tokio::time::resume();
    output
}

/// Time stands still in the test's runtime until this is dropped.
#[derive(Debug)]
pub(crate) struct StandingStill(#[allow(dead_code, reason = "dropped")] mpsc::Sender<()>);

impl StandingStill {
    /// Time goes on from here.
    pub(crate) fn go_on(self) {
        tokio::time::resume();
    }
}

/// Lets time stand still for those tests that take leases, which are held and remembered for a second: how long the machine
/// takes is no part of them. After the tests' patience it goes on, so that a wait in vain has an end.
pub(crate) fn stand_still() -> StandingStill {
    tokio::time::pause();
    let (end, ended) = mpsc::channel::<()>();
    // A paused clock jumps ahead when a runtime is idle, but not while it waits for a thread.
    tokio::task::spawn_blocking(move || _ = ended.recv_timeout(PATIENCE));
    StandingStill(end)
}

/// Runs until it is dropped. It keeps nothing on disk.
#[derive(Debug)]
pub(crate) struct Server(testkit::Server);

impl Server {
    pub(crate) fn start() -> Self {
        Self(testkit::Server::start())
    }

    pub(crate) fn with(arguments: &[&str]) -> Self {
        Self(testkit::Server::with(arguments))
    }

    /// With a timeout that is met unless something is wrong.
    pub(crate) fn store(&self, name: &str) -> RedisStore {
        RedisStore::new(self.url(), name, SECRET).timeout(PATIENCE)
    }

    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    pub(crate) async fn keys(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let keys = redis::cmd("KEYS")
            .arg("*")
            .query_async(&mut connection)
            .await;
        keys.unwrap()
    }
}

impl Deref for Server {
    type Target = testkit::Server;

    fn deref(&self) -> &testkit::Server {
        &self.0
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut testkit::Server {
        &mut self.0
    }
}
