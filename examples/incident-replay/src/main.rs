//! The incident, replayed: a log flood that takes logins down behind an unprotected gateway, and the same flood before a
//! protected one. See the README.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its terminal"
)]

mod backends;
mod child;
mod clients;
mod connector;
mod gateway;
mod measure;
mod phase;
mod protected;
mod replay;
mod report;
mod scenario;
mod schedule;
mod unprotected;
mod verdict;

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tokio::runtime::Builder;

use crate::backends::Capacity;
use crate::gateway::Protection;
use crate::replay::Replay;
use crate::scenario::Timeline;

/// Replays a log flood before an unprotected and a protected gateway.
#[derive(Parser)]
#[command(version, about, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    replay: Options,
}

/// What to replay, and where to write about it.
#[derive(clap::Args)]
struct Options {
    /// Draws another schedule.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// The length of each phase.
    #[arg(long, default_value_t = 14, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(Timeline::SHORTEST as i64..=600))]
    seconds: u16,
    /// Where the report goes.
    #[arg(long, default_value = "incident.html", value_name = "FILE")]
    html: PathBuf,
    /// Also writes the picture alone.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Runs a further phase without this protection, and judges that one. May be given several times.
    #[arg(long, value_name = "LAYER")]
    without: Vec<Protection>,
}

/// The other processes of a replay; it starts them itself.
#[derive(Subcommand)]
enum Part {
    #[command(hide = true)]
    Backends {
        #[arg(long)]
        seed: u64,
        #[arg(long)]
        capacity: Capacity,
    },
    #[command(hide = true)]
    Gateway(gateway::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.part {
        Some(Part::Backends { seed, capacity }) => {
            block_on(1, backends::run(seed, capacity)).map(|()| ExitCode::SUCCESS)
        }
        Some(Part::Gateway(options)) => {
            block_on(2, gateway::run(options)).map(|()| ExitCode::SUCCESS)
        }
        None => block_on(1, replay(arguments.replay)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("incident-replay: {error}");
        ExitCode::from(2)
    })
}

async fn replay(options: Options) -> io::Result<ExitCode> {
    let timeline = Timeline::of(usize::from(options.seconds));
    let replay = Replay::run(options.seed, timeline, options.without).await?;
    let findings = replay.findings();
    std::fs::write(&options.html, report::page(&replay, &findings))?;
    if let Some(file) = &options.svg {
        std::fs::write(file, report::picture(&replay))?;
    }
    print!("{}", report::end(&replay, &findings));
    println!("\nthe report: {}", options.html.display());
    let holds = findings.iter().all(|finding| finding.holds);
    Ok(if holds {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Each process has few threads: all of them share two cores.
fn block_on<T>(threads: usize, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let mut builder = if threads == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    let runtime = builder.worker_threads(threads).enable_all().build()?;
    let done = runtime.block_on(work);
    // What is still being served when a process is told to stop is nobody's any more.
    runtime.shutdown_background();
    done
}
