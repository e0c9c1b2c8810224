//! What an upstream that fails does to another route: the latency of the other route without and with it.
//!
//! See `docs/benchmarks.md`.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

mod failing;
mod hanging;
mod pair;

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Parser;
use gw_tests::bench::Result;
use gw_tests::bench::program::Program;

const CONNECTIONS: usize = 4;

/// All that is measured must fit in here.
const LIMIT: Duration = Duration::from_secs(110);

/// The same for upstreams that fail: one that recovers takes the time that its breaker takes.
const LIMIT_FAILING: Duration = Duration::from_secs(240);

/// How often something is looked at that gives no sign of its own.
const POLL: Duration = Duration::from_millis(10);

/// Latency of one route while another route's upstream hangs with 200 requests, or fails.
///
/// Exit status 1 if the p99 grows by more than a tenth and by more than a millisecond.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    program: Program,
    /// Measures beside an upstream with breaker, retries and their budget that hangs, refuses connections, resets them,
    /// answers every other request with 500, and recovers; instead of beside one that hangs and has a lane of its own.
    #[arg(long)]
    failing: bool,
    /// Worker threads of the gateway; one per core unless given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Requests of one measurement.
    #[arg(long, default_value = "20000")]
    requests: NonZeroUsize,
    /// Measurements without and with the failing upstream, in turns.
    #[arg(long, default_value = "5")]
    pairs: NonZeroUsize,
    /// Pause of a client of the failing upstream before it asks again, in milliseconds. The clients are spread evenly over
    /// it.
    #[arg(long, default_value_t = 100)]
    pause: u64,
    /// Prints only: the exit status says nothing about the latencies.
    #[arg(long)]
    no_check: bool,
}

impl Args {
    fn threads(&self) -> Result<usize> {
        let threads = self.threads.map_or_else(available_parallelism, Ok)?;
        Ok(threads.get())
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let limit = if args.failing { LIMIT_FAILING } else { LIMIT };
    args.program.run(limit, measure(&args))
}

async fn measure(args: &Args) -> Result<bool> {
    let program = args.program.gateway()?;
    let holds = if args.failing {
        failing::measure(args, &program).await?
    } else {
        hanging::measure(args, &program).await?
    };
    Ok(holds || args.no_check)
}
