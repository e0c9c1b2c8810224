//! Kills the reference gateway while clients upload logs to it, a hundred times on the same queue, and looks whether each
//! 202 was kept.
//!
//! A kill does not take what the kernel holds, so this says nothing about a loss of power: the simulated disk of
//! gw-logingest's own tests does.
#![allow(
    clippy::print_stdout,
    reason = "printing a table is what the program is for"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Parser;
use gw_tests::bench::Result;
use gw_tests::bench::connection::Connection;
use gw_tests::bench::gateway::Gateway;
use gw_tests::bench::load;
use gw_tests::bench::process::Process;
use gw_tests::bench::program::Program;
use serde_json::Value;
use tokio::time::{Instant, sleep};

const TARGET: &str = "/api/logs";
const SINK: &str = "events.ndjson";
const QUEUE: &str = "queue";

/// All lives must fit in here.
const LIMIT: Duration = Duration::from_secs(600);
/// For a gateway to start on what the last one left.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 8;

/// Kills the reference gateway at random moments, and checks that what was answered 202 is delivered.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    program: Program,
    /// How often it is killed.
    #[arg(long, default_value = "100")]
    lives: usize,
    /// The longest life in milliseconds, from the moment when it accepts connections.
    #[arg(long, default_value = "800")]
    longest: u64,
    /// Makes the moments repeatable, as far as they can be.
    #[arg(long, default_value = "1")]
    seed: u64,
}

/// What clients know.
#[derive(Debug, Default)]
struct Ledger {
    /// The messages of batches that were answered 202.
    promised: BTreeSet<String>,
    /// All messages that were sent.
    sent: BTreeSet<String>,
    refused: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    args.program.run(LIMIT, crashes(&args))
}

async fn crashes(args: &Args) -> Result<bool> {
    let program = args.program.gateway()?;
    let beside = program.parent().ok_or("the gateway has no directory")?;
    // Not where temporary files go, which may be in memory.
    let scratch = tempfile::tempdir_in(beside)?;
    let directory = scratch.path();
    let ledger = Arc::new(Mutex::new(Ledger::default()));
    let mut random = fastrand::Rng::with_seed(args.seed);
    // Where the sink's file ended when each life did.
    let mut ends = Vec::with_capacity(args.lives);
    let mut slowest = Duration::ZERO;
    for life in 0..args.lives {
        // In every third one nothing is delivered, so that the next begins with a backlog.
        let gateway = configured(&program, directory, !life.is_multiple_of(3))?;
        let started = Instant::now();
        let mut process = Process::start("gateway", &gateway.words, directory)?;
        process.accepts(gateway.addr, PATIENCE).await?;
        slowest = slowest.max(started.elapsed());
        let clients: Vec<_> = (0..CONNECTIONS)
            .map(|client| {
                let name = format!("{life}-{client}");
                let random = random.fork();
                tokio::spawn(upload(gateway.addr, name, random, Arc::clone(&ledger)))
            })
            .collect();
        sleep(Duration::from_millis(random.u64(1..=args.longest))).await;
        // Kills, and waits for the end.
        drop(process);
        for client in clients {
            client.await?;
        }
        ends.push(whole_lines(&directory.join(SINK))?);
        if life % 10 == 9 {
            scribble(&directory.join(QUEUE), &mut random)?;
        }
    }
    drain(&program, directory).await?;
    let ledger = ledger.lock().unwrap_or_else(PoisonError::into_inner);
    judge(&ledger, directory, &ends, slowest)
}

fn configured(program: &Path, directory: &Path, delivering: bool) -> Result<Gateway> {
    let sink = match delivering {
        true => format!("{{ kind = \"file\", path = \"{SINK}\" }}"),
        false => "{ kind = \"embedded\" }".to_owned(),
    };
    let tables = format!(
        "[lanes]\ntotal = 64\n[lanes.lane.core]\nguaranteed = 0.1\n[lanes.lane.logs]\nguaranteed = 0.5\nqueue = 0\n\
         threads = 1\n\n\
         [[routes]]\nname = \"logs\"\nmatch = {{ path = \"{TARGET}\" }}\nservice = \"log-ingest\"\nlane = \"logs\"\n\
         public = true\n\n\
         [log_ingest]\nqueue = {{ engine = \"disk\", dir = \"{QUEUE}\", max_bytes = \"64MiB\" }}\nsink = {sink}\n\
         per_client = {{ rate = \"10000000/s\", burst = 1000000 }}\n"
    );
    Gateway::configured(program, directory, 1, &tables)
}

/// Uploads until the connection breaks.
async fn upload(
    addr: SocketAddr,
    name: String,
    mut random: fastrand::Rng,
    ledger: Arc<Mutex<Ledger>>,
) {
    let ledger = || ledger.lock().unwrap_or_else(PoisonError::into_inner);
    let Ok(mut connection) = Connection::open(addr).await else {
        return;
    };
    for batch in 0_u32.. {
        let messages: Vec<_> = (0..random.usize(1..=20))
            .map(|event| format!("{name}-{batch}-{event}"))
            .collect();
        ledger().sent.extend(messages.iter().cloned());
        let padding = "x".repeat(random.usize(0..2_000));
        let events = messages.iter().map(|message| {
            format!(
                "{{\"trace_id\":\"4bf92f3577b34da6a3ce929d0e0e4736\",\"service\":\"shop\",\"level\":\"info\",\
                 \"message\":\"{message}\",\"padding\":\"{padding}\"}}"
            )
        });
        let json = format!("[{}]", events.collect::<Vec<_>>().join(","));
        let request = load::post(TARGET, &json);
        match connection.exchange(&request).await {
            Ok(head) if head.status == 202 => ledger().promised.extend(messages),
            Ok(_) => {
                ledger().refused += 1;
                // It asks for a second or more, and a life is shorter.
                sleep(Duration::from_millis(10)).await;
            }
            Err(_) => return,
        }
    }
}

/// Where the last whole line of a file ends: the next life begins there, and writes over the rest of a torn one.
fn whole_lines(path: &Path) -> Result<u64> {
    let content = match fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        content => content?,
    };
    let last = content.iter().rposition(|byte| *byte == b'\n');
    Ok(last.map_or(0, |last| last as u64 + 1))
}

/// Writes noise behind the last byte of the newest segment, as a write that was cut short may leave it.
fn scribble(queue: &Path, random: &mut fastrand::Rng) -> Result<()> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(queue)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("segment-") {
            segments.push(entry.path());
        }
    }
    let newest = segments.iter().max().ok_or("a queue without a segment")?;
    let written = fs::read(newest)?.iter().rposition(|byte| *byte != 0);
    let end = written.map_or(0, |last| last as u64 + 1);
    let noise: Vec<u8> = (0..random.usize(1..5_000)).map(|_| random.u8(..)).collect();
    let file = OpenOptions::new().write(true).open(newest)?;
    file.write_all_at(&noise, end)?;
    Ok(())
}

/// A last life, in which all that is left is delivered.
async fn drain(program: &Path, directory: &Path) -> Result<()> {
    let gateway = configured(program, directory, true)?;
    let mut process = Process::start("gateway", &gateway.words, directory)?;
    process.accepts(gateway.addr, PATIENCE).await?;
    let mut admin = Connection::open(gateway.admin).await?;
    let deadline = Instant::now() + PATIENCE;
    // The admin listener answers to names of this machine alone.
    let request = format!("GET /logs HTTP/1.1\r\nhost: {}\r\n\r\n", gateway.admin);
    loop {
        let head = admin.exchange(request.as_bytes()).await?;
        let page: Value = serde_json::from_slice(admin.body(head))?;
        if page.pointer("/queue/batches") == Some(&Value::from(0)) {
            break;
        }
        if Instant::now() >= deadline {
            return Err(format!("not delivered after {PATIENCE:?}: {page}").into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    process.terminate(PATIENCE).await?;
    Ok(())
}

fn judge(ledger: &Ledger, directory: &Path, ends: &[u64], slowest: Duration) -> Result<bool> {
    let text = fs::read_to_string(directory.join(SINK))?;
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut messages: BTreeMap<String, String> = BTreeMap::new();
    // The life in which each was delivered last.
    let mut lives: BTreeMap<String, usize> = BTreeMap::new();
    let (mut again, mut wrong) = (0, Vec::new());
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        let life = ends.partition_point(|end| *end <= offset);
        offset += line.len() as u64;
        let line: Value = serde_json::from_str(line)?;
        let word = |pointer| line.pointer(pointer).and_then(Value::as_str);
        let (Some(id), Some(message)) = (word("/_id"), word("/_source/message")) else {
            wrong.push(format!("without id or message: {line}"));
            continue;
        };
        if !ledger.sent.contains(message) {
            wrong.push(format!("{message} was never sent"));
        }
        let same = ids
            .entry(message.to_owned())
            .or_insert_with(|| id.to_owned())
            == id
            && messages
                .entry(id.to_owned())
                .or_insert_with(|| message.to_owned())
                == message;
        if !same {
            wrong.push(format!("{message} has not the id that it had before"));
        }
        match lives.insert(message.to_owned(), life) {
            Some(before) if before == life => wrong.push(format!("{message} twice in life {life}")),
            Some(_) => again += 1,
            None => {}
        }
    }
    let lost = ledger
        .promised
        .iter()
        .filter(|message| !ids.contains_key(*message));
    wrong.extend(lost.map(|message| format!("{message} is lost")));
    println!(
        "{} lives: {} events sent, {} promised, {} delivered, {again} of them again in a later life; {} uploads refused; \
         slowest start {slowest:?}",
        ends.len(),
        ledger.sent.len(),
        ledger.promised.len(),
        ids.len(),
        ledger.refused
    );
    for wrong in wrong.iter().take(20) {
        println!("WRONG: {wrong}");
    }
    println!("{} faults", wrong.len());
    Ok(wrong.is_empty() && !ledger.promised.is_empty())
}
