//! Running out of file descriptors.

use std::future::Future;
use std::process::Command;

use crate::within;

/// Tells the process that is started that it is that one.
const CHILD: &str = "GW_TESTKIT_FEW_DESCRIPTORS";

/// Runs a test in a process of its own, which has no more than 64 file descriptors.
///
/// The limit is a process's, and other tests run in this one. So the test binary is started again for this test alone, and
/// `run` runs there, on a runtime with one thread. `test` is the test's full name without the crate's, as the binary lists it.
///
/// # Examples
///
/// ```
/// # async fn run_out() {}
/// // In the module `descriptors` of a test binary, with `#[test]`.
/// fn recovers() {
///     gw_testkit::with_few_descriptors("descriptors::recovers", run_out());
/// }
/// ```
///
/// # Panics
///
/// If there is no `sh`, if `run` panics or takes longer than [`PATIENCE`](crate::PATIENCE), and if there is no such test. The
/// message has all that the other process has said.
pub fn with_few_descriptors(test: &str, run: impl Future<Output = ()>) {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        return runtime.block_on(within("the end of what runs with few descriptors", run));
    }
    let binary = std::env::current_exe().expect("the test's own binary");
    let output = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -n 64 && exec "$0" --exact "$1" --nocapture"#,
        ])
        .arg(binary)
        .arg(test)
        .env(CHILD, "1")
        .output()
        .expect("a shell");
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    // A name that no test has would be a success as well.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{failed}"
    );
}
