//! What the programs have in common: their turns, and the process that runs under callgrind.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use gw_tests::bench::Result;
use tokio::runtime::Builder;

use crate::instructions;
use crate::measure::measure;
use crate::report::Report;
use crate::subject::Case;

/// How much is measured.
#[derive(Debug, Args)]
pub struct Turns {
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

/// What a process does that was started by another one of this program.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Does one thing so many times: what runs under callgrind.
    #[command(hide = true)]
    Count {
        /// The name of the case.
        case: String,
        /// The name of the subject.
        subject: String,
        /// How many keys there are where they are many.
        keys: u64,
        /// How many times.
        times: u64,
    },
}

/// The number of instructions does not depend on the number of keys, and filling tables is slow under callgrind.
const KEYS_UNDER_CALLGRIND: u64 = 10_000;

/// Compares the subjects of `cases`, or does what `role` says. `keys` is how many there are where they are many.
///
/// # Errors
///
/// If a subject cannot be built or does not do what it should, or callgrind is wanted and does not run.
pub fn run(cases: &[Case], turns: &Turns, role: Option<&Role>, keys: u64) -> Result<()> {
    // tower's limit of a rate wants timers about, though none is ever set here.
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    match role {
        Some(Role::Count {
            case,
            subject,
            keys,
            times,
        }) => {
            let named = |found: &&Case| found.name == *case;
            let case = cases.iter().find(named).ok_or("no such case")?;
            instructions::count(case, subject, *keys, *times)
        }
        None => compare(cases, turns, keys),
    }
}

#[allow(
    clippy::print_stdout,
    reason = "printing a table is what the programs are for"
)]
fn compare(cases: &[Case], turns: &Turns, keys: u64) -> Result<()> {
    if cfg!(debug_assertions) {
        println!("This is a debug build: what it prints says nothing about a release.");
    }
    if let Some(directory) = &turns.callgrind {
        std::fs::create_dir_all(directory)?;
    }
    println!(
        "medians of {} rounds of {} ms each",
        turns.rounds, turns.slice
    );
    let mut report = Report::new();
    for case in cases.iter().filter(|case| case.name.contains(&turns.only)) {
        let mut subjects = case.subjects(keys)?;
        let slice = Duration::from_millis(turns.slice);
        let costs = measure(&mut subjects, turns.rounds, slice)?;
        for (subject, cost) in subjects.iter().zip(&costs) {
            let directory = turns.callgrind.as_ref().filter(|_| subject.alone);
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
