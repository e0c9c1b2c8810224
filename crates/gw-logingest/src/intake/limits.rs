use std::fmt::Write as _;

use http::HeaderValue;

use super::watermarks::Regime;
use crate::batch::Class;

/// Whom a limit concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// The client that is told.
    Client,
    /// Everybody.
    All,
}

impl Scope {
    /// The name: `client` or `all`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::All => "all",
        }
    }
}

/// What clients should hold back, and for how long. Every answer says it in the field
/// [`x-gw-log-limits`](super::fields::LIMITS), receipts in their body as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassLimit {
    /// Whole seconds, rounded up.
    pub seconds: u32,
    /// The classes; none stand for all.
    pub classes: &'static [Class],
    /// Whom it concerns.
    pub scope: Scope,
}

impl ClassLimit {
    /// How long a class is to be held back while the queue stays as full. Long enough to matter, short enough that nobody
    /// holds back for long after it has drained.
    const HOLD: u32 = 60;
    const OWN: &[Class] = &[Class::Own];
    const DEBUG: &[Class] = &[Class::Debug];
    const ALL_BUT_AUDIT: &[Class] = &[Class::Error, Class::Normal, Class::Debug, Class::Own];

    /// The limits that a regime means.
    pub(super) fn of_regime(regime: Regime) -> Vec<Self> {
        let hold = |holds: bool, classes| {
            holds.then_some(Self {
                seconds: Self::HOLD,
                classes,
                scope: Scope::All,
            })
        };
        [
            hold(regime.suppress_own, Self::OWN),
            hold(regime.shed_debug, Self::DEBUG),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// The limit that goes with a refusal: `Retry-After` in the words of this field.
    pub(super) const fn of_refusal(seconds: u32, scope: Scope, audit_passes: bool) -> Self {
        Self {
            seconds,
            classes: if audit_passes {
                Self::ALL_BUT_AUDIT
            } else {
                &[]
            },
            scope,
        }
    }

    /// The value of the field.
    pub(super) fn header_value(limits: &[Self]) -> HeaderValue {
        // Said instead of an empty value, which some intermediaries drop.
        const NO_LIMIT: HeaderValue = HeaderValue::from_static("0::client");
        let mut text = String::new();
        for limit in limits {
            if !text.is_empty() {
                text.push(',');
            }
            // Writing to a string does not fail.
            _ = write!(text, "{}:", limit.seconds);
            for (n, class) in limit.classes.iter().enumerate() {
                text.push_str(if n == 0 { "" } else { ";" });
                text.push_str(class.as_str());
            }
            _ = write!(text, ":{}", limit.scope.as_str());
        }
        match text.is_empty() {
            true => NO_LIMIT,
            // Digits and words only.
            false => HeaderValue::try_from(text).unwrap_or(NO_LIMIT),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field() {
        assert_eq!(ClassLimit::header_value(&[]), "0::client");
        let mut limits = ClassLimit::of_regime(Regime {
            suppress_own: true,
            shed_debug: true,
            audit_only: false,
        });
        assert_eq!(
            ClassLimit::header_value(&limits),
            "60:self:all,60:debug:all"
        );
        limits.push(ClassLimit::of_refusal(7, Scope::All, true));
        limits.push(ClassLimit::of_refusal(1, Scope::Client, false));
        assert_eq!(
            ClassLimit::header_value(&limits),
            "60:self:all,60:debug:all,7:error;normal;debug;self:all,1::client"
        );
    }
}
