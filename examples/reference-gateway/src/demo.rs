//! The demo: small upstreams, a gateway in front of them, and commands to try.

mod script;
mod upstreams;

use std::future::Future;
use std::net::TcpListener;
use std::path::Path;

use tokio::runtime::Builder;

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

    let environment = |name: &str| match name {
        "DEMO_LISTEN" => Some(preferred(8080)),
        "DEMO_HEALTH" => Some(preferred(9902)),
        "DEMO_ADMIN" => Some(preferred(9901)),
        "DEMO_AUTH" => Some(format!("http://{}", upstreams.auth)),
        "DEMO_ORDERS" => Some(format!("http://{}", upstreams.orders)),
        "DEMO_LOGS" => Some(format!("http://{}", upstreams.logs)),
        _ => None,
    };
    let config = Config::parse(
        "demo.toml",
        include_str!("demo/demo.toml"),
        Path::new(""),
        &environment,
    );
    let config = config.map_err(|errors| errors.to_string())?;
    let prepared = prepare(config).map_err(|fault| fault.to_string())?;
    print!("{}", script::text(prepared.addresses()));
    // What is cut when the demo ends is nobody's loss.
    prepared
        .serve(stop)
        .map(drop)
        .map_err(|fault| fault.to_string())
}

/// The usual port, or any other if that one is taken.
fn preferred(port: u16) -> String {
    let free = TcpListener::bind(("127.0.0.1", port)).is_ok();
    format!("127.0.0.1:{}", if free { port } else { 0 })
}
