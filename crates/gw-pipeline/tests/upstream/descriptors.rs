//! Running out of file descriptors.

use std::fs::File;

use gw_core::context::UpstreamName;
use gw_pipeline::upstream::{self as gateway, ErrorKind};
use gw_testkit::upstream::{Reply, Upstream, always};
use gw_testkit::with_few_descriptors;
use http::Uri;

use crate::support::{NAME, fetch, forward, get, plain, refused};

#[test]
fn want_of_them_is_not_the_upstreams_fault() {
    with_few_descriptors(
        "descriptors::want_of_them_is_not_the_upstreams_fault",
        run_out(),
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
