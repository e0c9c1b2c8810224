//! What logins notice while logs are saturated: the reference gateway and gw-bulkhead, beside tower and tower-resilience.
//!
//! See `docs/isolation.md`.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::{Parser, Subcommand};
use gw_peers::lanes::latency::{Amount, Stand};
use gw_peers::lanes::protection::Protection;
use gw_peers::lanes::saturation::{Size, WAYS, Way};
use gw_peers::lanes::subject::{SUBJECTS, Start};
use gw_peers::lanes::{app, instructions, report};
use gw_tests::bench::process::PATIENCE;
use gw_tests::bench::supervise::{status, supervise};
use gw_tests::bench::{Result, gateway};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::time::Instant;

/// All that is measured must fit in here.
const LIMIT: Duration = Duration::from_secs(350);

/// Of that, for processes to start, and for the last pairs to end.
const STARTING: Duration = Duration::from_secs(25);

/// Descriptors besides those of idle connections.
const OTHER_DESCRIPTORS: u64 = 500;

/// Latency of logins while logs are saturated.
///
/// Exit status 1 if, with the gateway or gw-bulkhead, a login is not answered, or their p99 grows by more than a tenth and by
/// more than a millisecond.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    role: Option<Role>,
    /// The gateway's program; the one beside this program unless given.
    #[arg(long)]
    gateway: Option<PathBuf>,
    /// Threads of each server, besides those of its lanes; one per core unless given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Logins of one turn.
    #[arg(long, default_value = "20000")]
    logins: NonZeroUsize,
    /// Turns without and with saturated logs.
    #[arg(long, default_value = "5")]
    pairs: NonZeroUsize,
    /// Clients of logs, where they are not connections or a flood.
    #[arg(long, default_value_t = 200)]
    clients: usize,
    /// Idle connections: one more than a gateway keeps.
    #[arg(long, default_value_t = 10_001)]
    idle: usize,
    /// Requests of a flood, all turns together.
    #[arg(long, default_value_t = 100_000)]
    flood: usize,
    /// Only the ways whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Little of everything, in half a minute: to try it out. The exit status says nothing then.
    #[arg(long)]
    quick: bool,
    /// Counts instructions with callgrind instead, and leaves the profiles in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    callgrind: Option<PathBuf>,
    /// Prints only: the exit status says nothing.
    #[arg(long)]
    no_check: bool,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Serves the application.
    #[command(hide = true)]
    App {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        threads: usize,
        #[arg(long)]
        protection: Protection,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    if let Some(Role::App {
        listen,
        threads,
        protection,
    }) = args.role
    {
        return status(app::serve(listen, threads, protection).map(|()| true));
    }
    if cfg!(debug_assertions) {
        println!("This is a debug build: what it prints says nothing about a release.");
    }
    status(supervise(LIMIT, measure(&args)))
}

async fn measure(args: &Args) -> Result<bool> {
    let (size, amount) = extent(args);
    raise_descriptors(size.idle as u64 + OTHER_DESCRIPTORS)?;
    let scratch = tempfile::tempdir()?;
    let program = match &args.gateway {
        Some(program) => program.clone(),
        None => gateway::beside_this_program()?,
    };
    let start = Start {
        gateway: &program,
        directory: scratch.path(),
        threads: args.threads.map_or_else(available_parallelism, Ok)?.get(),
        profile: None,
        patience: PATIENCE,
    };
    let ways = WAYS.iter().copied();
    let ways: Vec<Way> = ways.filter(|way| way.name().contains(&args.only)).collect();
    if let Some(directory) = &args.callgrind {
        let (text, holds) = instructions::count(start, &ways, directory).await?;
        print!("{text}");
        return Ok(holds || args.no_check);
    }
    println!(
        "medians of {} pairs of turns of {} logins by 4 clients; {} threads for what has none of its own",
        amount.pairs, amount.logins, start.threads
    );
    let mut stands = Vec::new();
    for subject in SUBJECTS {
        stands.push(Stand::start(subject, start).await?);
    }
    let until = Instant::now() + LIMIT - STARTING;
    let mut left = 0;
    for stand in &stands {
        left += ways
            .iter()
            .map(|way| u32::from(stand.can_be(*way)))
            .sum::<u32>();
    }
    let mut holds = true;
    for way in ways {
        let mut cases = Vec::new();
        for stand in stands.iter_mut().filter(|stand| stand.can_be(way)) {
            // On a machine that has other things to do, fewer pairs, and not only the first ways.
            let time = until.saturating_duration_since(Instant::now()) / left.max(1);
            left = left.saturating_sub(1);
            cases.push(stand.measure(way, size, amount, time).await?);
        }
        print!("{}", report::render(way, &cases));
        let ours = cases.iter().filter(|case| case.subject.is_promised());
        for case in ours.filter(|case| !case.holds()) {
            println!("MISSED: {}\n", case.subject.name());
            holds = false;
        }
    }
    if holds {
        println!(
            "gateway and gw-bulkhead: every login answered; p99 at most 1.1, or 1 ms more: holds"
        );
    }
    Ok(holds || args.no_check || args.quick)
}

fn extent(args: &Args) -> (Size, Amount) {
    const FLOOD: u32 = 20_000;
    let pairs = args.pairs.get();
    let (size, amount) = (
        Size {
            clients: args.clients,
            idle: args.idle,
            flood: FLOOD,
        },
        Amount {
            pairs,
            logins: args.logins.get(),
            flood: args.flood / pairs,
        },
    );
    match args.quick {
        false => (size, amount),
        true => (
            Size {
                idle: 1_001,
                ..size
            },
            Amount {
                pairs: 1,
                logins: 2_000,
                flood: 2_000,
            },
        ),
    }
}

/// For the connections of this process, and of those that it starts.
fn raise_descriptors(wanted: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < wanted) {
        return Err(
            format!("needs {wanted} file descriptors: raise the limit, or give --idle").into(),
        );
    }
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(wanted),
            ..limit
        },
    )?;
    Ok(())
}
