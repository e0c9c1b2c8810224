//! What a circuit breaker costs: gw-breaker beside tower-resilience, failsafe and recloser.
//!
//! See `docs/benchmarks.md`.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gw_peers::breakers::CASES;
use gw_peers::measure::measure;
use gw_peers::report::Report;
use gw_peers::{Case, instructions};
use gw_tests::bench::Result;
use tokio::runtime::Builder;

/// What a circuit breaker costs, beside the peers: CPU time, instructions, allocations.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// Nothing here has keys; the processes that count instructions are given a number of them all the same.
    #[arg(long, default_value_t = 0, hide = true)]
    keys: u64,
    /// Rounds in which all take turns.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// CPU time of one turn, in milliseconds.
    #[arg(long, default_value_t = 50)]
    slice: u64,
    /// Only the cases whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Counts instructions with callgrind as well, and leaves the profiles in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    callgrind: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Does one thing so many times: what runs under callgrind.
    #[command(hide = true)]
    Count {
        case: String,
        subject: String,
        times: u64,
    },
}

fn main() -> Result<()> {
    let args = Args::parse();
    // The peer looks for a runtime, though it never uses one here.
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    match &args.role {
        Some(Role::Count {
            case,
            subject,
            times,
        }) => {
            let named = |found: &&Case| found.name == *case;
            let case = CASES.iter().find(named).ok_or("no such case")?;
            instructions::count(case, subject, args.keys, *times)
        }
        None => compare(&args),
    }
}

fn compare(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        println!("This is a debug build: what it prints says nothing about a release.");
    }
    if let Some(directory) = &args.callgrind {
        std::fs::create_dir_all(directory)?;
    }
    println!(
        "medians of {} rounds of {} ms each",
        args.rounds, args.slice
    );
    let mut report = Report::new();
    for case in CASES.iter().filter(|case| case.name.contains(&args.only)) {
        let mut subjects = case.subjects(args.keys)?;
        let slice = Duration::from_millis(args.slice);
        let costs = measure(&mut subjects, args.rounds, slice)?;
        for (subject, cost) in subjects.iter().zip(&costs) {
            let directory = args.callgrind.as_ref().filter(|_| subject.alone);
            let count =
                |directory: &PathBuf| instructions::of(case, subject.name, args.keys, directory);
            let instructions = directory.map(count).transpose()?;
            report.row(case.name, subject, cost, instructions);
        }
    }
    print!("{}", report.render());
    Ok(())
}
