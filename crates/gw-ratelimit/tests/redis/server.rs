//! A Redis server of the test's own.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use gw_ratelimit::redis::RedisStore;
use redis::aio::MultiplexedConnection;

pub(crate) const SECRET: &[u8] = b"the tests' own secret";

/// Runs until it is dropped. It keeps nothing on disk.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    port: u16,
    arguments: Vec<&'static str>,
    home: tempfile::TempDir,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(arguments: &[&'static str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        // Another program may take the port in between.
        for _ in 0..20 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            if let Some(child) = run(port, arguments, &home) {
                return Self {
                    child,
                    port,
                    arguments: arguments.to_vec(),
                    home,
                };
            }
        }
        panic!("redis-server does not start; see tests/setup");
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// With a timeout that is met unless something is wrong.
    pub(crate) fn store(&self, name: &str) -> RedisStore {
        RedisStore::new(format!("redis://127.0.0.1:{}", self.port), name, SECRET)
            .timeout(Duration::from_secs(5))
    }

    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port)).unwrap();
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

    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// On the same port, without what it knew.
    pub(crate) fn start_again(&mut self) {
        self.child = run(self.port, &self.arguments, &self.home).unwrap();
    }

    pub(crate) fn freeze(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let status = kill.arg(signal).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }
}

/// `None` if it does not come to be ready.
fn run(port: u16, arguments: &[&str], home: &tempfile::TempDir) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string()])
        .args(arguments)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("redis-server is there; see tests/setup");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.map_while(Result::ok) {
        if line.contains("Ready to accept connections") {
            return Some(child);
        }
    }
    child.wait().unwrap();
    None
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
