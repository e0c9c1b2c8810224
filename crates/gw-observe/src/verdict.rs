//! What is said of an exchange that has ended: who ended it and when, and where the time went.

use std::time::Duration;

use gw_core::Code;
use gw_core::record::Exchange;

use crate::answer::Said;
use crate::error::INTERNAL;
use crate::vocabulary::{Class, EndedBy, Phase, ResponseSource};

/// How an exchange ended, as the layer saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// The answer was handed out to its end.
    Complete,
    /// The answer's body failed.
    BodyError,
    /// The service failed instead of answering.
    Failed,
    /// The future or the answer's body was dropped before its time.
    Dropped,
    /// The service or the answer's body panicked.
    Panicked,
}

/// What is said about an exchange that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) ended_by: EndedBy,
    pub(crate) phase: Phase,
    /// None if there was no answer.
    pub(crate) source: Option<ResponseSource>,
    pub(crate) code: Option<&'static Code>,
    how: How,
}

impl Verdict {
    /// `refused` is the code of an answer that is a refusal; `answered` tells whether there was an answer at all.
    pub(crate) fn new(
        how: How,
        answered: bool,
        refused: Option<&'static Code>,
        exchange: &Exchange,
    ) -> Self {
        let tried = exchange.attempts > 0;
        let source = answered.then_some(if refused.is_some() {
            ResponseSource::Gateway
        } else if tried {
            ResponseSource::Upstream
        } else {
            ResponseSource::Service
        });
        let mut code = refused.or(exchange.code);
        let ended_by = match how {
            How::Complete if refused.is_some() => EndedBy::Gateway,
            How::Complete => EndedBy::Completed,
            // Whoever cut the answer on purpose has noted why.
            How::BodyError
                if exchange.code.is_none() && source == Some(ResponseSource::Upstream) =>
            {
                EndedBy::Upstream
            }
            How::BodyError | How::Failed => EndedBy::Gateway,
            How::Panicked => {
                code = code.or(Some(&INTERNAL));
                EndedBy::Gateway
            }
            How::Dropped => EndedBy::Client,
        };
        let before_the_head = if tried {
            Phase::Upstream
        } else {
            Phase::Request
        };
        let phase = match how {
            How::Complete if refused.is_some() => before_the_head,
            How::Complete => Phase::Done,
            _ if answered => Phase::Response,
            _ => before_the_head,
        };
        Self {
            ended_by,
            phase,
            source,
            code,
            how,
        }
    }

    /// The class of a request that went wrong.
    pub(crate) fn failure(&self, said: Said) -> Option<Class> {
        match (self.how, said) {
            (How::BodyError | How::Failed | How::Panicked, _) => Some(Class::Error),
            (How::Complete | How::Dropped, Said::Class(Some(class))) => Some(class),
            (How::Dropped, Said::Class(None) | Said::Open) => Some(Class::ClientError),
            // Clients take an end without a status for a failure.
            (How::Complete, Said::Open) => Some(Class::Error),
            (How::Complete, Said::Class(None)) => None,
        }
    }
}

/// Where the time went. The last three add up to the first one, each in whole microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) total: Duration,
    pub(crate) upstream: Duration,
    pub(crate) gateway: Duration,
    pub(crate) client: Duration,
}

impl Times {
    /// A wait for the client within a wait for the upstream counts as the client's.
    pub(crate) fn new(total: Duration, upstream: Duration, client: Duration) -> Self {
        let whole = |duration: Duration| {
            Duration::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
        };
        let total = whole(total);
        let client = whole(client).min(total);
        let upstream = whole(upstream).min(total.saturating_sub(client));
        let gateway = total.saturating_sub(client).saturating_sub(upstream);
        Self {
            total,
            upstream,
            gateway,
            client,
        }
    }
}

#[cfg(test)]
mod tests {
    use gw_core::GrpcStatus;
    use http::StatusCode;
    use proptest::prelude::*;

    use super::*;

    const CODE: Code = Code::new(
        "OVERLOADED",
        StatusCode::SERVICE_UNAVAILABLE,
        "A test.",
        GrpcStatus::Unavailable,
    );

    fn verdict(
        how: How,
        answered: bool,
        refused: bool,
        attempts: u32,
        noted: bool,
    ) -> (EndedBy, Phase, Option<ResponseSource>, Option<&'static str>) {
        let mut exchange = Exchange::default();
        exchange.attempts = attempts;
        exchange.code = noted.then_some(&CODE);
        let verdict = Verdict::new(how, answered, refused.then_some(&CODE), &exchange);
        let code = verdict.code.map(Code::name);
        (verdict.ended_by, verdict.phase, verdict.source, code)
    }

    #[test]
    fn who_ended_it_and_when() {
        use {EndedBy as By, ResponseSource as Source};
        let code = Some("OVERLOADED");
        for (seen, said) in [
            // how, answered, refused, attempts, noted
            (
                (How::Complete, true, false, 0, false),
                (By::Completed, Phase::Done, Some(Source::Service), None),
            ),
            (
                (How::Complete, true, false, 2, false),
                (By::Completed, Phase::Done, Some(Source::Upstream), None),
            ),
            (
                (How::Complete, true, true, 0, true),
                (By::Gateway, Phase::Request, Some(Source::Gateway), code),
            ),
            (
                (How::Complete, true, true, 1, true),
                (By::Gateway, Phase::Upstream, Some(Source::Gateway), code),
            ),
            (
                (How::Dropped, false, false, 0, false),
                (By::Client, Phase::Request, None, None),
            ),
            (
                (How::Dropped, false, false, 1, false),
                (By::Client, Phase::Upstream, None, None),
            ),
            (
                (How::Dropped, true, false, 1, false),
                (By::Client, Phase::Response, Some(Source::Upstream), None),
            ),
            (
                (How::BodyError, true, false, 1, false),
                (By::Upstream, Phase::Response, Some(Source::Upstream), None),
            ),
            (
                (How::BodyError, true, false, 1, true),
                (By::Gateway, Phase::Response, Some(Source::Upstream), code),
            ),
            (
                (How::BodyError, true, false, 0, false),
                (By::Gateway, Phase::Response, Some(Source::Service), None),
            ),
            (
                (How::Failed, false, false, 0, false),
                (By::Gateway, Phase::Request, None, None),
            ),
            (
                (How::Panicked, false, false, 0, false),
                (By::Gateway, Phase::Request, None, Some("INTERNAL")),
            ),
            (
                (How::Panicked, true, false, 1, false),
                (
                    By::Gateway,
                    Phase::Response,
                    Some(Source::Upstream),
                    Some("INTERNAL"),
                ),
            ),
        ] {
            let (how, answered, refused, attempts, noted) = seen;
            assert_eq!(
                verdict(how, answered, refused, attempts, noted),
                said,
                "{seen:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn the_three_times_add_up(total in 0u64..1 << 50, upstream in 0u64..1 << 51, client in 0u64..1 << 51) {
            let nanos = Duration::from_nanos;
            let times = Times::new(nanos(total), nanos(upstream), nanos(client));
            prop_assert_eq!(times.upstream + times.gateway + times.client, times.total);
            prop_assert!(nanos(total) - times.total < Duration::from_micros(1));
            if upstream + client <= total {
                prop_assert!(nanos(upstream) - times.upstream < Duration::from_micros(1));
                prop_assert!(nanos(client) - times.client < Duration::from_micros(1));
            }
        }
    }
}
