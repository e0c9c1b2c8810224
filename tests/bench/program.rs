//! What the measuring programs have in common: a part of their command line, and how they run.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use super::roles::Role;
use super::supervise::{status, supervise};
use super::{Result, gateway};

/// What every program is asked besides what it measures. It is flattened into the program's own arguments.
#[derive(Debug, Args)]
pub struct Program {
    #[command(subcommand)]
    role: Option<Role>,
    /// The gateway's program; the one beside this program unless given.
    #[arg(long)]
    gateway: Option<PathBuf>,
}

impl Program {
    /// Serves if the program was started for that, as one of its own children; else measures, and for no longer than
    /// `limit`.
    #[allow(
        clippy::print_stdout,
        reason = "the caller is a program that prints a table"
    )]
    pub fn run(
        &self,
        limit: Duration,
        measurement: impl Future<Output = Result<bool>>,
    ) -> ExitCode {
        if let Some(role) = &self.role {
            // A role ends by being killed.
            return status(role.run().map(|()| true));
        }
        if cfg!(debug_assertions) {
            println!("This is a debug build: what it prints says nothing about a release.");
        }
        status(supervise(limit, measurement))
    }

    /// The gateway to measure.
    ///
    /// # Errors
    ///
    /// If none is given, and the running program's path is not known.
    pub fn gateway(&self) -> Result<PathBuf> {
        self.gateway
            .clone()
            .map_or_else(gateway::beside_this_program, Ok)
    }
}
