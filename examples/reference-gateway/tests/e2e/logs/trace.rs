//! The order of system calls: each 202 follows the sync that covers its batch.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use gw_testkit::client::Client;
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::{AMPLE, cluster, config, event, receipt, to_cluster, upload};
use crate::command::{GATEWAY, until};
use crate::gateway::Gateway;

const CONNECTIONS: usize = 8;
const UPLOADS: usize = 10;

/// A system call: its text, and where in the trace it begins and ends.
#[derive(Debug)]
struct Call {
    text: String,
    begins: usize,
    ends: usize,
}

impl Call {
    fn is(&self, name: &str) -> bool {
        self.text.starts_with(name) && self.text.as_bytes().get(name.len()) == Some(&b'(')
    }

    /// The segment that it is about, by the path that strace writes behind its descriptor.
    fn segment(&self) -> Option<&str> {
        let (_, rest) = self.text.split_once('<')?;
        let (path, _) = rest.split_once('>')?;
        path.contains("/segment-").then_some(path)
    }
}

/// Reads what `strace -f -ttt` has written: `PID TIME CALL`, where a call that others interrupt is in two lines.
fn calls(trace: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut open: HashMap<&str, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let mut words = line.splitn(2, ' ');
        let pid = words.next().unwrap();
        let Some((_time, text)) = words
            .next()
            .and_then(|rest| rest.trim_start().split_once(' '))
        else {
            continue;
        };
        if text.starts_with("<... ") {
            let place = open.remove(pid).expect("a call that was begun");
            let call: &mut Call = &mut calls[place];
            call.ends = number;
            call.text.push_str(text);
            continue;
        }
        let unfinished = text.ends_with("<unfinished ...>");
        if unfinished {
            open.insert(pid, calls.len());
        }
        calls.push(Call {
            text: text.to_owned(),
            begins: number,
            ends: if unfinished { usize::MAX } else { number },
        });
    }
    calls
}

/// Panics unless the batch with this message was written and synced before the answer with this receipt began to go out.
fn check(calls: &[Call], message: &str, receipt: &str) {
    let written = calls
        .iter()
        .filter(|call| {
            call.segment().is_some() && call.is("pwrite64") && call.text.contains(message)
        })
        .min_by_key(|call| call.ends)
        .unwrap_or_else(|| panic!("{message} was never written"));
    let answered = calls
        .iter()
        .find(|call| {
            call.segment().is_none()
                && call.text.contains("HTTP/1.1 202 ")
                && call.text.contains(receipt)
        })
        .unwrap_or_else(|| panic!("{receipt} was never answered"));
    let synced = calls.iter().any(|call| {
        call.is("fdatasync")
            && call.segment() == written.segment()
            && call.text.trim_end().ends_with("= 0")
            && call.begins > written.ends
            && call.ends < answered.begins
    });
    assert!(synced, "{receipt} was answered before {message} was synced");
}

/// The trace, once the tracer has written its end.
async fn read(path: &Path) -> String {
    until("the end of the trace", || async {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        let trace = fs::read(path).unwrap_or_default();
        let trace = String::from_utf8_lossy(&trace).into_owned();
        trace.trim_end().ends_with("+++").then_some(trace)
    })
    .await
}

#[tokio::test]
async fn each_202_follows_the_sync_that_covers_its_batch() {
    let cluster = cluster().await;
    let folder = TempDir::new().unwrap();
    let ingest = to_cluster(&folder.path().join("queue"), &cluster, "8MiB") + AMPLE;
    let file = folder.path().join("trace");
    let words = [
        "strace",
        // The gateway keeps the process that was started; the tracer runs beside it.
        "-D",
        "-f",
        "-ttt",
        "-y",
        "-s",
        "65536",
        "-e",
        "trace=fdatasync,fsync,pwrite64,pwritev,write,writev,sendto,sendmsg",
        "-e",
        "signal=none",
        "-o",
        file.to_str().unwrap(),
        GATEWAY,
    ];
    let server = "drain_delay = \"0s\"\nshutdown_grace = \"5s\"";
    let mut gateway = Gateway::served_by(&words, &config(server, &ingest)).await;
    let mut uploads = JoinSet::new();
    for client in 0..CONNECTIONS {
        let mut connection = Client::connect(gateway.traffic).await;
        uploads.spawn(async move {
            let mut answered = Vec::new();
            for n in 0..UPLOADS {
                let message = format!("marker-{client}-{n}-end");
                connection.send(&upload("app", &[event(&message)])).await;
                answered.push((message, receipt(&connection.read_answer().await)));
            }
            answered
        });
    }
    let mut answered = Vec::new();
    while let Some(done) = uploads.join_next().await {
        answered.extend(done.unwrap());
    }
    gateway.signal("TERM").await;
    let (status, said) = gateway.ended().await;
    assert_eq!(status, Some(0), "{said}");

    let calls = calls(&read(&file).await);
    assert_eq!(answered.len(), CONNECTIONS * UPLOADS);
    for (message, receipt) in &answered {
        check(&calls, message, receipt);
    }
    // Those that wait together share a sync.
    let synced = |call: &&Call| call.is("fdatasync") && call.segment().is_some();
    let syncs = calls.iter().filter(synced).count();
    assert!(syncs <= answered.len() + 1, "{syncs} syncs");
}

#[test]
fn the_check_sees_an_answer_that_comes_too_early() {
    let written = "7 1.0 pwrite64(9</q/segment-1.log>, \"..marker..\", 8, 0) = 8\n";
    let begun = "7 2.0 fdatasync(9</q/segment-1.log> <unfinished ...>\n";
    let ended = "7 4.0 <... fdatasync resumed>) = 0\n";
    let failed = "7 4.0 <... fdatasync resumed>) = -1 EIO (Input/output error)\n";
    let answer =
        "8 3.0 writev(5<socket:[1]>, [{iov_base=\"HTTP/1.1 202 Accepted .. r1\"}], 1) = 9\n";
    let holds = |lines: &[&str]| {
        let calls = calls(&lines.concat());
        std::panic::catch_unwind(|| check(&calls, "marker", "r1")).is_ok()
    };
    assert!(holds(&[written, begun, ended, answer]));
    assert!(!holds(&[written, begun, answer, ended]));
    assert!(!holds(&[begun, written, ended, answer]));
    assert!(!holds(&[written, begun, failed, answer]));
    assert!(!holds(&[written, answer]));
}
