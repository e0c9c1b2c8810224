//! Running out of file descriptors.

use std::fs::File;
use std::process::Command;

use gw_core::context::UpstreamName;
use gw_pipeline::upstream::{self as gateway, ErrorKind};
use gw_testkit::upstream::{Reply, Upstream, always};
use gw_testkit::within;
use http::Uri;

use crate::support::{NAME, fetch, forward, get, plain, refused};

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
/// opened and stayed open when there were descriptors again. For upstreams with names it went on doing so for longer: without a
/// descriptor for its files, the C library may say that there is no such name.
async fn run_out() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let name = Uri::try_from(format!("http://localhost:{}", upstream.addr().port())).unwrap();
    let named = gateway::Upstream::builder(UpstreamName::new(NAME)).endpoint(name);
    // What was connected stays so, that no descriptor comes free at the wrong moment.
    let mut asked = Vec::new();
    // The name is first looked for before the C library has read its files, and then after.
    for _ in 0..2 {
        let by_address = forward(&plain(&upstream));
        let by_name = forward(&named.clone().build().unwrap());
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        for forward in [&by_address, &by_name] {
            assert_eq!(
                refused(forward, get("/")).await,
                ("OVERLOADED", ErrorKind::NoDescriptors)
            );
        }
        drop(taken);
        for forward in [by_address, by_name] {
            assert_eq!(fetch(&forward, get("/")).await.0, 200);
            asked.push(forward);
        }
    }
}
