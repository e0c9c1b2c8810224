//! The command line of the reference gateway.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks to its terminal"
)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use reference_gateway::assembly::Fault;
use reference_gateway::config::{self, Config};
use reference_gateway::events::Events;
use reference_gateway::{demo, gateway, signals, without_effect};
use tikv_jemallocator::Jemalloc;

/// A request takes and gives back some thirty pieces of memory. What is free for ten seconds goes back to the system by a thread of
/// the allocator, also where the threads that used it have nothing to do any more.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// A gateway made of the gw layers.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Starts small upstreams and the gateway, and prints commands to try (the default).
    Demo,
    /// Serves what a configuration file says.
    Serve {
        /// The file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Says what is wrong with a configuration file.
    Check {
        /// The file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        None | Some(Command::Demo) => run_demo(),
        Some(Command::Serve { config }) => serve(&config),
        Some(Command::Check { config }) => check(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run_demo() -> Result<(), String> {
    let _events = Events::to_stderr()?;
    signals::stop().and_then(demo::run)
}

fn check(path: &Path) -> Result<(), String> {
    let config = load(path)?;
    // Building it finds what only the layers know; nothing listens yet.
    gateway::check(&config).map_err(|fault| blame(path, &fault))?;
    let routes = config.routes.len();
    let plural = if routes == 1 { "" } else { "s" };
    println!("{}: {routes} route{plural}, ok", path.display());
    Ok(())
}

fn serve(path: &Path) -> Result<(), String> {
    let config = load(path)?;
    // Before the layers are built: they have something to say of that, too.
    let events = Events::to_stderr()?;
    // Before anything is opened, which may take long: who rotates logs does not ask whether it has started.
    let starting = signals::while_starting()?;
    let prepared = gateway::prepare(config).map_err(|fault| blame(path, &fault))?;
    // Before anything is announced: who reads it may send a signal at once.
    let log = prepared.log();
    let stop = starting.done(move || log.reopen());
    let addresses = prepared.addresses();
    for address in &addresses.traffic {
        events.say(&format!("listening on http://{address}"));
    }
    for (lane, addresses) in &addresses.lanes {
        for address in addresses {
            events.say(&format!("lane {lane} on http://{address}"));
        }
    }
    let (health, admin) = (addresses.health, addresses.admin);
    events.say(&format!(
        "health on http://{health}, admin on http://{admin}"
    ));
    let drained = prepared.serve(stop).map_err(|fault| blame(path, &fault))?;
    if events.lost() > 0 {
        events.say(&format!("{} lines were lost here", events.lost()));
    }
    let (requests, connections) = (drained.requests_cut, drained.connections_cut);
    events.say(&match drained.is_clean() {
        true => "stopped: every request was finished".to_owned(),
        false => format!("stopped: {requests} requests on {connections} connections were cut"),
    });
    Ok(())
}

/// Reads the file, and lists what it asks for in vain.
fn load(path: &Path) -> Result<Config, String> {
    let config =
        Config::load(path, &config::process_environment).map_err(|errors| errors.to_string())?;
    for note in without_effect(&config) {
        eprintln!("note: {note}");
    }
    Ok(config)
}

fn blame(path: &Path, fault: &Fault) -> String {
    config::blame(path, &fault.key, &fault.message).to_string()
}
