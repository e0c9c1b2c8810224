use gw_core::context::UpstreamName;
use gw_pipeline::upstream::Upstream;
use tower_layer::Identity;

fn main() {
    let upstream = || Upstream::builder(UpstreamName::new("orders"));
    upstream().breaker(Identity::new()).retry(Identity::new());
    upstream().retry(Identity::new()).retry(Identity::new());
}
