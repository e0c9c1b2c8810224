use gw_core::classify::{Classify as _, ContentClassifier, Outcome};
use gw_core::on_reject::Caller;
use http::Response;

/// What the retry layer did for an answer.
///
/// It is in the extensions of answers to requests that were sent more than once, or that failed and might have been sent again. An
/// answer without one was the first attempt's, and there was nothing to try again, see [`RetryInfo::of`]. An error takes it along
/// to the answer that it becomes, if it can ([`AttemptError::with_extension`](crate::AttemptError::with_extension)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryInfo {
    /// How often the request was sent by this layer. The second copies of a [`HedgeLayer`](crate::hedge::HedgeLayer) further in are
    /// not counted.
    pub attempts: u32,
    /// Why it was not sent once more.
    pub stopped_because: Stopped,
}

/// Why a request is not sent once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stopped {
    /// It was answered, by whatever was no failure.
    Answered,
    /// It failed, and neither such a failure nor such a request is tried again: by the policy or the mode, or because it was
    /// tried again further out.
    NotRetryable,
    /// It was sent as often as its policy allows.
    Attempts,
    /// The budget is used up.
    Budget,
    /// A retry would not have ended before the deadline.
    Deadline,
    /// The upstream asks not to, or for a longer wait than is allowed.
    Pushback,
    /// Its body was too large to be kept, or had not been read to its end.
    Body,
    /// The inner service was not ready for it.
    NotReady,
    /// A layer further in refused it before it was sent: a breaker that has opened, a full pool.
    Refused,
    /// It may have had an effect, and is not known to be one that can be had twice.
    Unsafe,
    /// It failed by no doing of the upstream's: a refusal of a layer inside, or the client's body.
    Local,
    /// The layer or the policy is in shadow mode; it would have been sent again.
    Shadow,
}

impl Stopped {
    /// Of an answer that is none to try again, whatever else there is to say.
    pub(crate) fn at<B>(response: &Response<B>) -> Self {
        // Who called is not known here, and the content says enough for a log.
        match ContentClassifier.head(Caller::Grpc, response) {
            None | Some(Outcome::Success) => Self::Answered,
            Some(_) => Self::NotRetryable,
        }
    }

    /// The word for logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::NotRetryable => "not_retryable",
            Self::Attempts => "attempts",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Pushback => "pushback",
            Self::Body => "body",
            Self::NotReady => "not_ready",
            Self::Refused => "refused",
            Self::Unsafe => "unsafe",
            Self::Local => "local",
            Self::Shadow => "shadow",
        }
    }

    /// Whether layers further out are to be told not to try again either, after so many `attempts`: they would do what this one
    /// has just done, or has been kept from doing. Not in shadow mode, which changes nothing.
    pub(crate) const fn concerns_others(self, attempts: u32) -> bool {
        match self {
            Self::Attempts | Self::Budget | Self::Pushback | Self::Refused => true,
            // There was no time or no place for one more, but there was for some.
            Self::Deadline | Self::NotReady => attempts > 1,
            _ => false,
        }
    }
}

impl RetryInfo {
    /// What was done for `response`. Of one that the layer has left as it was the head tells.
    pub fn of<B>(response: &Response<B>) -> Self {
        let info = response.extensions().get().copied();
        info.unwrap_or_else(|| Self {
            attempts: 1,
            stopped_because: Stopped::at(response),
        })
    }
}
