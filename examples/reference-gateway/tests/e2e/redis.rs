//! A Redis server of a test's own.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::command::run;
use crate::gateway::Lines;

/// Runs until it is dropped, and keeps nothing on disk.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Redis {
    pub(crate) async fn start() -> Self {
        let folder = TempDir::new().unwrap();
        // Somebody else may take the port in between.
        for _ in 0..20 {
            let port = free_port();
            if let Some(child) = launch(port, &folder).await {
                return Self {
                    child,
                    port,
                    folder,
                };
            }
        }
        panic!("redis-server does not start");
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it; what it knew is lost.
    pub(crate) async fn stop(&mut self) {
        self.child.kill().await.unwrap();
    }

    /// On the same port, with nothing in it.
    pub(crate) async fn start_again(&mut self) {
        self.child = launch(self.port, &self.folder).await.expect("a free port");
    }

    pub(crate) async fn freeze(&self) {
        self.signal("-STOP").await;
    }

    pub(crate) async fn thaw(&self) {
        self.signal("-CONT").await;
    }

    async fn signal(&self, signal: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        run("kill", &[signal, &pid], "").await.succeeded();
    }
}

/// A port on which nobody listens, or did not a moment ago.
pub(crate) fn free_port() -> u16 {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    free.local_addr().unwrap().port()
}

/// `None` if it ends instead of being ready.
async fn launch(port: u16, folder: &TempDir) -> Option<Child> {
    let mut child = Command::new("redis-server")
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no"])
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("`redis-server` must be installed: see tests/setup");
    let mut lines = Lines::of(child.stdout.take().unwrap());
    while let Some(line) = lines.next().await {
        if line.contains("Ready to accept connections") {
            return Some(child);
        }
    }
    None
}
