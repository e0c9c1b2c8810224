//! What a place among a bounded number costs: gw-bulkhead beside tower's `ConcurrencyLimit`, the semaphore that it is made of,
//! and tower-resilience's bulkhead.
//!
//! See `docs/benchmarks.md`.

use clap::Parser;
use gw_peers::program::{self, Role, Turns};
use gw_tests::bench::Result;

/// What a bulkhead costs, beside the peers: CPU time, instructions, allocations.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    #[command(flatten)]
    turns: Turns,
}

fn main() -> Result<()> {
    let Args { role, turns } = Args::parse();
    // Nothing here has keys.
    program::run(gw_peers::BULKHEADS, &turns, role.as_ref(), 0)
}
