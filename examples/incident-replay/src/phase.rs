//! One phase: its processes are started, the schedule is offered to the gateway, and what the clients saw is kept.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::time::interval_at;

use crate::backends::{Addresses, Capacity, Served};
use crate::child::{Child, argument};
use crate::clients;
use crate::gateway::{Address, Ledger, Protection};
use crate::measure::{Meter, Series};
use crate::report;
use crate::scenario::Timeline;
use crate::schedule::{Fingerprint, Schedule};

/// What is replayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The gateway as it was, before a search node that bears everything: what the clients send when nothing fails.
    Healthy,
    /// The gateway as it was.
    Unprotected,
    /// This project.
    Protected,
    /// This project without some of its protections.
    Reduced,
}

impl Kind {
    const fn capacity(self) -> Capacity {
        match self {
            Self::Healthy => Capacity::Endless,
            Self::Unprotected | Self::Protected | Self::Reduced => Capacity::Scarce,
        }
    }

    const fn is_protected(self) -> bool {
        matches!(self, Self::Protected | Self::Reduced)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Healthy => "healthy sink",
            Self::Unprotected => "unprotected",
            Self::Protected => "protected",
            Self::Reduced => "reduced",
        };
        f.pad(name)
    }
}

/// A phase that has been run.
#[derive(Debug)]
pub(crate) struct Phase {
    pub(crate) kind: Kind,
    pub(crate) timeline: Timeline,
    pub(crate) auth: Series,
    pub(crate) logs: Series,
    /// Of the schedule, as it was offered.
    pub(crate) offered: Fingerprint,
    /// What the gateway accepted itself, if it has a queue.
    pub(crate) ledger: Option<Ledger>,
    pub(crate) served: Served,
}

/// Runs a phase from its first to its last process; a reduced one without these protections.
pub(crate) async fn run(
    kind: Kind,
    without: &[Protection],
    seed: u64,
    timeline: Timeline,
    schedule: &Schedule,
) -> io::Result<Phase> {
    let (backends, addresses) = Child::start(&backends(kind, seed)).await?;
    // Beyond the life of the gateway's process, so that nothing is left behind even if it is killed.
    let queue = tempfile::tempdir()?;
    let (gateway, Address { gateway: address }) =
        Child::start(&gateway(kind, without, &addresses, queue.path())).await?;

    let meter = Meter::start(timeline.seconds());
    let offered = tokio::select! {
        offered = clients::play(schedule, timeline, address, &meter) => offered,
        () = tell(kind, timeline, &meter) => return Err(io::Error::other("the phase does not end")),
        // So that the queue's directory is removed.
        _ = tokio::signal::ctrl_c() => return Err(io::ErrorKind::Interrupted.into()),
    };
    let (auth, logs) = meter.series();
    let ledger: Option<Ledger> = gateway.stop().await?;
    let served: Served = backends.stop().await?;
    Ok(Phase {
        kind,
        timeline,
        auth,
        logs,
        offered,
        ledger,
        served,
    })
}

/// Prints a line a second. Returns only when a phase takes absurdly long.
async fn tell(kind: Kind, timeline: Timeline, meter: &Meter) {
    const SECOND: Duration = Duration::from_secs(1);
    let mut ticks = interval_at(meter.started() + SECOND, SECOND);
    for second in 0..timeline.seconds() + 60 {
        ticks.tick().await;
        report::second(kind, timeline, second, meter.live());
    }
}

fn backends(kind: Kind, seed: u64) -> Vec<String> {
    let (seed, capacity) = (seed.to_string(), argument(&kind.capacity()));
    ["backends", "--seed", &seed, "--capacity", &capacity]
        .map(str::to_owned)
        .into()
}

fn gateway(kind: Kind, without: &[Protection], services: &Addresses, queue: &Path) -> Vec<String> {
    let mut arguments = vec!["gateway".to_owned()];
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    add("--auth", services.auth.to_string());
    add("--logs", services.logs.to_string());
    add("--sink", services.sink.to_string());
    if kind.is_protected() {
        add("--queue", queue.display().to_string());
    }
    if kind == Kind::Reduced {
        for protection in without {
            add("--without", argument(protection));
        }
    }
    arguments
}
