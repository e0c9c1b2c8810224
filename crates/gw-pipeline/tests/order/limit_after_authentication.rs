use gw_pipeline::{Pipeline, plain};
use tower_layer::Identity;

fn main() {
    Pipeline::builder().authenticate(plain(Identity::new())).pre_auth_limit(plain(Identity::new()));
}
