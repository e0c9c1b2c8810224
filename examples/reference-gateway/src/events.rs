//! What the layers tell on a change of state, such as `retry_budget_exceeded`, as lines on standard error.
//!
//! A thread of its own writes them: nobody has to read them for the gateway to serve. At the bound lines are dropped, and
//! counted.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use tracing_subscriber::filter::LevelFilter;

/// How many lines wait at most.
const WAITING: usize = 256;

/// Writes the events of this process to standard error from now on.
///
/// # Errors
///
/// If there can be no thread for it, or somebody else has the events already.
pub fn to_stderr() -> Result<(), String> {
    let (events, lines) = Events::new();
    thread::Builder::new()
        .name("events".to_owned())
        .spawn(move || lines.write_to(&mut io::stderr()))
        .map_err(|error| format!("no thread for events: {error}"))?;
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::INFO)
        .with_ansi(false)
        .with_writer(move || events.clone())
        .try_init()
        .map_err(|error| error.to_string())
}

/// Takes a line with each write, and never waits.
#[derive(Debug, Clone)]
struct Events {
    lines: SyncSender<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

/// The lines that wait to be written.
#[derive(Debug)]
struct Lines {
    lines: Receiver<Vec<u8>>,
    lost: Arc<AtomicU64>,
}

impl Events {
    fn new() -> (Self, Lines) {
        let (sender, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let events = Self {
            lines: sender,
            lost: Arc::clone(&lost),
        };
        let lines = Lines {
            lines: receiver,
            lost,
        };
        (events, lines)
    }
}

impl Write for Events {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.lines.try_send(line.to_vec()).is_err() {
            // It orders nothing: it is a number to be told.
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    /// Until nobody can send any more.
    fn write_to(self, out: &mut impl Write) {
        for line in self.lines {
            // Whoever read them has left: there is nobody to tell.
            let _ = out.write_all(&line);
            let lost = self.lost.swap(0, Ordering::Relaxed);
            if lost > 0 {
                let _ = writeln!(out, "{lost} events were not written: nobody read them");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted_and_nobody_waits() {
        let (mut events, lines) = Events::new();
        for number in 0..WAITING + 3 {
            events.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        drop(events);
        let mut out = Vec::new();
        lines.write_to(&mut out);
        let out = String::from_utf8(out).unwrap();
        let out: Vec<_> = out.lines().collect();
        assert_eq!(out.len(), WAITING + 1);
        assert_eq!(
            out[..2],
            ["0", "3 events were not written: nobody read them"]
        );
        assert_eq!(out[WAITING], (WAITING - 1).to_string());
    }
}
