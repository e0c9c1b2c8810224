//! Running a program to its end.

use std::future::Future;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// The program under test.
pub(crate) const GATEWAY: &str = env!("CARGO_BIN_EXE_reference-gateway");

/// How long a test waits for anything. A limit for failures, not a part of what is tested: long enough for a machine that is
/// busy with other things.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) status: ExitStatus,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Exit status 1: the program has understood and refuses. A panic would be 101.
    #[track_caller]
    pub(crate) fn refused(&self) -> &str {
        assert_eq!(self.status.code(), Some(1), "{self:?}");
        assert!(!self.err.contains("panicked"), "{self:?}");
        &self.err
    }

    #[track_caller]
    pub(crate) fn succeeded(&self) -> &str {
        assert!(self.status.success(), "{self:?}");
        &self.out
    }
}

/// Runs `program` to its end, with `input` on its standard input.
pub(crate) async fn run(program: &str, arguments: &[&str], input: &str) -> Said {
    run_for(PATIENCE, program, arguments, input).await
}

/// As [`run`], for programs that are slow on purpose.
pub(crate) async fn run_for(
    limit: Duration,
    program: &str,
    arguments: &[&str],
    input: &str,
) -> Said {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("`{program}` must be installed: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    let write = async {
        // A program that does not read its input closes it.
        _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let both = async { tokio::join!(write, child.wait_with_output()).1.unwrap() };
    let Ok(output) = timeout(limit, both).await else {
        panic!("`{program} {arguments:?}` did not end");
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said {
        status: output.status,
        out: text(output.stdout),
        err: text(output.stderr),
    }
}

/// Asks again and again until there is an answer.
pub(crate) async fn until<T, F>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    match timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
