//! Stages on the way out: what every answer passes, whoever made it.

mod answer;
mod replace;
mod response_headers;

pub use self::answer::{Answer, AnswerFuture, AnswerLayer};
pub(crate) use self::replace::ReplaceBody;
pub use self::response_headers::ResponseHeaders;
