//! A gateway in a process of its own.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::command::{GATEWAY, PATIENCE, Said, run, until};
use crate::http::page;
use crate::lines::Lines;

/// A configuration on free ports. `server` continues the table `[server]`, `rest` are tables.
pub(crate) fn config(server: &str, rest: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n{server}\n\
         [health]\nlisten = \"127.0.0.1:0\"\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n{rest}\n"
    )
}

/// An upstream called `up` and a route `all` to it, which takes every path and has the keys `route`.
pub(crate) fn all_to(url: &str, route: &str) -> String {
    format!(
        "{}\n{}",
        upstream("up", url),
        self::route("all", "/", "up", route)
    )
}

/// `[upstreams.NAME]`; keys may follow.
pub(crate) fn upstream(name: &str, url: &str) -> String {
    format!("[upstreams.{name}]\nendpoints = [\"{url}\"]\n")
}

/// The same tables, with upstreams that are asked however often they fail.
pub(crate) fn without_breakers(tables: &str) -> String {
    let off = "breaker = { mode = \"off\" }\nendpoints = ";
    tables.replace("endpoints = ", off)
}

/// A public route for all paths below `prefix`.
pub(crate) fn route(name: &str, prefix: &str, upstream: &str, keys: &str) -> String {
    format!(
        "[[routes]]\nname = \"{name}\"\nmatch = {{ prefix = \"{prefix}\" }}\n\
         upstream = \"{upstream}\"\npublic = true\n{keys}\n"
    )
}

/// Keys of a route whose answers come when the test lets them: longer than anything that it does before, on a busy machine
/// as well.
pub(crate) const PATIENT: &str = "timeouts = { request = \"10m\", first_byte = \"10m\" }";

/// A folder with a file `gateway.toml`.
pub(crate) fn folder(text: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("gateway.toml");
    std::fs::write(&file, text).unwrap();
    (folder, file)
}

/// Runs `check` on a file with this text.
pub(crate) async fn check(text: &str) -> Said {
    let (_folder, file) = folder(text);
    command("check", &file).await
}

/// Runs `check` or `serve` to its end.
pub(crate) async fn command(verb: &str, file: &Path) -> Said {
    run(GATEWAY, &[verb, "--config", file.to_str().unwrap()], "").await
}

/// A running `reference-gateway serve`. Dropping it kills it, and fails the test if it has panicked.
pub(crate) struct Gateway {
    pub(crate) traffic: SocketAddr,
    pub(crate) health: SocketAddr,
    pub(crate) admin: SocketAddr,
    child: Child,
    lines: Lines,
    folder: TempDir,
}

impl Gateway {
    /// Serves what `text` says.
    pub(crate) async fn serve(text: &str) -> Self {
        Self::serve_with(text, &[]).await
    }

    /// As [`serve`](Self::serve), with other files beside the configuration.
    pub(crate) async fn serve_with(text: &str, files: &[(&str, &str)]) -> Self {
        let gateway = Self::announced(text, files).await;
        gateway.is_ready().await;
        gateway
    }

    /// As [`serve`](Self::serve), with a pipe for standard output, which the test reads or does not.
    pub(crate) async fn serve_into_pipe(text: &str) -> (Self, OwnedFd) {
        let mut gateway = Self::launched(&[GATEWAY], text, &[], Stdio::piped()).await;
        gateway.is_ready().await;
        let pipe = gateway.child.stdout.take().unwrap();
        (gateway, pipe.into_owned_fd().unwrap())
    }

    /// The listeners are open by now, so this waits in their queues until somebody answers.
    async fn is_ready(&self) {
        until("the gateway to be ready", || async {
            let ready = crate::http::get(self.health, "/readyz").await;
            (ready.status() == 200).then_some(())
        })
        .await;
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("the gateway runs")
    }

    /// Ends it as nothing else ends a process, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.signal("KILL").await;
        let (status, said) = self.ended().await;
        assert_eq!(status, None, "{said}");
    }

    /// A gateway that has said where it listens, and no more.
    pub(crate) async fn announced(text: &str, files: &[(&str, &str)]) -> Self {
        Self::launched(&[GATEWAY], text, files, Stdio::null()).await
    }

    /// As [`serve`](Self::serve), started by these words. They end with the gateway's program, and its process must be the
    /// one that they are started in.
    pub(crate) async fn served_by(words: &[&str], text: &str) -> Self {
        let gateway = Self::launched(words, text, &[], Stdio::null()).await;
        gateway.is_ready().await;
        gateway
    }

    async fn launched(words: &[&str], text: &str, files: &[(&str, &str)], stdout: Stdio) -> Self {
        let (folder, file) = folder(text);
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut lines = Lines::of(stderr.into_owned_fd().unwrap());
        let traffic = lines.wait("listening on http://").await;
        let sides = lines.wait("health on http://").await;
        let (health, admin) = sides.split_once(", admin on http://").unwrap();
        Self {
            traffic: traffic.parse().unwrap(),
            health: health.parse().unwrap(),
            admin: admin.parse().unwrap(),
            child,
            lines,
            folder,
        }
    }

    /// The folder of its configuration.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sends a signal: `TERM`, `INT` or `HUP`.
    pub(crate) async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("the gateway runs").to_string();
        run("kill", &[&format!("-{name}"), &pid], "")
            .await
            .succeeded();
    }

    /// Waits for a line on standard error that has this in it.
    pub(crate) async fn tells(&mut self, part: &str) -> String {
        while let Some(line) = self.lines.next().await {
            if line.contains(part) {
                return line;
            }
        }
        panic!("no line with {part} in {:#?}", self.lines.seen);
    }

    /// Waits for its end: the exit status, and all that it has printed.
    pub(crate) async fn ended(&mut self) -> (Option<i32>, String) {
        let Ok(status) = timeout(PATIENCE, self.child.wait()).await else {
            panic!("the gateway does not end; it said {:#?}", self.lines.seen);
        };
        self.lines.read_all().await;
        (status.unwrap().code(), self.lines.seen.join("\n"))
    }

    /// Waits until new connections are refused.
    pub(crate) async fn listener_closed(&self) {
        let address = self.traffic;
        until("the listener to close", || async move {
            TcpStream::connect(address).await.is_err().then_some(())
        })
        .await;
    }

    /// Waits until nothing holds a place in a lane or a slot of an upstream.
    pub(crate) async fn is_idle(&self) {
        until("all places and slots to come back", || async {
            let lanes = page(self.admin, "/lanes").await;
            let upstreams = page(self.admin, "/upstreams").await;
            let free = |entry: &serde_json::Value| entry["in_flight"] == 0 && entry["queued"] == 0;
            let lanes_free = lanes["in_flight"] == 0 && entries(&lanes, "lanes").all(free);
            (lanes_free && entries(&upstreams, "upstreams").all(free)).then_some(())
        })
        .await;
    }

    /// The lane's first listener of its own.
    pub(crate) fn listener_of(&self, lane: &str) -> SocketAddr {
        let start = format!("lane {lane} on http://");
        let mut lines = self.lines.seen.iter();
        let address = lines.find_map(|line| line.strip_prefix(&start));
        address.expect("a line for the lane").parse().unwrap()
    }

    /// What `/lanes` shows of this lane.
    pub(crate) async fn lane(&self, name: &str) -> serde_json::Value {
        let lanes = page(self.admin, "/lanes").await;
        let found = entries(&lanes, "lanes").find(|entry| entry["name"] == name);
        found.expect("the lane").clone()
    }

    /// Waits until so many requests are in this lane.
    pub(crate) async fn lane_holds(&self, lane: &str, count: u64) {
        until(&format!("{count} requests in lane {lane}"), || async {
            let lanes = page(self.admin, "/lanes").await;
            let found = entries(&lanes, "lanes").find(|entry| entry["name"] == lane);
            (found.unwrap()["in_flight"] == count).then_some(())
        })
        .await;
    }
}

fn entries<'a>(
    page: &'a serde_json::Value,
    key: &str,
) -> impl Iterator<Item = &'a serde_json::Value> {
    page[key].as_array().expect("a list").iter()
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.start_kill();
        if !std::thread::panicking() {
            self.lines.expect_no_panic();
        }
    }
}
