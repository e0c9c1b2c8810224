//! Hours of clients that do everything wrong, in short: rounds of load, and after each of them everything must be back.
//!
//! See `docs/benchmarks.md`.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

mod clients;
mod stage;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gw_tests::bench::Result;
use gw_tests::bench::footprint::Footprint;
use gw_tests::bench::program::Program;
use gw_tests::bench::table::Table;

use self::clients::Seen;
use self::stage::Stage;

/// For a round to end beyond its load.
const SPARE: Duration = Duration::from_secs(30);

/// What memory may grow by from the second third of the rounds to the last: the allocator's pages, not a leak.
const GROWTH: f64 = 1.10;

/// The reference gateway under clients that vanish, stall, drip, flood, reset and send nonsense, with upstreams that hang and
/// fail.
///
/// Exit status 1 if a login is not answered well, if places, connections or files are not back after a round, or if
/// memory keeps growing.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    program: Program,
    /// Rounds of load, each followed by a moment in which everything must be given back.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(6..))]
    rounds: u32,
    /// Seconds of load in a round.
    #[arg(long, default_value_t = 10)]
    load: u32,
    /// Makes what clients do repeatable, as far as it can be.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let load = Duration::from_secs(args.load.into());
    let limit = (load + SPARE) * (args.rounds + 2);
    args.program.run(limit, soak(&args, load))
}

async fn soak(args: &Args, load: Duration) -> Result<bool> {
    let program = args.program.gateway()?;
    let beside = program.parent().ok_or("the gateway has no directory")?;
    // Not where temporary files go, which may be in memory.
    let scratch = tempfile::tempdir_in(beside)?;
    let stage = Stage::set(&program, scratch.path()).await?;
    let mut random = fastrand::Rng::with_seed(args.seed);
    // Pools, queues and threads come with the first requests.
    clients::run(&stage.ports, load, random.fork()).await;
    let idle = stage.at_rest(None).await?;
    let mut rounds = Vec::new();
    let mut all = Seen::default();
    let mut table = Table::new(&[
        "round",
        "logins",
        "failed",
        "answers",
        "202",
        "broken off",
        "KiB",
        "threads",
        "files",
    ]);
    for round in 1..=args.rounds {
        let seen = clients::run(&stage.ports, load, random.fork()).await;
        let rest = stage.at_rest(Some(idle)).await?;
        table.row(vec![
            round.to_string(),
            seen.logins.to_string(),
            seen.failed_logins.to_string(),
            seen.answers.to_string(),
            seen.accepted.to_string(),
            seen.broken_off.to_string(),
            rest.resident.to_string(),
            rest.threads.to_string(),
            rest.files.to_string(),
        ]);
        rounds.push(rest);
        all.add(seen);
    }
    print!("{}", table.render());
    let ended = stage.end().await?;
    Ok(judge(&rounds, all) && ended)
}

fn judge(rounds: &[Footprint], all: Seen) -> bool {
    let logins = all.logins > 0 && all.failed_logins == 0;
    println!(
        "logins: {} answered 200, {} not: {}",
        all.logins,
        all.failed_logins,
        verdict(logins)
    );
    let peak = |rounds: &[Footprint]| rounds.iter().map(|rest| rest.resident).max().unwrap_or(0);
    let third = rounds.len() / 3;
    let (earlier, last) = rounds.split_at(rounds.len() - third);
    let second = earlier.get(third..).unwrap_or_default();
    let growth = peak(last) as f64 / peak(second).max(1) as f64;
    let flat = growth <= GROWTH;
    println!(
        "memory at rest, the last third of the rounds to the one before: {growth:.3}, at most {GROWTH}: {}",
        verdict(flat)
    );
    logins && flat
}

const fn verdict(holds: bool) -> &'static str {
    if holds { "holds" } else { "MISSED" }
}
