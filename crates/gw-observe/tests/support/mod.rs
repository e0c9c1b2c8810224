//! A log that tests read, and services to observe.
#![allow(
    dead_code,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "test support; not every test needs all of it"
)]

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use gw_observe::access_log::AccessLogBuilder;
use gw_observe::{AccessLog, AccessLogHandle};
use serde_json::Value;

/// A pipe whose reader may stop reading, and whose writer may fail.
#[derive(Clone, Default)]
pub(crate) struct Pipe(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    stuck: bool,
    /// How many bytes go through before writing fails; once.
    fails_after: Option<usize>,
}

impl Pipe {
    pub(crate) fn stuck() -> Self {
        let pipe = Self::default();
        pipe.0.0.lock().unwrap().stuck = true;
        pipe
    }

    pub(crate) fn fails_after(bytes: usize) -> Self {
        let pipe = Self::default();
        pipe.0.0.lock().unwrap().fails_after = Some(bytes);
        pipe
    }

    pub(crate) fn unstick(&self) {
        self.0.0.lock().unwrap().stuck = false;
        self.0.1.notify_all();
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.0.lock().unwrap().bytes.clone()).unwrap()
    }

    /// The lines of requests, in order.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.all()
            .into_iter()
            .filter(|line| line.get("summary").is_none())
            .collect()
    }

    /// The lines that stand for others.
    pub(crate) fn summaries(&self) -> Vec<Value> {
        self.all()
            .into_iter()
            .filter(|line| line.get("summary").is_some())
            .collect()
    }

    fn all(&self) -> Vec<Value> {
        let text = self.text();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.0.0.lock().unwrap();
        let mut state = self.0.1.wait_while(state, |state| state.stuck).unwrap();
        let mut count = bytes.len();
        if let Some(left) = state.fails_after {
            if left == 0 {
                state.fails_after = None;
                return Err(io::ErrorKind::StorageFull.into());
            }
            count = count.min(left);
            state.fails_after = Some(left - count);
        }
        state.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log that keeps a line of each request.
pub(crate) fn every_request(pipe: &Pipe) -> AccessLogBuilder {
    AccessLog::builder()
        .writer(pipe.clone())
        .normal(1.0)
        .health(1.0)
        .budget_per_second(u32::MAX)
}

/// All lines that were handed over have been written.
#[track_caller]
pub(crate) fn flushed(handle: &AccessLogHandle) {
    assert!(
        handle.flush(Duration::from_secs(30)),
        "{:?}",
        handle.counts()
    );
}
