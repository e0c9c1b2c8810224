//! The demo: small upstreams, a gateway in front of them, and commands to try.

mod script;
mod upstreams;

use std::future::Future;
use std::path::Path;

use tempfile::TempDir;
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

    // Removed when the demo ends. On the terminal, the lines of the access log would bury what is printed to try.
    let folder =
        TempDir::with_prefix("gw-demo-").map_err(|error| format!("no folder for logs: {error}"))?;

    // The usual ports, or any others if one of those is taken. Trying is the only way to know.
    let usual = config(&upstreams, folder.path(), [8080, 9902, 9901])?;
    let prepared = match prepare(usual) {
        Ok(prepared) => prepared,
        Err(_) => {
            let any = config(&upstreams, folder.path(), [0; 3])?;
            prepare(any).map_err(|fault| fault.to_string())?
        }
    };
    print!("{}", script::text(prepared.addresses(), folder.path()));
    // What is cut when the demo ends is nobody's loss.
    prepared
        .serve(stop)
        .map(drop)
        .map_err(|fault| fault.to_string())
}

/// The demo's configuration, for these ports of traffic, health and admin. Its logs go to `folder`.
fn config(
    upstreams: &Upstreams,
    folder: &Path,
    [traffic, health, admin]: [u16; 3],
) -> Result<Config, String> {
    let environment = |name: &str| match name {
        "DEMO_LISTEN" => Some(format!("127.0.0.1:{traffic}")),
        "DEMO_HEALTH" => Some(format!("127.0.0.1:{health}")),
        "DEMO_ADMIN" => Some(format!("127.0.0.1:{admin}")),
        "DEMO_AUTH" => Some(format!("http://{}", upstreams.auth)),
        "DEMO_ORDERS" => Some(format!("http://{}", upstreams.orders)),
        "DEMO_LOGS" => Some(format!("http://{}", upstreams.logs)),
        "DEMO_ACCESS_LOG" => Some(folder.join(script::ACCESS_LOG).display().to_string()),
        "DEMO_QUEUE" => Some(folder.join("queue").display().to_string()),
        "DEMO_EVENTS" => Some(folder.join(script::EVENTS).display().to_string()),
        _ => None,
    };
    let text = include_str!("demo/demo.toml");
    Config::parse("demo.toml", text, Path::new(""), &environment)
        .map_err(|errors| errors.to_string())
}
