//! Child processes that never outlive the measurement.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use super::Result;

/// For a server to start or to end, and for requests to come or go.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// How often something is looked at that gives no sign of its own.
const POLL: Duration = Duration::from_millis(20);

/// Lines of a failed process's output that are shown.
const LAST_LINES: usize = 12;

/// A running child. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Process {
    name: &'static str,
    child: Child,
    /// Standard output and error. A file, as an operator would have it: a pipe would cost this process CPU time.
    log: PathBuf,
}

impl Process {
    /// Starts `words`, the program first, in `directory`, where its output goes to `NAME.log`.
    ///
    /// # Errors
    ///
    /// If the program cannot be started.
    pub fn start(name: &'static str, words: &[OsString], directory: &Path) -> Result<Self> {
        let (program, arguments) = words.split_first().ok_or("no program to start")?;
        let log = directory.join(name).with_extension("log");
        let output = File::create(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .map_err(|error| format!("{name}: {}: {error}", program.display()))?;
        Ok(Self { name, child, log })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// If it has ended, or does not accept within `patience`; with the end of its output.
    pub async fn accepts(&mut self, addr: SocketAddr, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        while TcpStream::connect(addr).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.failure(&format!("ended with {status}")));
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("does not accept on {addr} after {patience:?}")));
            }
            sleep(POLL).await;
        }
        Ok(())
    }

    /// Asks it to end with SIGTERM and waits for its end.
    ///
    /// # Errors
    ///
    /// If it has not ended within `patience`.
    pub async fn terminate(mut self, patience: Duration) -> Result<ExitStatus> {
        // std can only kill. The id is ours until `try_wait` has seen the end, so the signal cannot go astray.
        Command::new("kill")
            .arg("-TERM")
            .arg(self.pid().to_string())
            .status()?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.failure(&format!("has not ended {patience:?} after SIGTERM")));
            }
            sleep(POLL).await;
        }
    }

    fn failure(&self, what: &str) -> super::Error {
        let output = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = output.lines().collect();
        let last = lines
            .get(lines.len().saturating_sub(LAST_LINES)..)
            .unwrap_or_default();
        format!("{} {what}\n{}", self.name, last.join("\n")).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the child has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::ports;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[tokio::test]
    async fn a_process_that_ends_is_reported_with_its_output() {
        let directory = tempfile::tempdir().unwrap();
        let missing = words("cat there-is-no-such-file");
        let mut process = Process::start("subject", &missing, directory.path()).unwrap();
        let [addr] = ports::free().unwrap();
        let error = process
            .accepts(addr, Duration::from_secs(10))
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("subject ended with exit status: 1"),
            "{error}"
        );
        assert!(error.contains("there-is-no-such-file"), "{error}");
    }

    #[tokio::test]
    async fn dropping_kills() {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start("subject", &words("sleep 60"), directory.path()).unwrap();
        let own = format!("/proc/{}", process.pid());
        assert!(fs::exists(&own).unwrap());
        drop(process);
        assert!(!fs::exists(&own).unwrap());
    }

    #[tokio::test]
    async fn a_process_is_asked_to_end() {
        let directory = tempfile::tempdir().unwrap();
        let process = Process::start("subject", &words("sleep 60"), directory.path()).unwrap();
        let status = process.terminate(Duration::from_secs(10)).await.unwrap();
        assert!(!status.success());
    }
}
