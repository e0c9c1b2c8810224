//! The demo: every command that it prints does what the line above it says.

use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::command::{GATEWAY, PATIENCE, Said, run, run_for, until};
use crate::lines::Lines;

/// A running demo, and what it prints to try.
struct Demo {
    tries: Vec<Try>,
    child: Child,
    errors: Lines,
    /// Where it puts its own: a demo that is killed leaves it behind.
    folder: TempDir,
}

struct Try {
    promise: String,
    command: String,
}

impl Demo {
    async fn start(arguments: &[&str]) -> Self {
        // It is killed below, and leaves its files behind then.
        let folder = TempDir::new().unwrap();
        let mut child = Command::new(GATEWAY)
            .args(arguments)
            .env("TMPDIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let mut lines = Lines::of(stdout.into_owned_fd().unwrap());
        let errors = Lines::of(stderr.into_owned_fd().unwrap());
        let tries = read(&mut lines).await;
        Self {
            tries,
            child,
            errors,
            folder,
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        _ = self.child.start_kill();
        if !std::thread::panicking() {
            self.errors.expect_no_panic();
        }
    }
}

/// A try is a line that begins with `# `, and a command up to an empty line. Two empty lines end the list.
async fn read(lines: &mut Lines) -> Vec<Try> {
    let mut tries = Vec::new();
    let mut promise = None;
    let mut command = String::new();
    loop {
        let line = lines.next().await.expect("the demo goes on");
        match line.strip_prefix("# ") {
            Some(text) => promise = Some(text.to_owned()),
            None if promise.is_some() && !line.is_empty() => {
                command.push_str(&line);
                command.push('\n');
            }
            None => {}
        }
        if line.is_empty()
            && let Some(promise) = promise.take()
        {
            // The one about readiness is the last.
            let last = command.contains("/readyz");
            let command = std::mem::take(&mut command);
            tries.push(Try { promise, command });
            if last {
                return tries;
            }
        }
    }
}

#[tokio::test]
async fn every_command_of_the_demo_keeps_its_promise() {
    let demo = Demo::start(&[]).await;
    assert_eq!(demo.tries.len(), 13);
    for Try { promise, command } in &demo.tries {
        // The log is written within moments, and this is faster than any hand.
        if promise.starts_with("The access log, a file") {
            until("the last of the requests to be in the log", || async {
                let said = run("bash", &["-c", command], "").await;
                said.out.contains("\"METHOD_NOT_ALLOWED\"").then_some(())
            })
            .await;
        }
        // One of them waits for ten seconds: that is what it shows.
        let said = run_for(2 * PATIENCE, "bash", &["-c", command], "").await;
        said.succeeded();
        keeps(promise, &said);
    }
}

fn keeps(promise: &str, said: &Said) {
    let out = said.out.as_str();
    let is = |status: u16| {
        let line = format!("HTTP/1.1 {status} ");
        assert!(out.starts_with(&line), "{promise}\n{out}");
    };
    let codes: Vec<&str> = out.lines().collect();
    let count = |code: &str| codes.iter().filter(|it| **it == code).count();
    if promise.starts_with("An order, through the gateway: 200") {
        is(200);
    } else if promise.starts_with("The service fails and tells why") {
        is(500);
        assert!(
            out.contains("\"code\":\"INTERNAL\"") && !out.contains("10.0.0.7"),
            "{out}"
        );
    } else if promise.starts_with("More than 20 orders at once") {
        assert_eq!(codes.len(), 50, "{out}");
        assert_eq!(codes[0], "200", "{out}");
        assert!(
            count("429") > 0 && count("200") + count("429") == 50,
            "{out}"
        );
    } else if promise.starts_with("The old log service hangs") {
        // Eight uploads, and a login while they hang.
        assert_eq!(
            (count("503"), count("504"), count("200"), codes.len()),
            (4, 4, 1, 9),
            "{out}"
        );
        let login = codes.iter().position(|code| *code == "200");
        assert!(
            login < codes.iter().position(|code| *code == "504"),
            "{out}"
        );
    } else if promise.starts_with("... and logins answer") {
        is(200);
    } else if promise.starts_with("The log intake needs no log service: 202") {
        is(202);
        assert!(out.contains("\"durability\":\"host\""), "{out}");
    } else if promise.starts_with("... and a moment later the event is in a file") {
        for word in [
            "\"message\":\"hello\"",
            "\"engine\": \"disk\"",
            "\"accepted\": 1",
        ] {
            assert!(out.contains(word), "{word} in {out}");
        }
    } else if promise.starts_with("No route: 404") {
        is(404);
        assert!(out.contains("\"code\":\"ROUTE_NOT_FOUND\""), "{out}");
    } else if promise.starts_with("A path with two readings: 400") {
        is(400);
    } else if promise.starts_with("A method that the route does not have: 405") {
        is(405);
        assert!(out.to_ascii_lowercase().contains("\nallow: "), "{out}");
    } else if promise.starts_with("The lanes, the limits, the metrics") {
        for word in ["\"lanes\"", "\"limits\"", "gateway_lane_in_flight"] {
            assert!(out.contains(word), "{word} in {out}");
        }
    } else if promise.starts_with("The access log, a file") {
        let lines = out.lines().map(serde_json::from_str::<serde_json::Value>);
        let lines: Vec<_> = lines.collect::<Result<_, _>>().unwrap();
        // Those of the four tries before the operator's pages, which are not logged, and one more.
        let seen: Vec<_> = lines
            .iter()
            .map(|it| (&it["path"], &it["status"]))
            .collect();
        assert_eq!(seen.len(), 5, "{out}");
        for (path, status) in [
            ("/api/auth/login", 200),
            ("/nothing/here", 404),
            ("/api/orders/..%2fadmin", 400),
            ("/api/orders/7", 405),
        ] {
            assert!(
                seen.contains(&(&path.into(), &status.into())),
                "{path}\n{out}"
            );
        }
    } else if promise.starts_with("Whether it wants traffic") {
        is(200);
        assert!(out.ends_with("ready\n"), "{out}");
    } else {
        panic!("nobody has checked yet: {promise}");
    }
}

#[tokio::test]
async fn a_second_demo_finds_other_ports_and_both_answer() {
    let (first, second) = (Demo::start(&["demo"]).await, Demo::start(&["demo"]).await);
    assert_ne!(first.tries[0].command, second.tries[0].command);
    for demo in [&first, &second] {
        let said = run("bash", &["-c", &demo.tries[0].command], "").await;
        assert!(said.succeeded().starts_with("HTTP/1.1 200 "), "{said:?}");
    }
}

#[tokio::test]
async fn ctrl_c_ends_the_demo() {
    // Several times, since a demo that is not listening for signals yet dies of them.
    for _ in 0..5 {
        let mut demo = Demo::start(&["demo"]).await;
        let pid = demo.child.id().unwrap().to_string();
        run("kill", &["-INT", &pid], "").await.succeeded();
        let status = timeout(PATIENCE, demo.child.wait()).await;
        assert!(status.expect("it ends").unwrap().success());
        let left = std::fs::read_dir(demo.folder.path()).unwrap();
        assert_eq!(left.count(), 0, "the demo takes its files with it");
    }
}
