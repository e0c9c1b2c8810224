//! A pipeline as data.

mod type_name;
mod upstream;

use std::fmt;

use gw_core::stage::{FactSet, Stage};

use self::type_name::TypeName;
pub use self::upstream::{LayerDescription, UpstreamDescription};
use super::slot::Slot;

/// A pipeline as data: what it is made of, the outermost first.
///
/// For people to read and to compare in reviews, one line for each part, and for [`lint`](Self::lint).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    stages: Vec<StageDescription>,
    upstreams: Vec<UpstreamDescription>,
}

/// One part of a pipeline: what fills a slot, or the answer stage, which is always there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageDescription {
    slot: &'static str,
    filled_by: TypeName,
    kind: StageKind,
    facts: HeldFacts,
}

/// What kind of thing a part of a pipeline is.
// No `Stage` and no `Plain`: what the compiler says of a wrong order would call the types of these names by their paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StageKind {
    /// A [`Stage`], which states the facts that it needs and gives.
    Typed,
    /// A layer from elsewhere, wrapped by [`plain`](super::plain): it gives no fact.
    Foreign,
    /// The answer stage. It is no slot; its type is that of its renderer.
    Answer,
    /// The service at the end. The pipeline ends its exchanges at their deadline.
    Service,
    /// The service at the end, which keeps the deadline itself.
    ServiceKeepingDeadline,
}

/// Facts that hold at a place in a pipeline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeldFacts {
    /// The request carries a [`RouteMatch`](gw_core::context::RouteMatch).
    pub route: bool,
    /// The request carries a [`ClientAddr`](gw_core::context::ClientAddr).
    pub client_addr: bool,
    /// The request carries an [`Identity`](gw_core::context::Identity).
    pub identity: bool,
}

/// The answer stage's name among those of the slots.
const ANSWER: &str = "answer";

impl Description {
    /// A pipeline with an answer stage that renders by `R`, and nothing else.
    pub(super) fn new<R>() -> Self {
        Self {
            stages: vec![StageDescription {
                slot: ANSWER,
                filled_by: TypeName::of::<R>(),
                kind: StageKind::Answer,
                facts: HeldFacts::default(),
            }],
            upstreams: Vec::new(),
        }
    }

    /// With another renderer.
    pub(super) fn answer<R>(mut self) -> Self {
        for stage in &mut self.stages {
            if stage.kind == StageKind::Answer {
                stage.filled_by = TypeName::of::<R>();
            }
        }
        self
    }

    /// With a stage in front of the answer stage, behind which nothing stands yet: the order of the slots sees to that.
    pub(super) fn outer<S: Slot, T: Stage<F>, F: FactSet>(mut self) -> Self {
        let stage = StageDescription::of::<S, T, F>();
        if let Some(answer) = self.stages.pop() {
            let facts = stage.facts;
            let answer = StageDescription { facts, ..answer };
            self.stages.extend([stage, answer]);
        }
        self
    }

    /// With a stage behind the answer stage.
    pub(super) fn inner<S: Slot, T: Stage<F>, F: FactSet>(mut self) -> Self {
        self.stages.push(StageDescription::of::<S, T, F>());
        self
    }

    /// With the service `T` at its end.
    pub(super) fn end<S: Slot, T, F: FactSet>(mut self, kind: StageKind) -> Self {
        self.stages.push(StageDescription {
            slot: S::NAME,
            filled_by: TypeName::of::<T>(),
            kind,
            facts: HeldFacts::of::<F>(),
        });
        self
    }

    /// With what stands behind the service at its end.
    pub(super) fn behind(mut self, upstreams: Vec<UpstreamDescription>) -> Self {
        self.upstreams = upstreams;
        self
    }

    /// Its parts, the outermost first: the filled slots, and the answer stage, whose name is `answer`.
    pub fn stages(&self) -> &[StageDescription] {
        &self.stages
    }

    /// What fills a slot, by the slot's name.
    pub fn stage(&self, slot: &str) -> Option<&StageDescription> {
        self.stages.iter().find(|stage| stage.slot == slot)
    }

    /// The upstreams behind the service at its end, as far as the [builder](super::Builder::upstreams) was told of them.
    pub fn upstreams(&self) -> &[UpstreamDescription] {
        &self.upstreams
    }
}

impl StageDescription {
    fn of<S: Slot, T: Stage<F>, F: FactSet>() -> Self {
        let (filled_by, kind) = match T::stands_for() {
            Some(layer) => (TypeName(layer), StageKind::Foreign),
            None => (TypeName::of::<T>(), StageKind::Typed),
        };
        Self {
            slot: S::NAME,
            filled_by,
            kind,
            facts: HeldFacts::of::<T::Facts>(),
        }
    }

    /// The slot's name, as the builder's method is called.
    pub const fn slot(&self) -> &'static str {
        self.slot
    }

    /// The type that fills it, as the compiler names it: for people, not for comparison by programs.
    pub const fn type_name(&self) -> &'static str {
        self.filled_by.0
    }

    /// The same without path and parameters.
    pub fn short_name(&self) -> &'static str {
        self.filled_by.short()
    }

    /// What kind of thing it is.
    pub const fn kind(&self) -> StageKind {
        self.kind
    }

    /// The facts that hold behind it.
    pub const fn facts(&self) -> HeldFacts {
        self.facts
    }
}

impl HeldFacts {
    const fn of<F: FactSet>() -> Self {
        Self {
            route: F::ROUTE,
            client_addr: F::CLIENT_ADDR,
            identity: F::IDENTITY,
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            writeln!(f, "{stage}")?;
        }
        for upstream in &self.upstreams {
            writeln!(f, "{upstream}")?;
        }
        Ok(())
    }
}

impl fmt::Display for StageDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            slot, filled_by, ..
        } = self;
        let remark = match self.kind {
            StageKind::Typed | StageKind::Answer | StageKind::Service => "",
            StageKind::Foreign => " (plain)",
            StageKind::ServiceKeepingDeadline => " (keeps the deadline itself)",
        };
        write!(f, "{slot}: {filled_by}{remark}")
    }
}
