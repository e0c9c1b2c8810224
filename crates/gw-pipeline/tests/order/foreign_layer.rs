use gw_pipeline::Pipeline;
use tower_layer::Identity;

fn main() {
    Pipeline::builder().transform(Identity::new());
}
