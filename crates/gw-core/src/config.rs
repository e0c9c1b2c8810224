//! Settings that cannot be.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// A setting that breaks a rule, so that nothing can be built: which field, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    field: Cow<'static, str>,
    rule: Cow<'static, str>,
}

impl ConfigError {
    /// `field` as whoever sets it calls it, with the path to it where there is one: `lanes.logs.cap`. `rule` goes on from there:
    /// `must be at most 1`.
    pub fn new(field: impl Into<Cow<'static, str>>, rule: impl Into<Cow<'static, str>>) -> Self {
        let (field, rule) = (field.into(), rule.into());
        Self { field, rule }
    }

    /// The field that is wrong.
    pub fn field(&self) -> &str {
        &self.field
    }

    /// The rule that it breaks.
    pub fn rule(&self) -> &str {
        &self.rule
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

impl Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_field_and_rule() {
        let error = ConfigError::new("cap", "must be at most 1");
        assert_eq!((error.field(), error.rule()), ("cap", "must be at most 1"));
        assert_eq!(error.to_string(), "cap: must be at most 1");
    }
}
