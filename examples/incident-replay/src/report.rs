//! What is told about a replay: lines while it runs, and at its end a table, sparklines, a picture and a page.

mod chart;
mod cost;
mod page;
mod picture;
mod sparkline;
mod table;

use std::fmt::Write as _;

use crate::measure::Live;
use crate::phase::{Kind, Phase};
use crate::replay::Replay;
use crate::scenario::Timeline;
use crate::verdict::Finding;

pub(crate) use self::page::page;
pub(crate) use self::picture::picture;

/// What is about to be replayed.
#[allow(clippy::print_stdout, reason = "a program talks to its terminal")]
pub(crate) fn begin(seed: u64, timeline: Timeline, arrivals: usize) {
    println!(
        "seed {seed}: {arrivals} logins and events in {} s of each phase: {} s logins only, {} s a usual day, {} s flood",
        timeline.seconds(),
        timeline.idle,
        timeline.usual,
        timeline.flood
    );
}

/// The line of a second that has passed.
#[allow(clippy::print_stdout, reason = "a program talks to its terminal")]
pub(crate) fn second(kind: Kind, timeline: Timeline, second: usize, [auth, logs]: [Live; 2]) {
    let part = if second < timeline.idle {
        "idle"
    } else if second < timeline.flood_begins() {
        "usual"
    } else if second < timeline.seconds() {
        "flood"
    } else {
        "after"
    };
    let route = |live: Live| {
        let Live {
            sent,
            ok,
            failed,
            waiting,
        } = live;
        format!("{sent:>4} sent {ok:>4} ok {failed:>4} failed {waiting:>4} waiting")
    };
    let (auth, logs) = (route(auth), route(logs));
    println!(
        "{kind:<13} {:>3} s {part:<5}  auth {auth}   logs {logs}",
        second + 1
    );
}

/// What stands at the end of a run.
pub(crate) fn end(replay: &Replay, findings: &[Finding]) -> String {
    let mut text = String::from("\n");
    // Writing to a string cannot fail.
    _ = write!(
        text,
        "{}\n{}\n",
        table::text(replay),
        sparkline::text(replay)
    );
    for line in summary(replay) {
        _ = writeln!(text, "{line}");
    }
    if let Some((without, phase)) = &replay.reduced {
        _ = write!(text, "\n{}", cost::text(without, replay, phase));
    }
    text.push('\n');
    for finding in findings {
        let verdict = if finding.holds { "ok    " } else { "MISSED" };
        _ = writeln!(text, "{verdict}  {}", finding.text);
    }
    text
}

/// For each phase what it was offered, the loop, and what reached the services; and what became of the events that the
/// gateway accepted itself.
fn summary(replay: &Replay) -> Vec<String> {
    let phases = replay.phases();
    let line = |phase: &&Phase| {
        let served = phase.served;
        format!(
            "{:<13} schedule {}  log requests {:>5} (amplification {:.2})  logins at the auth service {:>4} of {}  \
             documents indexed {}, rejected {}",
            phase.kind,
            phase.offered,
            phase.logs.total().sent,
            replay.amplification(phase),
            served.logins,
            phase.auth.total().sent,
            served.indexed,
            served.rejected
        )
    };
    let ledger = |phase: &&Phase| {
        let ledger = phase.ledger?;
        Some(format!(
            "{:<13} of {} accepted events {} are delivered, {} wait on disk, {} are dead letters",
            phase.kind, ledger.accepted, ledger.delivered, ledger.queued, ledger.dead
        ))
    };
    let lines = phases.iter().map(line);
    lines.chain(phases.iter().filter_map(ledger)).collect()
}
