//! Running out of file descriptors.

use std::fs::File;

use gw_pipeline::upstream::ErrorKind;
use gw_testkit::upstream::{Reply, Upstream, always};
use gw_testkit::with_few_descriptors;

use crate::support::{fetch, forward, get, plain, refused};

#[test]
fn want_of_them_is_not_the_upstreams_fault() {
    with_few_descriptors(
        "descriptors::want_of_them_is_not_the_upstreams_fault",
        run_out(),
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
