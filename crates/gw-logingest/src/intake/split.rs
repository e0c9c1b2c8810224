//! Finds the events in a body, chunk by chunk as it arrives.
//!
//! What is held is at most one event that is cut by the end of a chunk; an event that lies within one chunk is not
//! copied. Whether an event is well-formed is not judged here, only where it ends.

mod document;
mod lines;
mod scan;

use std::fmt;

use self::document::Document;
use self::lines::Lines;

/// The forms in which events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// `application/json`: an array of events, `{"events":[…]}`, or one event.
    Json,
    /// `application/x-ndjson`: an event on each line; lines of white space count as none.
    Ndjson,
}

impl Format {
    /// The name: `json` or `ndjson`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Ndjson => "ndjson",
        }
    }
}

/// What a body may measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitLimits {
    /// Bytes of the whole body.
    pub body_bytes: u64,
    /// Events in it.
    pub events: usize,
    /// Bytes of one event.
    pub event_bytes: usize,
}

/// One event of a body, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// The bytes of an event, without white space around them.
    Event(&'a [u8]),
    /// An event over [`SplitLimits::event_bytes`]; its bytes were dropped.
    Oversize,
}

/// Why a body as a whole is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SplitFault {
    /// Not a JSON document of one of the forms.
    Malformed(Malformed),
    /// More than [`SplitLimits::body_bytes`].
    BodyTooLarge,
    /// More than [`SplitLimits::events`].
    TooManyEvents,
    /// Who [takes](Take) the events has made more of them than it has room for.
    BatchTooLarge {
        /// The most bytes that it has room for.
        limit: usize,
    },
}

/// What is wrong with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// Not JSON.
    Syntax,
    /// It ends too early.
    Incomplete,
    /// Nested deeper than 127.
    TooDeep,
    /// An object with `events` has other members, too, which nobody would read.
    UnknownMember,
}

impl Malformed {
    /// The stable name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "invalid_json",
            Self::Incomplete => "incomplete_json",
            Self::TooDeep => "too_deep",
            Self::UnknownMember => "unknown_member",
        }
    }
}

impl fmt::Display for SplitFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(what) => write!(f, "malformed document: {}", what.as_str()),
            Self::BodyTooLarge => f.write_str("the body is larger than allowed"),
            Self::TooManyEvents => f.write_str("the body holds more events than allowed"),
            Self::BatchTooLarge { limit } => write!(f, "the batch is larger than {limit} bytes"),
        }
    }
}

impl std::error::Error for SplitFault {}

/// What takes the events that a [`Splitter`] finds.
pub trait Take {
    /// Takes the next event.
    ///
    /// # Errors
    ///
    /// A fault ends the splitting; the splitter hands it on.
    fn take(&mut self, piece: Piece<'_>) -> Result<(), SplitFault>;
}

/// Splits one body.
///
/// # Examples
///
/// ```
/// use gw_logingest::intake::{Format, Piece, SplitFault, SplitLimits, Splitter, Take};
///
/// struct Count(usize);
///
/// impl Take for Count {
///     fn take(&mut self, _: Piece<'_>) -> Result<(), SplitFault> {
///         self.0 += 1;
///         Ok(())
///     }
/// }
///
/// let limits = SplitLimits { body_bytes: 1000, events: 10, event_bytes: 100 };
/// let (mut splitter, mut count) = (Splitter::new(Format::Json, limits), Count(0));
/// splitter.push(br#"[{"message":"o"#, &mut count)?;
/// splitter.push(br#"ne"},{"message":"two"}]"#, &mut count)?;
/// splitter.finish(&mut count)?;
/// assert_eq!(count.0, 2);
/// # Ok::<(), SplitFault>(())
/// ```
#[derive(Debug)]
pub struct Splitter {
    body_bytes: u64,
    limit: u64,
    form: Form,
    gate: Gate,
}

#[derive(Debug)]
enum Form {
    Document(Document),
    Lines(Lines),
}

/// Counts the events on their way out.
#[derive(Debug)]
struct Gate {
    passed: usize,
    limit: usize,
    event_bytes: usize,
}

impl Gate {
    fn pass(&mut self, piece: Piece<'_>, taker: &mut impl Take) -> Result<(), SplitFault> {
        if self.passed == self.limit {
            return Err(SplitFault::TooManyEvents);
        }
        self.passed += 1;
        taker.take(piece)
    }

    fn pass_bytes(&mut self, event: &[u8], taker: &mut impl Take) -> Result<(), SplitFault> {
        let fits = event.len() <= self.event_bytes;
        let piece = if fits {
            Piece::Event(event)
        } else {
            Piece::Oversize
        };
        self.pass(piece, taker)
    }
}

impl Splitter {
    /// A splitter for one body.
    pub fn new(format: Format, limits: SplitLimits) -> Self {
        Self {
            body_bytes: 0,
            limit: limits.body_bytes,
            form: match format {
                Format::Json => Form::Document(Document::default()),
                Format::Ndjson => Form::Lines(Lines::default()),
            },
            gate: Gate {
                passed: 0,
                limit: limits.events,
                event_bytes: limits.event_bytes,
            },
        }
    }

    /// Takes the next bytes of the body and hands on the events that end in them.
    ///
    /// # Errors
    ///
    /// A fault of the body, or the one that `taker` returned. The splitter is useless afterwards.
    pub fn push(&mut self, chunk: &[u8], taker: &mut impl Take) -> Result<(), SplitFault> {
        self.body_bytes = self.body_bytes.saturating_add(chunk.len() as u64);
        if self.body_bytes > self.limit {
            return Err(SplitFault::BodyTooLarge);
        }
        match &mut self.form {
            Form::Document(document) => document.push(chunk, &mut self.gate, taker),
            Form::Lines(lines) => lines.push(chunk, &mut self.gate, taker),
        }
    }

    /// The body has ended: hands on the last event.
    ///
    /// # Errors
    ///
    /// As [`Splitter::push`].
    pub fn finish(self, taker: &mut impl Take) -> Result<(), SplitFault> {
        let mut gate = self.gate;
        match self.form {
            Form::Document(document) => document.finish(),
            Form::Lines(lines) => lines.finish(&mut gate, taker),
        }
    }

    /// The bytes of the body so far.
    pub const fn body_bytes(&self) -> u64 {
        self.body_bytes
    }
}

/// The part of an event that earlier chunks held. It never grows past the limit: an event that does is dropped.
#[derive(Debug, Default)]
struct Carry {
    bytes: Vec<u8>,
    oversize: bool,
}

impl Carry {
    fn extend(&mut self, more: &[u8], limit: usize) {
        if self.oversize || self.bytes.len() + more.len() > limit {
            self.oversize = true;
            self.bytes = Vec::new();
        } else {
            self.bytes.extend_from_slice(more);
        }
    }

    const fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.oversize
    }

    /// Hands on the event that ends with `rest`.
    fn pass(
        &mut self,
        rest: &[u8],
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<(), SplitFault> {
        if self.is_empty() {
            return gate.pass_bytes(rest, taker);
        }
        self.extend(rest, gate.event_bytes);
        let oversize = std::mem::take(&mut self.oversize);
        let piece = if oversize {
            Piece::Oversize
        } else {
            Piece::Event(&self.bytes)
        };
        gate.pass(piece, taker)?;
        self.bytes.clear();
        Ok(())
    }
}

const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

#[cfg(test)]
mod tests;
