//! The reference gateway as a process.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::Process;
use super::{Result, ports};

/// How a gateway is started.
#[derive(Debug, Clone)]
pub struct Gateway {
    /// Where it takes requests.
    pub addr: SocketAddr,
    /// Where it shows how it stands.
    pub admin: SocketAddr,
    /// The command line.
    pub words: Vec<OsString>,
}

impl Gateway {
    /// Writes a configuration into `directory`: listeners on free ports, so many threads, more connections from
    /// one address than any client here opens, an access log in `access.log`, and `tables`. Everything else has its default.
    ///
    /// # Errors
    ///
    /// If there is no such program, or the file cannot be written.
    pub fn configured(
        program: &Path,
        directory: &Path,
        threads: usize,
        tables: &str,
    ) -> Result<Self> {
        if !program.is_file() {
            let build = "build it: cargo build --release -p reference-gateway";
            return Err(format!("no gateway at {}; {build}", program.display()).into());
        }
        let [addr, health, admin] = ports::free()?;
        let file = directory.join("gateway.toml");
        fs::write(
            &file,
            format!(
                "[server]\nlisten = [\"{addr}\"]\nthreads = {threads}\ndrain_delay = \"0s\"\n\
                 max_connections_per_ip = 4096\n\n\
                 [health]\nlisten = \"{health}\"\n\n\
                 [admin]\nlisten = \"{admin}\"\n\n\
                 [observe]\naccess_log = {{ path = \"access.log\" }}\n\n\
                 {tables}"
            ),
        )?;
        // It is started in another directory.
        let program = std::path::absolute(program)?;
        let words = vec![
            program.into(),
            "serve".into(),
            "--config".into(),
            file.into(),
        ];
        Ok(Self { addr, admin, words })
    }

    /// Starts it in `directory`, and waits until it accepts connections.
    ///
    /// # Errors
    ///
    /// If it does not come up within `patience`.
    pub async fn start(&self, directory: &Path, patience: Duration) -> Result<Process> {
        let mut process = Process::start("gateway", &self.words, directory)?;
        process.accepts(self.addr, patience).await?;
        Ok(process)
    }
}

/// The gateway that was built in the same profile: it lies beside the running program.
///
/// # Errors
///
/// If the running program's path is not known.
pub fn beside_this_program() -> Result<PathBuf> {
    Ok(env::current_exe()?.with_file_name("reference-gateway"))
}
