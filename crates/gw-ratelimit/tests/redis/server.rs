//! A Redis server of the test's own, and what the tests ask it.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use gw_ratelimit::redis::RedisStore;
use gw_testkit::redis as testkit;
use redis::aio::MultiplexedConnection;

pub(crate) const SECRET: &[u8] = b"the tests' own secret";

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
        RedisStore::new(self.url(), name, SECRET).timeout(Duration::from_secs(5))
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
