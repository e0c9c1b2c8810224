//! Running out of file descriptors.

use std::fs::File;
use std::process::Command;

use gw_pipeline::upstream::ErrorKind;
use gw_testkit::upstream::{Reply, Upstream, always};
use gw_testkit::within;

use crate::support::{fetch, forward, get, plain, refused};

const CHILD: &str = "GW_TEST_WITH_FEW_DESCRIPTORS";

/// The limit is the process's, so the test runs itself again in a process of its own.
#[test]
fn want_of_them_is_not_the_upstreams_fault() {
    if std::env::var_os(CHILD).is_some() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        return runtime.block_on(within("the upstream to be asked", run_out()));
    }
    let output = Command::new("sh")
        .args([
            "-c",
            r#"ulimit -n 64 && exec "$0" --exact "$1" --nocapture"#,
        ])
        .arg(std::env::current_exe().unwrap())
        .arg("descriptors::want_of_them_is_not_the_upstreams_fault")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{failed}"
    );
}

/// Story: a gateway without descriptors answered 502 and counted that as failures of its upstreams, so that their breakers
/// opened and stayed open when there were descriptors again.
async fn run_out() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    assert_eq!(
        refused(&forward, get("/")).await,
        ("OVERLOADED", ErrorKind::NoDescriptors)
    );
    drop(taken);
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
}
