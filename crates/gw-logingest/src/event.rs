//! One log event: the schema that it must meet, and the normalised form in which it is kept.
//!
//! | member | rule |
//! |---|---|
//! | `trace_id` | required; 32 lower-case hex digits, not all zero |
//! | `service` | required; a non-empty string |
//! | `level` | required; `trace` `debug` `info` `warn` (`warning`) `error` `fatal`, in any case |
//! | `message` | required; a string |
//! | `timestamp` or `@timestamp` | RFC 3339 text or integer milliseconds since 1970; out of the window: the time of receipt is used and the event is flagged. With both, `@timestamp` counts, and `timestamp`, a text or an integer, moves below `fields` |
//! | `span_id` | 16 lower-case hex digits, not all zero |
//! | `event_id` | 1 to 128 visible ASCII characters; with the client's name in front, the document's id |
//! | `kind`, `logger` | non-empty strings |
//! | `fields` | an object |
//! | anything else | moved below `fields` |
//!
//! The intake adds `ingest`, by which events can be sorted as they came: `received`, the time of receipt, and `seq`, the place in the
//! upload, from 0, which is the `index` of the receipt's errors. Between uploads of one millisecond there is no order. `timestamp`
//! (`missing`, `out_of_window`), `claimed` and `wrapped` are there where they apply.
//!
//! A member that is `null` counts as absent. A name that occurs twice in one object is refused everywhere, since
//! search engines refuse it too. A [`Violation`] says what and where, and never repeats a value.

mod level;
mod limits;
mod members;
mod numbers;
mod time;
mod validator;
mod violation;
mod walk;

pub use self::level::Level;
pub use self::limits::EventLimits;
pub(crate) use self::validator::collapsed_report;
pub use self::validator::{Arrival, Checked, Scratch, Validator, is_json};
pub use self::violation::{Violation, ViolationCode};

#[cfg(test)]
mod tests;
