use std::fmt;

use gw_core::context::UpstreamName;

use super::type_name::TypeName;

/// An upstream as data: the layers in front of its connections, the outermost first, and what is its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamDescription {
    pub(crate) name: UpstreamName,
    pub(crate) layers: Vec<LayerDescription>,
    pub(crate) endpoints: usize,
    pub(crate) has_endpoint_health: bool,
    pub(crate) max_connections: usize,
}

/// What fills one of an upstream's slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDescription {
    slot: &'static str,
    filled_by: TypeName,
}

impl UpstreamDescription {
    /// Its name.
    pub const fn name(&self) -> &UpstreamName {
        &self.name
    }

    /// The filled slots, the outermost first.
    pub fn layers(&self) -> &[LayerDescription] {
        &self.layers
    }

    /// What fills a slot, by the slot's name.
    pub fn layer(&self, slot: &str) -> Option<&LayerDescription> {
        self.layers.iter().find(|layer| layer.slot == slot)
    }

    /// How many endpoints it balances over.
    pub const fn endpoints(&self) -> usize {
        self.endpoints
    }

    /// Whether anybody is asked which of them are fit for use.
    pub const fn has_endpoint_health(&self) -> bool {
        self.has_endpoint_health
    }

    /// How many connections its pool may have.
    pub const fn max_connections(&self) -> usize {
        self.max_connections
    }
}

impl LayerDescription {
    #[cfg(feature = "upstream")]
    pub(crate) fn of<S: crate::pipeline::slot::Slot, T>() -> Self {
        Self {
            slot: S::NAME,
            filled_by: TypeName::of::<T>(),
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
}

impl fmt::Display for UpstreamDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name)?;
        for layer in &self.layers {
            write!(f, "{layer}, ")?;
        }
        let watched = if self.has_endpoint_health {
            " with endpoint health"
        } else {
            ""
        };
        write!(
            f,
            "attempt timer, balance over {}{watched}, pool of {}",
            self.endpoints, self.max_connections
        )
    }
}

impl fmt::Display for LayerDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slot, filled_by } = self;
        write!(f, "{slot} {filled_by}")
    }
}
