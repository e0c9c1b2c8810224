//! The demo: small upstreams, a gateway in front of them, and commands to try.

mod script;
mod upstreams;

use std::future::Future;
use std::path::{Path, PathBuf};

use tokio::runtime::Builder;

use self::upstreams::Upstreams;
use crate::config::Config;
use crate::gateway::prepare;

/// Runs the demo until `stop`.
///
/// # Errors
///
/// What went wrong, as a sentence.
#[allow(clippy::print_stdout, reason = "the demo talks to its terminal")]
pub fn run(stop: impl Future<Output = ()>) -> Result<(), String> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("demo-upstreams")
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("the system refuses a runtime: {error}"))?;
    let upstreams = runtime
        .block_on(upstreams::start())
        .map_err(|error| format!("no upstreams: {error}"))?;

    // The usual ports, or any others if one of those is taken. Trying is the only way to know.
    let folder = Folder::of_this_process();
    let usual = config(&upstreams, &folder, [8080, 9902, 9901])?;
    let prepared = match prepare(usual) {
        Ok(prepared) => prepared,
        Err(_) => {
            prepare(config(&upstreams, &folder, [0; 3])?).map_err(|fault| fault.to_string())?
        }
    };
    print!("{}", script::text(prepared.addresses(), &folder.events()));
    // What is cut when the demo ends is nobody's loss.
    prepared
        .serve(stop)
        .map(drop)
        .map_err(|fault| fault.to_string())
}

/// Where the demo keeps logs. It goes with the demo.
struct Folder(PathBuf);

impl Folder {
    fn of_this_process() -> Self {
        Self(std::env::temp_dir().join(format!("gw-demo-{}", std::process::id())))
    }

    fn events(&self) -> PathBuf {
        self.0.join("events.ndjson")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // It may never have been made, and whoever cannot remove it has nothing better to do.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The demo's configuration, for these ports of traffic, health and admin.
fn config(
    upstreams: &Upstreams,
    folder: &Folder,
    [traffic, health, admin]: [u16; 3],
) -> Result<Config, String> {
    let environment = |name: &str| match name {
        "DEMO_LISTEN" => Some(format!("127.0.0.1:{traffic}")),
        "DEMO_HEALTH" => Some(format!("127.0.0.1:{health}")),
        "DEMO_ADMIN" => Some(format!("127.0.0.1:{admin}")),
        "DEMO_AUTH" => Some(format!("http://{}", upstreams.auth)),
        "DEMO_ORDERS" => Some(format!("http://{}", upstreams.orders)),
        "DEMO_LOGS" => Some(format!("http://{}", upstreams.logs)),
        "DEMO_QUEUE" => Some(folder.0.join("queue").display().to_string()),
        "DEMO_EVENTS" => Some(folder.events().display().to_string()),
        _ => None,
    };
    let text = include_str!("demo/demo.toml");
    Config::parse("demo.toml", text, Path::new(""), &environment)
        .map_err(|errors| errors.to_string())
}
