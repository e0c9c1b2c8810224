//! What a rate limit costs: gw-ratelimit beside governor, tower_governor, tower-resilience, tower and pingora-limits.
//!
//! See `docs/benchmarks.md`.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

use clap::Parser;
use gw_peers::program::{self, Role, Turns};
use gw_tests::bench::Result;

/// What a rate limit costs, beside the peers: CPU time, instructions, allocations, memory.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// How many keys there are where they are many.
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    #[command(flatten)]
    turns: Turns,
}

fn main() -> Result<()> {
    let Args { role, keys, turns } = Args::parse();
    if role.is_none() {
        println!("{keys} keys where they are many");
    }
    program::run(gw_peers::RATE_LIMITS, &turns, role.as_ref(), keys)
}
