//! The gw layers composed into a gateway that serves.
//!
//! For now only `check FILE`: loads a configuration and prints what is wrong with it.
#![allow(
    dead_code,
    reason = "the gateway that reads the configuration is not written yet"
)]

mod config;

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(command), Some(file), None) = (args.next(), args.next(), args.next()) else {
        return finish(2, "usage: reference-gateway check FILE");
    };
    if command != "check" {
        return finish(2, "usage: reference-gateway check FILE");
    }
    match config::Config::load(Path::new(&file), &config::process_environment) {
        Ok(config) => finish(0, &format!("{file}: {} routes, ok", config.routes.len())),
        Err(errors) => finish(1, &errors.to_string()),
    }
}

fn finish(code: u8, text: &str) -> ExitCode {
    // A closed terminal is no reason to fail differently.
    let _ = if code == 0 {
        writeln!(std::io::stdout(), "{text}")
    } else {
        writeln!(std::io::stderr(), "{text}")
    };
    ExitCode::from(code)
}
