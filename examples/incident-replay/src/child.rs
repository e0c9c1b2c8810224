//! The processes of a phase: services and gateway run apart from the clients, as in life.
//!
//! Each is this very program with a hidden command. It prints one line of JSON when it listens, serves until its
//! standard input ends, prints one more line about what it did, and exits. If the parent dies the input ends too, so no
//! process is left behind.

use std::future::Future;
use std::io::{self, Write as _};
use std::process::Stdio;
use std::time::Duration;

use clap::ValueEnum;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// Longer than any step of a child takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running child; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    process: tokio::process::Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Child {
    /// Starts this program with `arguments`, and waits until it listens. Returns what it said.
    pub(crate) async fn start<T: DeserializeOwned>(arguments: &[String]) -> io::Result<(Self, T)> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = process.stdout.take().ok_or_else(silent)?;
        let mut child = Self {
            input: process.stdin.take(),
            lines: BufReader::new(output).lines(),
            process,
        };
        let said = child.line().await?;
        Ok((child, said))
    }

    /// Tells the child to stop, and waits until it has. Returns its last words.
    pub(crate) async fn stop<T: DeserializeOwned>(mut self) -> io::Result<T> {
        drop(self.input.take());
        let said = self.line().await?;
        timeout(PATIENCE, self.process.wait()).await??;
        Ok(said)
    }

    async fn line<T: DeserializeOwned>(&mut self) -> io::Result<T> {
        let line = timeout(PATIENCE, self.lines.next_line()).await??;
        let line = line.ok_or_else(silent)?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// A value as it is written on the command line.
pub(crate) fn argument(value: &impl ValueEnum) -> String {
    let written = value.to_possible_value();
    written.map_or_else(String::new, |value| value.get_name().to_owned())
}

fn silent() -> io::Error {
    io::Error::other("a child process ended before it said what was expected of it")
}

/// The child's side: says `first`, runs until the input ends, and says what `last` returns.
pub(crate) async fn serve<L: Serialize>(
    first: &impl Serialize,
    last: impl Future<Output = L>,
) -> io::Result<()> {
    say(first)?;
    let mut ignored = Vec::new();
    tokio::io::stdin().read_to_end(&mut ignored).await?;
    // If the parent has died, nobody listens, which is no fault of the child.
    _ = say(&last.await);
    Ok(())
}

fn say(what: &impl Serialize) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{}", serde_json::to_string(what)?)?;
    output.flush()
}
