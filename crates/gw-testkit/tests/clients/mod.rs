//! The official clients, in a virtual environment under the target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use gw_testkit::elasticsearch::Elasticsearch;
use serde_json::Value;

const REQUIREMENTS: &str = include_str!("requirements.txt");
/// An interpreter that starts on a busy machine takes seconds.
const LIMIT: Duration = Duration::from_secs(120);

#[derive(Clone, Copy, Debug)]
pub enum Client {
    Elasticsearch,
    OpenSearch,
}

/// Runs a scenario of `scenarios.py` and returns what it printed.
pub async fn run(client: Client, scenario: &str, cluster: &Elasticsearch) -> Value {
    let python = tokio::task::spawn_blocking(|| python().clone())
        .await
        .unwrap();
    let name = match client {
        Client::Elasticsearch => "elasticsearch",
        Client::OpenSearch => "opensearch",
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/scenarios.py");
    let running = tokio::process::Command::new(python)
        .arg(script)
        .args([name, scenario, &cluster.url()])
        // A proxy of the environment must not come between the two.
        .env("NO_PROXY", "127.0.0.1")
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, running)
        .await
        .expect("the scenario ends in time")
        .expect("the interpreter of the virtual environment runs");
    assert!(
        output.status.success(),
        "{name} {scenario}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the scenario prints JSON")
}

/// The interpreter of the virtual environment, which is made at the first use.
fn python() -> &'static PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
        fs::create_dir_all(base).unwrap();
        // Another test run may be making it at this moment.
        let lock = File::create(base.join("clients.lock")).unwrap();
        lock.lock().unwrap();
        let home = base.join("clients");
        let python = home.join("bin/python");
        let ready = home.join("ready");
        if fs::read_to_string(&ready).is_ok_and(|installed| installed == REQUIREMENTS) {
            return python;
        }
        must(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&home),
            "make a virtual environment (Debian: apt-get install python3-venv)",
        );
        let requirements =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/requirements.txt");
        must(
            Command::new(&python)
                .args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "-r",
                ])
                .arg(requirements),
            "install the official clients from the package index",
        );
        fs::write(ready, REQUIREMENTS).unwrap();
        python
    })
}

/// Without the clients nothing is tested, so that is a failure and no reason to skip.
fn must(command: &mut Command, what: &str) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("cannot {what}: {:?}: {error}", command.get_program()));
    assert!(
        output.status.success(),
        "cannot {what}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
