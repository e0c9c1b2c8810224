//! A start that takes long.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::Stdio;

use gw_testkit::redis::free_port;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::command::{GATEWAY, PATIENCE, run, until};
use crate::gateway::{all_to, folder};
use crate::http::get;
use crate::log_lines::{FILE, to_file};

/// A gateway that is being built, for as long as nobody gives it what it reads.
struct Slow {
    child: Child,
    health: SocketAddr,
    folder: TempDir,
}

const PIPE: &str = "certificates.pem";

impl Slow {
    async fn start() -> Self {
        let health = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let limit =
            "[limits.shared]\nkey = \"ip\"\nrate = \"1/s\"\nstore = \"rediss://127.0.0.1:1\"\n";
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[health]\nlisten = \"{health}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{limit}{}{}",
            to_file(""),
            all_to("http://127.0.0.1:1", "limits = [\"shared\"]")
        );
        let (folder, file) = folder(&text);
        let pipe = folder.path().join(PIPE);
        run("mkfifo", &[pipe.to_str().unwrap()], "")
            .await
            .succeeded();
        // What reads it is behind the log, as what reads the queue back is.
        let child = Command::new(GATEWAY)
            .args(["serve", "--config", file.to_str().unwrap()])
            .env_remove("SSL_CERT_DIR")
            .env("SSL_CERT_FILE", pipe)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let slow = Self {
            child,
            health,
            folder,
        };
        until("the log to be opened", || async {
            slow.folder.path().join(FILE).exists().then_some(())
        })
        .await;
        slow
    }

    /// It goes on, with so much in what it reads.
    fn give(&self, text: &[u8]) {
        let pipe = self.folder.path().join(PIPE);
        let pipe = OpenOptions::new().write(true).open(pipe);
        pipe.unwrap().write_all(text).unwrap();
    }

    async fn ended(self) -> (Option<i32>, String) {
        let ended = timeout(PATIENCE, self.child.wait_with_output()).await;
        let output = ended.expect("it does not end").unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }
}

/// Story: nobody answered while a large queue was read back, and who watched killed the gateway, which began anew.
#[tokio::test]
async fn health_is_told_while_it_starts() {
    let slow = Slow::start().await;
    assert_eq!(get(slow.health, "/healthz").await.status(), 200);
    let ready = get(slow.health, "/readyz").await;
    assert_eq!((ready.status(), ready.text()), (503, "starting\n"));
    // What stands in the way of the start is told as ever, and the port is free.
    let health = slow.health;
    slow.give(b"");
    let (status, said) = slow.ended().await;
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains(": limits.shared.store: needs cert"), "{said}");
    std::net::TcpListener::bind(health).unwrap();
}
