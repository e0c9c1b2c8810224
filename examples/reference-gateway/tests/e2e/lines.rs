//! What a program under test prints, line by line.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use crate::command::PATIENCE;

/// The lines that a program prints. They are read on a thread, which goes on when the test's runtime no longer does.
pub(crate) struct Lines {
    coming: UnboundedReceiver<String>,
    /// Closed after the last line.
    end: mpsc::Receiver<()>,
    pub(crate) seen: Vec<String>,
}

impl Lines {
    pub(crate) fn of(pipe: OwnedFd) -> Self {
        let (send, coming) = unbounded_channel();
        let (ends, end) = mpsc::channel();
        thread::spawn(move || {
            let _ends: mpsc::Sender<()> = ends;
            let lines = BufReader::new(File::from(pipe)).lines();
            for line in lines.map_while(Result::ok) {
                _ = send.send(line);
            }
        });
        let seen = Vec::new();
        Self { coming, end, seen }
    }

    /// Waits for the next line; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<String> {
        let line = timeout(PATIENCE, self.coming.recv()).await;
        let line = line.unwrap_or_else(|_| panic!("no more lines behind {:#?}", self.seen))?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Waits for a line that begins so, and returns what follows.
    pub(crate) async fn wait(&mut self, start: &str) -> String {
        while let Some(line) = self.next().await {
            if let Some(rest) = line.strip_prefix(start) {
                return rest.to_owned();
            }
        }
        panic!("no line `{start}…` in {:#?}", self.seen);
    }

    pub(crate) async fn read_all(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Looks at all that a program has said which has ended, or is about to.
    pub(crate) fn expect_no_panic(&mut self) {
        let end = self.end.recv_timeout(PATIENCE);
        assert_eq!(end, Err(RecvTimeoutError::Disconnected), "it goes on");
        while let Ok(line) = self.coming.try_recv() {
            self.seen.push(line);
        }
        let panicked = self.seen.iter().any(|line| line.contains("panicked"));
        assert!(!panicked, "the gateway has panicked: {:#?}", self.seen);
    }
}

/// Story: what came after the last `await` of a test was not seen, since the task that read it did not run any more.
#[tokio::test]
#[should_panic(expected = "the gateway has panicked")]
async fn a_panic_at_the_end_of_a_test_is_seen() {
    let mut program = Command::new("sh");
    let program = program.args(["-c", "echo a thread panicked >&2"]);
    let mut child = program.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = Lines::of(child.stderr.take().unwrap().into());
    child.wait().unwrap();
    lines.expect_no_panic();
}
