//! A Redis server of the test's own, and what the tests ask it.

use std::ops::{Deref, DerefMut};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use gw_ratelimit::redis::RedisStore;
use gw_testkit::PATIENCE;
use gw_testkit::redis as testkit;
use redis::AsyncConnectionConfig;
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
/// takes is no part of them. After a few times the tests' patience it goes on, so that a wait in vain has an end; a test that is
/// not over by then fails.
pub(crate) fn stand_still() -> StandingStill {
    tokio::time::pause();
    let (end, ended) = mpsc::channel::<()>();
    // A paused clock jumps ahead when a runtime is idle, but not while it waits for a thread.
    tokio::task::spawn_blocking(move || _ = ended.recv_timeout(4 * PATIENCE));
    StandingStill(end)
}

/// Waits until it is so, for as long as the tests' patience at the least, and whether or not time stands still. What it waits
/// for has the processor meanwhile: it looks less and less often.
///
/// Story: a look at each turn of the runtime kept a clock that stood still from ever going on, since the runtime was never idle.
/// So what did not come on a busy machine was waited for without an end.
pub(crate) async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let (mut waited, mut pause) = (Duration::ZERO, Duration::from_millis(1));
    while !so().await {
        assert!(waited < PATIENCE, "waited in vain for {what}");
        #[allow(
            clippy::disallowed_methods,
            reason = "a thread that is there to wait, as the runtime's clock may stand still"
        )]
        let waiting = tokio::task::spawn_blocking(move || thread::sleep(pause));
        waiting.await.unwrap();
        waited += pause;
        pause = (2 * pause).min(Duration::from_millis(100));
    }
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
        // By itself it gives up after half a second.
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let connecting = client.get_multiplexed_async_connection_with_config(&patient);
        connecting.await.unwrap()
    }

    /// Changes how it is set up.
    pub(crate) async fn set(&self, name: &str, value: &str) {
        let mut connection = self.connect().await;
        let _: () = redis::cmd("CONFIG")
            .arg(&["SET", name, value])
            .query_async(&mut connection)
            .await
            .unwrap();
    }

    /// Ends all connections of others, as it does with those that were idle for its `timeout`. They have heard of it when this
    /// returns, if they live in this runtime.
    pub(crate) async fn hang_up(&self) {
        let mut connection = self.connect().await;
        let mut kill = redis::cmd("CLIENT");
        kill.arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]);
        let _: usize = kill.query_async(&mut connection).await.unwrap();
        // Its answer and their end may have come together; this answer comes behind both.
        let _: String = redis::cmd("PING")
            .query_async(&mut connection)
            .await
            .unwrap();
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
