use std::fmt;

use gw_core::FieldPath;

/// Why an event is refused, and where in it the fault lies. It never holds a value of the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    code: ViolationCode,
    pointer: FieldPath,
}

impl Violation {
    /// A fault of the whole event.
    pub fn whole(code: ViolationCode) -> Self {
        Self {
            code,
            pointer: FieldPath::default(),
        }
    }

    /// A fault at the place that these names lead to, from the root inwards.
    pub fn at<'a>(code: ViolationCode, path: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            code,
            pointer: FieldPath::new(path),
        }
    }

    /// What is wrong.
    pub const fn code(&self) -> ViolationCode {
        self.code
    }

    /// Where: a JSON pointer into the event, cut to a harmless form; empty for the event itself.
    pub const fn pointer(&self) -> &FieldPath {
        &self.pointer
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {:?}", self.code.as_str(), self.pointer.as_str())
    }
}

impl std::error::Error for Violation {}

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident $name:literal $message:literal,)+) => {
        /// The kinds of violations. Names never change once released: clients match on them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ViolationCode {
            $($(#[$doc])* $variant,)+
        }

        impl ViolationCode {
            /// All kinds.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The stable name.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// One static sentence for people.
            pub const fn message(self) -> &'static str {
                match self {
                    $(Self::$variant => $message,)+
                }
            }
        }
    };
}

codes! {
    /// Not JSON.
    InvalidJson "invalid_json" "The event is not valid JSON.",
    /// Not UTF-8.
    InvalidUtf8 "invalid_utf8" "The event is not valid UTF-8.",
    /// JSON, and not an object.
    NotAnObject "not_an_object" "An event must be a JSON object.",
    /// Longer than [`EventLimits::bytes`](crate::EventLimits::bytes).
    EventTooLarge "event_too_large" "The event is larger than allowed.",
    /// Deeper than [`EventLimits::depth`](crate::EventLimits::depth).
    TooDeep "too_deep" "The event is nested deeper than allowed.",
    /// More members than [`EventLimits::fields`](crate::EventLimits::fields).
    TooManyFields "too_many_fields" "The event has more fields than allowed.",
    /// A name occurs twice in one object.
    DuplicateField "duplicate_field" "The same name occurs twice.",
    /// A name is empty, too long, or holds control characters.
    InvalidKey "invalid_key" "A name is empty, too long or holds control characters.",
    /// Longer than [`EventLimits::exact_bytes`](crate::EventLimits::exact_bytes).
    StringTooLong "string_too_long" "The string is longer than allowed.",
    /// An integer outside the signed 64-bit range, or a number whose text is longer than
    /// [`EventLimits::exact_bytes`](crate::EventLimits::exact_bytes).
    NumberOutOfRange "number_out_of_range" "The number is out of range, or has too many digits.",
    /// JSON by its grammar, with a float beyond the largest one or half a surrogate pair.
    Unrepresentable "unrepresentable" "The event holds a number or a character that cannot be represented.",
    /// A required member is absent.
    MissingField "missing_field" "A required field is missing.",
    /// The value has another type than the schema says.
    WrongType "wrong_type" "The value has the wrong type.",
    /// An empty string where the schema asks for content.
    EmptyValue "empty_value" "The value must not be empty.",
    /// Not 32 lower-case hex digits, or all zero.
    InvalidTraceId "invalid_trace_id" "A trace id is 32 lower-case hex digits, not all zero.",
    /// Not 16 lower-case hex digits, or all zero.
    InvalidSpanId "invalid_span_id" "A span id is 16 lower-case hex digits, not all zero.",
    /// Not one of the levels.
    InvalidLevel "invalid_level" "The level is not one of trace, debug, info, warn, error, fatal.",
    /// Neither RFC 3339 nor milliseconds.
    InvalidTimestamp "invalid_timestamp" "A timestamp is RFC 3339 text or integer milliseconds since 1970.",
    /// Not 1 to 128 visible ASCII characters.
    InvalidEventId "invalid_event_id" "An event id is 1 to 128 visible ASCII characters.",
}
