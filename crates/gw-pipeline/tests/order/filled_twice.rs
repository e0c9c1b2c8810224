use gw_pipeline::{Pipeline, plain};
use tower_layer::Identity;

fn main() {
    Pipeline::builder().admit(plain(Identity::new())).admit(plain(Identity::new()));
}
