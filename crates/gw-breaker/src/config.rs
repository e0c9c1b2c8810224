use std::fmt;

/// What is done with what was decided. It can be changed while requests run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mode {
    /// Decides and acts.
    #[default]
    Enforce,
    /// Decides and counts, and lets everything pass.
    Shadow,
    /// Neither.
    Off,
}

/// What cannot be built: which field, and the rule that is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: &'static str,
    rule: &'static str,
}

impl ConfigError {
    pub(crate) const fn new(field: &'static str, rule: &'static str) -> Self {
        Self { field, rule }
    }

    /// The field.
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// The rule.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

impl std::error::Error for ConfigError {}
