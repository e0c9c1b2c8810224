//! The program of each bin: takes arguments, measures its cases, prints a table.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gw_tests::bench::Result;
use tokio::runtime::Builder;

use crate::instructions;
use crate::measure::measure;
use crate::report::Report;
use crate::subject::Case;

/// What a layer costs, beside the peers: CPU time, instructions, allocations, memory.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// How many keys there are where they are many.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Rounds in which all take turns.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// CPU time of one turn, in milliseconds: long enough for a table of a million keys to come back into the caches.
    #[arg(long, default_value_t = 200)]
    slice: u64,
    /// Only the cases whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Counts instructions with callgrind as well, with few keys, and leaves the profiles in this directory.
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

/// The number of instructions does not depend on the number of keys, and filling tables is slow under callgrind.
const KEYS_UNDER_CALLGRIND: u64 = 10_000;

/// Does what the arguments say with these cases.
///
/// # Errors
///
/// If a subject cannot be built, or does not do what it should.
pub fn run(cases: &[Case]) -> Result<()> {
    let args = Args::parse();
    // tower's limit wants timers about, though none is ever set here.
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    match &args.role {
        Some(Role::Count {
            case,
            subject,
            times,
        }) => {
            let named = |found: &&Case| found.name == *case;
            let case = cases.iter().find(named).ok_or("no such case")?;
            instructions::count(case, subject, args.keys, *times)
        }
        None => compare(cases, &args),
    }
}

fn compare(cases: &[Case], args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        println!("This is a debug build: what it prints says nothing about a release.");
    }
    if let Some(directory) = &args.callgrind {
        std::fs::create_dir_all(directory)?;
    }
    println!(
        "medians of {} rounds of {} ms each; {} keys where they are many",
        args.rounds, args.slice, args.keys
    );
    let mut report = Report::new();
    for case in cases.iter().filter(|case| case.name.contains(&args.only)) {
        let mut subjects = case.subjects(args.keys)?;
        let slice = Duration::from_millis(args.slice);
        let costs = measure(&mut subjects, args.rounds, slice)?;
        for (subject, cost) in subjects.iter().zip(&costs) {
            let directory = args.callgrind.as_ref().filter(|_| subject.alone);
            let count = |directory: &PathBuf| {
                instructions::of(case, subject.name, KEYS_UNDER_CALLGRIND, directory)
            };
            let instructions = directory.map(count).transpose()?;
            report.row(case.name, subject, cost, instructions);
        }
    }
    print!("{}", report.render());
    Ok(())
}
