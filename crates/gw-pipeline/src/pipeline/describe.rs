use super::slot::Slot;

/// A pipeline as data: its stages in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Description {
    stages: Vec<StageDescription>,
}

/// One filled slot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageDescription {
    /// The slot's name.
    pub slot: &'static str,
    /// The type that fills it, as the compiler names it: for people, not for comparison.
    pub layer: &'static str,
}

impl Description {
    pub(super) fn with<S: Slot, T>(mut self) -> Self {
        self.stages.push(StageDescription {
            slot: S::NAME,
            layer: std::any::type_name::<T>(),
        });
        self
    }

    /// The filled slots, the outermost first.
    pub fn stages(&self) -> &[StageDescription] {
        &self.stages
    }
}
