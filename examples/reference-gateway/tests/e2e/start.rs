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

    async fn signal(&self, name: &str) {
        let pid = self.child.id().expect("it runs").to_string();
        run("kill", &[&format!("-{name}"), &pid], "")
            .await
            .succeeded();
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

/// Story: a rotation of logs in these minutes ended the gateway.
#[tokio::test]
async fn only_signals_to_stop_end_a_start() {
    for end in ["TERM", "INT"] {
        let slow = Slow::start().await;
        for signal in ["HUP", "USR1", "USR2"] {
            slow.signal(signal).await;
        }
        assert_eq!(get(slow.health, "/healthz").await.status(), 200);
        slow.signal(end).await;
        let (status, said) = slow.ended().await;
        assert_eq!(status, Some(0), "{said}");
    }
}

/// Who rotates logs meanwhile is heard when it has started.
#[tokio::test]
async fn a_log_that_is_rotated_meanwhile_is_opened_anew() {
    let slow = Slow::start().await;
    let log = slow.folder.path().join(FILE);
    std::fs::rename(&log, slow.folder.path().join("access.log.1")).unwrap();
    slow.signal("HUP").await;
    assert_eq!(get(slow.health, "/healthz").await.status(), 200);
    assert!(!log.exists());
    let trusted = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    slow.give(trusted.cert.pem().as_bytes());
    until("a new file", || async { log.exists().then_some(()) }).await;
    until("it to be ready", || async {
        (get(slow.health, "/readyz").await.status() == 200).then_some(())
    })
    .await;
}
