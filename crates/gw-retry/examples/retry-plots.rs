//! Draws the plots of `docs/retries.md`: `cargo run --release -p gw-retry --example retry-plots [DIRECTORY]`.
//!
//! Time is virtual and everything random is seeded, so each run writes the same files.
#![allow(clippy::print_stdout, reason = "it is what it does")]

#[path = "../tests/simulation/mod.rs"]
#[allow(dead_code, reason = "the bounds are the test's")]
mod simulation;

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let directory = std::env::args_os().nth(1);
    let directory = directory.map_or_else(|| PathBuf::from("docs/retries"), PathBuf::from);
    std::fs::create_dir_all(&directory)?;
    for (name, figure) in simulation::figures::all() {
        let path = directory.join(name).with_extension("svg");
        std::fs::write(&path, figure.to_svg())?;
        println!("{}", path.display());
    }
    Ok(())
}
