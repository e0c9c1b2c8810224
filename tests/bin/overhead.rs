//! What the gateway costs: CPU time per request of the reference gateway beside that of a bare hyper proxy.
//!
//! See `docs/benchmarks.md`.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Duration;

use clap::Parser;
use gw_tests::bench::closed_loop::Run;
use gw_tests::bench::cpu::CpuTime;
use gw_tests::bench::gateway::Gateway;
use gw_tests::bench::load::{self, Load, WARM_UP};
use gw_tests::bench::process::{PATIENCE, Process};
use gw_tests::bench::program::Program;
use gw_tests::bench::roles::Role;
use gw_tests::bench::statistics::{median, micros};
use gw_tests::bench::table::Table;
use gw_tests::bench::{Result, callgrind, ports};

/// The promise: CPU time per request, gateway to bare proxy.
const ALLOWED: f64 = 1.2;

const TARGET: &str = "/api/v1/orders/4711?expand=items";

/// Requests of one turn within a pair, some 50 ms.
const SLICE: usize = 2_000;

/// Requests under callgrind. What the first run counts is start and warm-up; the second run's surplus counts.
const CALLGRIND_BASE: usize = 500;
const CALLGRIND_MORE: usize = 2_000;

/// All that is measured must fit in here.
const LIMIT: Duration = Duration::from_secs(70);
const CALLGRIND_LIMIT: Duration = Duration::from_secs(300);

/// For a server to start or to end under callgrind.
const CALLGRIND_PATIENCE: Duration = Duration::from_secs(60);

/// CPU time per request of the reference gateway beside that of a bare hyper proxy.
///
/// Exit status 1 if the gateway takes more than 1.2 times as much.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    program: Program,
    /// Worker threads of the proxy and of the gateway; one per core unless given.
    #[arg(long)]
    threads: Option<NonZeroUsize>,
    /// Connections, each of which sends its next request when it has the answer.
    #[arg(long, default_value = "8")]
    connections: NonZeroUsize,
    /// Requests of one measurement.
    #[arg(long, default_value = "60000")]
    requests: NonZeroUsize,
    /// Measurements of each, in turns.
    #[arg(long, default_value = "5")]
    pairs: NonZeroUsize,
    /// Counts user-space instructions with callgrind instead, and leaves the profiles in this directory.
    #[arg(long, value_name = "DIRECTORY")]
    callgrind: Option<PathBuf>,
    /// Prints only: the exit status says nothing about the ratio.
    #[arg(long)]
    no_check: bool,
}

/// A proxy of either kind: where it listens, and how it is started.
#[derive(Debug)]
struct Proxy {
    name: &'static str,
    addr: SocketAddr,
    words: Vec<OsString>,
    connections: usize,
}

/// A running proxy with its open connections.
#[derive(Debug)]
struct Subject {
    process: Process,
    load: Load,
}

/// One run through a proxy, with what it cost the proxy.
#[derive(Debug)]
struct Measurement {
    run: Run,
    cpu: CpuTime,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let limit = if args.callgrind.is_some() {
        CALLGRIND_LIMIT
    } else {
        LIMIT
    };
    args.program.run(limit, measure(&args))
}

async fn measure(args: &Args) -> Result<bool> {
    let scratch = tempfile::tempdir()?;
    let [upstream_addr, proxy_addr] = ports::free()?;
    let upstream = Role::Upstream {
        listen: upstream_addr,
    };
    let _upstream = upstream.start("upstream", scratch.path()).await?;

    let threads = args.threads.map_or_else(available_parallelism, Ok)?;
    let bare = Role::Proxy {
        listen: proxy_addr,
        upstream: upstream_addr,
        threads: threads.get(),
    };
    let connections = args.connections.get();
    let bare = Proxy {
        name: "proxy",
        addr: proxy_addr,
        words: bare.words()?,
        connections,
    };
    let program = args.program.gateway()?;
    let gateway = Gateway::configured(
        &program,
        scratch.path(),
        threads.get(),
        &tables(upstream_addr),
    )?;
    let gateway = Proxy {
        name: "gateway",
        addr: gateway.addr,
        words: gateway.words,
        connections,
    };

    println!(
        "small keep-alive GET, {connections} connections in a closed loop, {threads} worker threads"
    );
    println!(
        "the gateway observes as by default: request metrics, and an access log of a tenth of the normal lines, in a file"
    );
    match &args.callgrind {
        Some(directory) => count_instructions(directory, scratch.path(), &bare, &gateway).await,
        None => time(args, scratch.path(), &bare, &gateway).await,
    }
}

/// One upstream, one public route, a limit that is looked up and never reached; all else as it comes.
fn tables(upstream: SocketAddr) -> String {
    format!(
        "[limits.ample]\nkey = \"ip\"\nrate = \"1000000/s\"\nburst = 1000000\n\n\
         [upstreams.orders]\nendpoints = [\"http://{upstream}\"]\n\n\
         [[routes]]\nname = \"orders\"\nmatch = {{ prefix = \"/\" }}\nupstream = \"orders\"\npublic = true\n\
         limits = [\"ample\"]\n"
    )
}

async fn time(args: &Args, scratch: &Path, bare: &Proxy, gateway: &Proxy) -> Result<bool> {
    let mut bare = start(bare, scratch).await?;
    let mut gateway = start(gateway, scratch).await?;
    let mut pairs = Vec::with_capacity(args.pairs.get());
    for _ in 0..args.pairs.get() {
        pairs.push(pair(&mut bare, &mut gateway, args.requests.get()).await?);
    }
    print_times(&pairs);
    let ratio = median(
        pairs
            .iter()
            .map(|(bare, gateway)| gateway.per_request() / bare.per_request()),
    );
    let holds = ratio <= ALLOWED;
    let verdict = if holds { "holds" } else { "MISSED" };
    println!(
        "CPU per request, gateway to bare proxy: {ratio:.3} (median), at most {ALLOWED}: {verdict}"
    );
    Ok(holds || args.no_check)
}

/// Both take turns in slices too short for the machine to change under them: what else runs on it costs CPU time here as
/// well, through caches and lost batches, and must cost both the same. Who waits uses next to no CPU time, so each may be
/// accounted from the beginning to the end; single slices would drown in the grain of the accounting.
async fn pair(
    bare: &mut Subject,
    gateway: &mut Subject,
    requests: usize,
) -> Result<(Measurement, Measurement)> {
    let before = (bare.cpu()?, gateway.cpu()?);
    let mut runs = (Run::default(), Run::default());
    let mut left = requests;
    while left > 0 {
        let slice = left.min(SLICE);
        runs.0.append(bare.load.run(slice).await?);
        runs.1.append(gateway.load.run(slice).await?);
        left -= slice;
    }
    let bare = Measurement {
        cpu: bare.cpu()?.since(before.0),
        run: runs.0,
    };
    let gateway = Measurement {
        cpu: gateway.cpu()?.since(before.1),
        run: runs.1,
    };
    Ok((bare, gateway))
}

async fn start(proxy: &Proxy, scratch: &Path) -> Result<Subject> {
    let mut process = Process::start(proxy.name, &proxy.words, scratch)?;
    process.accepts(proxy.addr, PATIENCE).await?;
    let mut load = Load::open(proxy.addr, proxy.connections, load::get(TARGET)).await?;
    load.run(WARM_UP).await?;
    Ok(Subject { process, load })
}

impl Subject {
    fn cpu(&self) -> Result<CpuTime> {
        CpuTime::of(self.process.pid())
    }
}

impl Measurement {
    /// Microseconds of CPU time.
    fn per_request(&self) -> f64 {
        micros(self.cpu.total()) / self.run.requests() as f64
    }
}

fn print_times(pairs: &[(Measurement, Measurement)]) {
    let mut table = Table::new(&[
        "pair",
        "subject",
        "requests",
        "CPU µs/request",
        "user",
        "system",
        "ratio",
        "requests/s",
        "p50 µs",
        "p99 µs",
    ]);
    for (number, (bare, gateway)) in (1..).zip(pairs) {
        let ratio = format!("{:.3}", gateway.per_request() / bare.per_request());
        for (name, measured, ratio) in [("proxy", bare, String::new()), ("gateway", gateway, ratio)]
        {
            let [cpu, user, system, rate, p50, p99] = figures(measured);
            table.row(vec![
                number.to_string(),
                name.to_owned(),
                measured.run.requests().to_string(),
                format!("{cpu:.2}"),
                format!("{user:.2}"),
                format!("{system:.2}"),
                ratio,
                format!("{rate:.0}"),
                format!("{p50:.0}"),
                format!("{p99:.0}"),
            ]);
        }
    }
    print!("{}", table.render());
}

fn figures(measured: &Measurement) -> [f64; 6] {
    let requests = measured.run.requests() as f64;
    let latencies = measured.run.latencies();
    [
        measured.per_request(),
        micros(measured.cpu.user) / requests,
        micros(measured.cpu.system) / requests,
        measured.run.rate(),
        micros(latencies.per_mille(500)),
        micros(latencies.per_mille(990)),
    ]
}

/// Instructions are not CPU time, so nothing is promised about them: they say where to look.
async fn count_instructions(
    directory: &Path,
    scratch: &Path,
    bare: &Proxy,
    gateway: &Proxy,
) -> Result<bool> {
    // The children run elsewhere, so the directory's name must not depend on where we are.
    let directory = std::path::absolute(directory)?;
    std::fs::create_dir_all(&directory)?;
    let bare = instructions_per_request(bare, &directory, scratch).await?;
    let gateway = instructions_per_request(gateway, &directory, scratch).await?;
    println!("user-space instructions per request, over {CALLGRIND_MORE} requests each:");
    let mut table = Table::new(&["proxy", "gateway", "ratio"]);
    table.row(vec![
        format!("{bare:.0}"),
        format!("{gateway:.0}"),
        format!("{:.3}", gateway / bare),
    ]);
    print!("{}", table.render());
    println!("profiles: {}", directory.display());
    Ok(true)
}

async fn instructions_per_request(proxy: &Proxy, directory: &Path, scratch: &Path) -> Result<f64> {
    let base = profile(proxy, CALLGRIND_BASE, directory, scratch).await?;
    let all = profile(proxy, CALLGRIND_BASE + CALLGRIND_MORE, directory, scratch).await?;
    Ok(all.saturating_sub(base) as f64 / CALLGRIND_MORE as f64)
}

async fn profile(proxy: &Proxy, requests: usize, directory: &Path, scratch: &Path) -> Result<u64> {
    let profile = directory.join(format!("{}-{requests}.callgrind", proxy.name));
    let words = callgrind::under(&proxy.words, &profile);
    let mut process = Process::start(proxy.name, &words, scratch)?;
    process.accepts(proxy.addr, CALLGRIND_PATIENCE).await?;
    let mut load = Load::open(proxy.addr, proxy.connections, load::get(TARGET)).await?;
    load.run(requests).await?;
    drop(load);
    process.terminate(CALLGRIND_PATIENCE).await?;
    callgrind::instructions(&profile)
}
