use std::fmt::Write as _;

use gw_core::{OnReject, RejectContext, Rejection};
use http::{HeaderValue, Response};

use super::fields;
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

/// Renders the refusals of a layer in front of the intake as `R` does, with the field
/// [`x-gw-log-limits`](super::fields::LIMITS) that each answer of the intake has: for a rate limit
/// [by client](super::ByClient), say.
///
/// Answers of the intake pass it as they are. A rate limit that leaves the client nothing makes their `Retry-After` later, and not
/// the field, which speaks of the intake alone: whoever finds both goes by the later one.
#[derive(Debug, Clone)]
pub struct WithLimits<R> {
    on_reject: R,
    scope: Scope,
}

impl<R> WithLimits<R> {
    /// For a layer whose refusals concern these clients.
    pub const fn new(on_reject: R, scope: Scope) -> Self {
        Self { on_reject, scope }
    }
}

impl<R, B, E> OnReject<Response<B>, E> for WithLimits<R>
where
    R: OnReject<Response<B>, E>,
{
    type Error = R::Error;

    fn reject(
        &self,
        rejection: Rejection,
        context: &RejectContext,
    ) -> Result<Response<B>, R::Error> {
        let after = rejection.retry_after_hint();
        let limit = after.map(|after| ClassLimit::of_refusal(after.seconds(), self.scope, false));
        let mut response = self.on_reject.reject(rejection, context)?;
        let limits = ClassLimit::header_value(limit.as_slice());
        response.headers_mut().insert(fields::LIMITS, limits);
        Ok(response)
    }

    fn inner(error: E) -> R::Error {
        R::inner(error)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use gw_core::{Body, Respond, RetryAfter};
    use http::Request;

    use super::super::error::{MALFORMED_REQUEST, OVERLOADED};
    use super::*;

    #[test]
    fn refusals_in_front_of_the_intake_tell_their_limits() {
        let on_reject = WithLimits::new(Respond::new(), Scope::All);
        let context = RejectContext::of(&Request::new(()));
        let field = |rejection| {
            let answer: Result<Response<Body>, Infallible> = on_reject.reject(rejection, &context);
            answer.unwrap().headers()[fields::LIMITS].clone()
        };
        let after = RetryAfter::at_least(Duration::from_secs(7));
        let overloaded = Rejection::new(&OVERLOADED).retry_after(after);
        assert_eq!(field(overloaded), "7::all");
        assert_eq!(field(Rejection::new(&MALFORMED_REQUEST)), "0::client");
    }

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
