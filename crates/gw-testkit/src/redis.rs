//! A Redis server of a test's own, which can be stopped, started again and frozen.
//!
//! It needs `redis-server` and `kill` on the path. Nothing is kept on disk: a server that is started again has forgotten
//! everything.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A server on a port of its own on 127.0.0.1. Dropping it ends it.
///
/// Its methods block for the milliseconds that the server takes.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
    arguments: Vec<String>,
    home: TempDir,
}

impl Server {
    /// Starts one, and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// If there is no `redis-server`, or it does not start.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// The same with more arguments, such as `["--cluster-enabled", "yes"]`.
    ///
    /// # Panics
    ///
    /// As [`Server::start`].
    pub fn with(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        // Another program may take the port in between.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = run(port, &arguments, &home) {
                return Self {
                    child,
                    port,
                    arguments,
                    home,
                };
            }
        }
        panic!("redis-server does not start");
    }

    /// Its port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it as nothing else ends a process.
    pub fn stop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// Starts it again after [`Server::stop`], on the same port, without what it knew.
    ///
    /// # Panics
    ///
    /// If somebody else has taken the port.
    pub fn start_again(&mut self) {
        self.child = run(self.port, &self.arguments, &self.home).expect("the same port");
    }

    /// Makes it take connections and questions, and answer none.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Ends [`Server::freeze`].
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let mut kill = Command::new("kill");
        let status = kill.arg(signal).arg(self.child.id().to_string()).status();
        assert!(status.expect("`kill` is there").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// A port on 127.0.0.1 on which nobody listened a moment ago.
pub fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
    free.local_addr().expect("a bound socket").port()
}

/// `None` if it ends instead of being ready.
fn run(port: u16, arguments: &[String], home: &TempDir) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--port", &port.to_string()])
        .args(arguments)
        .current_dir(home.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`redis-server` must be installed");
    let log = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut lines = log.lines().map_while(Result::ok);
    if lines.any(|line| line.contains("Ready to accept connections")) {
        return Some(child);
    }
    _ = child.wait();
    None
}
