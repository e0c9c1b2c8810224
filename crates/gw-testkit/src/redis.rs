//! A Redis server of a test's own, which can be stopped, started again and frozen.
//!
//! It needs `redis-server` and `kill` on the path. No keys are kept on disk: a server that is started again has forgotten
//! them all. With `--cluster-enabled yes` it still knows its nodes and slots.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// Where looking for a port begins, above those of well-known services.
const FIRST: u32 = 10_000;

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
        // Another program that looks for ports in the same way may take the port in between.
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

    /// Starts it again after [`Server::stop`], on the same port, without the keys that it had.
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

/// A port on 127.0.0.1 on which nobody listens at this moment, and another one with each call.
///
/// Where there is room it lies below the ports that the kernel gives to clients and to whoever listens on port 0. One of those
/// could be taken by another test before the server listens, or while it is stopped; and a client that asks for a stopped server
/// may be connected to itself.
///
/// # Panics
///
/// If there is none.
pub fn free_port() -> u16 {
    // A server of a cluster also takes the port that is so much above its own.
    const TO_THE_BUS: u32 = 10_000;
    static HANDED_OUT: AtomicU32 = AtomicU32::new(0);
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let below = range.split_ascii_whitespace().next();
    // What Linux begins with unless it is told otherwise.
    let below: u32 = below.map_or(32_768, |first| first.parse().expect("a port"));
    let candidates = below.saturating_sub(TO_THE_BUS + FIRST);
    if candidates == 0 {
        // The kernel hands out nearly all there are, so it is the one to ask.
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        return listener.local_addr().expect("its address").port();
    }
    // Odd, and no round number: process ids that follow each other spread over the range.
    let begin = std::process::id().wrapping_mul(7_919);
    let candidate = || {
        let offset = begin.wrapping_add(HANDED_OUT.fetch_add(1, Ordering::Relaxed)) % candidates;
        u16::try_from(FIRST + offset).expect("below the kernel's")
    };
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (0..candidates)
        .map(|_| candidate())
        .find(free)
        .expect("a free port")
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
