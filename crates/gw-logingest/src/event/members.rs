//! The named members of an event, and what each of them must be.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::level::Level;
use super::limits::EventLimits;
use super::time;
use super::violation::ViolationCode;

/// The longest event id, in bytes.
const MAX_EVENT_ID: usize = 128;

/// A member with a meaning of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    TraceId,
    SpanId,
    Service,
    Level,
    Message,
    Timestamp,
    AtTimestamp,
    EventId,
    Kind,
    Logger,
    Fields,
}

impl Member {
    /// The member with this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "trace_id" => Self::TraceId,
            "span_id" => Self::SpanId,
            "service" => Self::Service,
            "level" => Self::Level,
            "message" => Self::Message,
            "timestamp" => Self::Timestamp,
            // As Elasticsearch clients call it.
            "@timestamp" => Self::AtTimestamp,
            "event_id" => Self::EventId,
            "kind" => Self::Kind,
            "logger" => Self::Logger,
            "fields" => Self::Fields,
            _ => return None,
        })
    }

    pub(super) const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// The named members of one event, as far as they were read.
#[derive(Debug, Default)]
pub(super) struct Members<'de> {
    pub(super) trace_id: Option<Cow<'de, str>>,
    pub(super) span_id: Option<Cow<'de, str>>,
    pub(super) service: Option<Cow<'de, str>>,
    pub(super) level: Option<Level>,
    pub(super) message: Option<Cow<'de, str>>,
    /// Milliseconds since 1970.
    pub(super) timestamp: Option<i64>,
    pub(super) event_id: Option<Cow<'de, str>>,
    pub(super) kind: Option<Cow<'de, str>>,
    pub(super) logger: Option<Cow<'de, str>>,
}

impl<'de> Members<'de> {
    /// Takes the value of a member other than `fields`.
    pub(super) fn set(
        &mut self,
        member: Member,
        value: Scalar<'de>,
        limits: &EventLimits,
    ) -> Result<(), ViolationCode> {
        let text = match value {
            Scalar::Null => return Ok(()),
            Scalar::Integer(millis)
                if matches!(member, Member::Timestamp | Member::AtTimestamp) =>
            {
                if !time::representable(millis) {
                    return Err(ViolationCode::InvalidTimestamp);
                }
                self.timestamp = Some(millis);
                return Ok(());
            }
            Scalar::Text(text) => text,
            Scalar::Integer(_) | Scalar::Other => return Err(ViolationCode::WrongType),
        };
        match member {
            Member::TraceId if !is_id(&text, 32) => return Err(ViolationCode::InvalidTraceId),
            Member::TraceId => self.trace_id = Some(text),
            Member::SpanId if !is_id(&text, 16) => return Err(ViolationCode::InvalidSpanId),
            Member::SpanId => self.span_id = Some(text),
            Member::Service => self.service = Some(exact(text, limits)?),
            Member::Level => {
                self.level = Some(Level::parse(&text).ok_or(ViolationCode::InvalidLevel)?);
            }
            Member::Message => self.message = Some(text),
            Member::Timestamp | Member::AtTimestamp => {
                self.timestamp = Some(time::parse(&text).ok_or(ViolationCode::InvalidTimestamp)?);
            }
            Member::EventId => {
                let valid = (1..=MAX_EVENT_ID).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_graphic());
                if !valid {
                    return Err(ViolationCode::InvalidEventId);
                }
                self.event_id = Some(text);
            }
            Member::Kind => self.kind = Some(exact(text, limits)?),
            Member::Logger => self.logger = Some(exact(text, limits)?),
            // The caller reads it as an object.
            Member::Fields => return Err(ViolationCode::WrongType),
        }
        Ok(())
    }

    /// The first required member that is missing.
    pub(super) fn missing(&self) -> Option<&'static str> {
        [
            ("trace_id", self.trace_id.is_none()),
            ("service", self.service.is_none()),
            ("level", self.level.is_none()),
            ("message", self.message.is_none()),
        ]
        .into_iter()
        .find_map(|(name, missing)| missing.then_some(name))
    }
}

/// A trace or span id: so many lower-case hex digits, not all zero (W3C Trace Context).
fn is_id(text: &str, digits: usize) -> bool {
    text.len() == digits
        && text
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        && text.bytes().any(|byte| byte != b'0')
}

/// A string that the sink matches whole.
fn exact<'de>(text: Cow<'de, str>, limits: &EventLimits) -> Result<Cow<'de, str>, ViolationCode> {
    if text.is_empty() {
        Err(ViolationCode::EmptyValue)
    } else if text.len() > limits.exact_bytes {
        Err(ViolationCode::StringTooLong)
    } else {
        Ok(text)
    }
}

/// The value of a named member: none of them may be an object, an array, a truth value or a float.
#[derive(Debug, Default)]
pub(super) enum Scalar<'de> {
    #[default]
    Null,
    Integer(i64),
    Text(Cow<'de, str>),
    Other,
}

impl<'de> Deserialize<'de> for Scalar<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ReadScalar;

        impl<'de> Visitor<'de> for ReadScalar {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_unit<E>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Integer(value))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar<'de>, E> {
                Ok(i64::try_from(value).map_or(Scalar::Other, Scalar::Integer))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(value.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar<'de>, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(ReadScalar)
    }
}
