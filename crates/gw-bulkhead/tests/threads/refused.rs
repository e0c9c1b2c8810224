//! What becomes of a layer whose thread the system refuses.

use std::env;
use std::process::Command;

use gw_bulkhead::BulkheadLayer;

use crate::logs;
use crate::support::places;

/// Tells the process that is started that it is that one.
const CHILD: &str = "GW_BULKHEAD_NO_THREADS";

/// Story: the runtime that was meant for the thread was dropped on the caller, which inside async code is a panic.
#[tokio::test]
async fn a_thread_that_the_system_refuses_is_an_error_inside_async_code_too() {
    if env::var_os(CHILD).is_some() {
        let layer = BulkheadLayer::builder(places(1)).lane(logs().threads(1));
        let refused = layer.with_threads().build().unwrap_err();
        let said = "lanes.logs.threads: the system refused a thread";
        return assert_eq!(refused.to_string(), said);
    }
    // In a process of its own, in which threads want a stack that no system gives. The test itself has none there.
    let test = "refused::a_thread_that_the_system_refuses_is_an_error_inside_async_code_too";
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env("RUST_MIN_STACK", (1_u64 << 60).to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    // A name that no test has would be a success as well.
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{failed}"
    );
}
