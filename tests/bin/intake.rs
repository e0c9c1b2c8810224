//! What a durable 202 costs: log uploads through the reference gateway, beside a bare loop that does nothing but make the
//! same bytes durable, and beside a bare server around such a loop.
//!
//! See `docs/benchmarks.md`.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

use std::env;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use gw_tests::bench::closed_loop::Run;
use gw_tests::bench::gateway::Gateway;
use gw_tests::bench::group_commit::GroupCommit;
use gw_tests::bench::load::{self, Load};
use gw_tests::bench::process::Process;
use gw_tests::bench::program::Program;
use gw_tests::bench::roles::Role;
use gw_tests::bench::statistics::{median, micros};
use gw_tests::bench::table::Table;
use gw_tests::bench::{Result, ports};

const TARGET: &str = "/api/logs";

/// Uploads that count for nothing: buffers grow, the first files are made.
const WARM_UP: usize = 1_000;

/// All that is measured must fit in here.
const LIMIT: Duration = Duration::from_secs(120);

/// For a gateway to start or to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// Durable log uploads per second through the reference gateway, beside a bare group-commit loop and a bare server.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    program: Program,
    /// Where both write; beside this program unless given. Directories for temporary files may be in memory.
    #[arg(long)]
    directory: Option<PathBuf>,
    /// Uploads of one measurement.
    #[arg(long, default_value = "20000")]
    uploads: NonZeroUsize,
    /// Uploads under way at once.
    #[arg(long, default_value = "64")]
    connections: NonZeroUsize,
    /// Bytes of the message in each upload, which has one event.
    #[arg(long, default_value = "1024")]
    bytes: NonZeroUsize,
    /// Measurements of each, in turns.
    #[arg(long, default_value = "5")]
    rounds: NonZeroUsize,
}

/// Both are measured with a gateway each: one whose batches stay in the queue, one that delivers them to a file meanwhile.
#[derive(Debug, Clone, Copy)]
enum Delivery {
    Stays,
    ToFile,
}

/// A server and the connections to it.
#[derive(Debug)]
struct Subject {
    /// Ends when it is dropped.
    process: Process,
    load: Load,
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.program.run(LIMIT, measure(&args))
}

async fn measure(args: &Args) -> Result<bool> {
    let directory = match &args.directory {
        Some(directory) => directory.clone(),
        None => env::current_exe()?
            .parent()
            .map(Path::to_owned)
            .ok_or("this program has no directory")?,
    };
    let scratch = tempfile::tempdir_in(directory)?;
    let json = upload(args.bytes.get());
    let bare = GroupCommit::start(scratch.path())?;
    let mut server = bare_server(args, scratch.path(), &json).await?;
    let mut stays = start(args, scratch.path(), &json, Delivery::Stays).await?;
    let mut to_file = start(args, scratch.path(), &json, Delivery::ToFile).await?;
    let (connections, uploads) = (args.connections.get(), args.uploads.get());
    println!(
        "uploads of {} bytes with one event, {connections} under way at once in a closed loop",
        json.len()
    );
    let mut rounds = Vec::with_capacity(args.rounds.get());
    for _ in 0..args.rounds.get() {
        rounds.push([
            bare.run(json.clone().into(), connections, uploads).await?,
            server.load.run(uploads).await?,
            stays.load.run(uploads).await?,
            to_file.load.run(uploads).await?,
        ]);
    }
    print(&rounds);
    for gateway in [stays, to_file] {
        gateway.process.terminate(PATIENCE).await?;
    }
    // Nothing is promised.
    Ok(true)
}

/// One event, in the form that needs no change.
fn upload(bytes: usize) -> String {
    let message = "x".repeat(bytes);
    format!(
        "[{{\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"service\":\"shop\",\"level\":\"info\",\
         \"message\":\"{message}\"}}]"
    )
}

async fn start(args: &Args, scratch: &Path, json: &str, delivery: Delivery) -> Result<Subject> {
    let program = args.program.gateway()?;
    let name = delivery.name();
    let directory = scratch.join(name);
    std::fs::create_dir(&directory)?;
    let gateway = Gateway::configured(&program, &directory, 1, &tables(delivery))?;
    let process = Process::start(name, &gateway.words, &directory)?;
    warm(args, process, gateway.addr, json).await
}

async fn bare_server(args: &Args, scratch: &Path, json: &str) -> Result<Subject> {
    let [listen] = ports::free()?;
    let directory = scratch.join("server");
    std::fs::create_dir(&directory)?;
    let process = Process::start("server", &Role::Commit { listen }.words()?, &directory)?;
    warm(args, process, listen, json).await
}

async fn warm(args: &Args, mut process: Process, addr: SocketAddr, json: &str) -> Result<Subject> {
    process.accepts(addr, PATIENCE).await?;
    let request = load::post(TARGET, json);
    let load = Load::open(addr, args.connections.get(), request).await?;
    let mut load = load.answered(202);
    load.run(WARM_UP).await?;
    Ok(Subject { process, load })
}

impl Delivery {
    const fn name(self) -> &'static str {
        match self {
            Self::Stays => "stays",
            Self::ToFile => "to-file",
        }
    }
}

/// A lane with a thread of its own that lets all uploads in, limits that are looked up and never reached, and a queue that
/// does not fill.
fn tables(delivery: Delivery) -> String {
    let sink = match delivery {
        Delivery::Stays => "{ kind = \"embedded\" }",
        Delivery::ToFile => "{ kind = \"file\", path = \"events.ndjson\" }",
    };
    format!(
        "[lanes]\ntotal = 2048\n[lanes.lane.core]\nguaranteed = 0.1\n\
         [lanes.lane.logs]\nguaranteed = 0.5\nqueue = 0\nthreads = 1\n\n\
         [[routes]]\nname = \"logs\"\nmatch = {{ path = \"{TARGET}\" }}\nservice = \"log-ingest\"\nlane = \"logs\"\n\
         public = true\n\n\
         [log_ingest]\nqueue = {{ engine = \"disk\", dir = \"queue\", max_bytes = \"8GiB\" }}\nsink = {sink}\n\
         per_client = {{ rate = \"10000000/s\", burst = 1000000 }}\n"
    )
}

const NAMES: [&str; 4] = ["bare loop", "bare server", "gateway", "gateway, delivering"];

fn print(rounds: &[[Run; 4]]) {
    let mut table = Table::new(&[
        "round",
        "subject",
        "durable/s",
        "to loop",
        "to server",
        "p50 µs",
        "p99 µs",
    ]);
    for (number, round) in (1..).zip(rounds) {
        let number: usize = number;
        let [bare, server, ..] = round;
        for (name, run) in NAMES.into_iter().zip(round) {
            let latencies = run.latencies();
            table.row(vec![
                number.to_string(),
                name.to_owned(),
                format!("{:.0}", run.rate()),
                format!("{:.3}", run.rate() / bare.rate()),
                format!("{:.3}", run.rate() / server.rate()),
                format!("{:.0}", micros(latencies.per_mille(500))),
                format!("{:.0}", micros(latencies.per_mille(990))),
            ]);
        }
    }
    print!("{}", table.render());
    println!("medians of the ratios, and of p99:");
    for (place, name) in NAMES.into_iter().enumerate() {
        let of = |figure: fn(&Run, &[Run; 4]) -> f64| {
            let figures = rounds.iter().filter_map(|round| {
                let run = round.get(place)?;
                Some(figure(run, round))
            });
            median(figures)
        };
        let to_loop = of(|run, [bare, ..]| run.rate() / bare.rate());
        let to_server = of(|run, [_, server, ..]| run.rate() / server.rate());
        let p99 = of(|run, _| micros(run.latencies().per_mille(990)));
        println!(
            "{name}: {to_loop:.3} of the bare loop's durable uploads a second, {to_server:.3} of the bare server's; \
             p99 {p99:.0} µs"
        );
    }
}
