//! What a circuit breaker costs: gw-breaker beside tower-resilience, failsafe and recloser.
//!
//! See `docs/benchmarks.md`.

use clap::Parser;
use gw_peers::program::{self, Role, Turns};
use gw_tests::bench::Result;

/// What a circuit breaker costs, beside the peers: CPU time, instructions, allocations.
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
    program::run(gw_peers::BREAKERS, &turns, role.as_ref(), 0)
}
