use std::sync::Arc;

use gw_core::Respond;
use tower_layer::Layer;

use super::{Description, InTime, Terminal, TerminalLayer};
use crate::outbound::{Answer, AnswerLayer};

/// A pipeline without its end, as a layer.
///
/// Applying it clones handles only; all state lives in the stages.
#[derive(Debug, Clone)]
pub struct PipelineLayer<Outer, Inner, R = Respond> {
    outer: Outer,
    answer: AnswerLayer<R>,
    inner: Inner,
    description: Arc<Description>,
}

impl<Outer, Inner, R> PipelineLayer<Outer, Inner, R> {
    pub(super) const fn new(
        outer: Outer,
        answer: AnswerLayer<R>,
        inner: Inner,
        description: Arc<Description>,
    ) -> Self {
        Self {
            outer,
            answer,
            inner,
            description,
        }
    }

    /// What it is made of, in order, but for the service it is put around.
    pub fn describe(&self) -> &Description {
        &self.description
    }
}

impl<S, Outer, Inner, R> Layer<S> for PipelineLayer<Outer, Inner, R>
where
    Inner: Layer<Terminal<InTime<S>>>,
    Outer: Layer<Answer<Inner::Service, R>>,
    R: Clone,
{
    type Service = Outer::Service;

    fn layer(&self, service: S) -> Self::Service {
        self.outer.layer(
            self.answer
                .layer(self.inner.layer(TerminalLayer.layer(InTime::new(service)))),
        )
    }
}
