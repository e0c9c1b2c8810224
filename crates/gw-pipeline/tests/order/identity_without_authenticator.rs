use gw_core::stage::{FactSet, HasIdentity, Stage};
use gw_pipeline::Pipeline;

struct ScopesLayer;

impl<F: FactSet + HasIdentity> Stage<F> for ScopesLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

fn main() {
    Pipeline::builder().authorize(ScopesLayer);
}
