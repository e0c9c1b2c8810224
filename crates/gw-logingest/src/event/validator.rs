use std::borrow::Cow;
use std::str;
use std::time::SystemTime;

use gw_core::ConfigError;
use serde::de::{DeserializeSeed as _, IgnoredAny};

use super::level::Level;
use super::limits::EventLimits;
use super::members::Members;
use super::time;
use super::violation::{Violation, ViolationCode};
use super::walk::{Root, Walk};
use crate::json::write_string;

/// Checks events against the schema and writes them in their normalised form. Pure: how an event came is passed in.
#[derive(Debug, Clone, Default)]
pub struct Validator {
    limits: EventLimits,
}

/// How an event came. What is stored says it below `ingest`, so that events can be sorted as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When the upload was received that the event was in.
    pub received: SystemTime,
    /// The event's place in it, from 0: `ingest.seq`. Events that were not taken count as well.
    pub seq: u64,
}

/// Memory that a validator works in. Use it again for the next event: it keeps its capacity.
#[derive(Debug, Default)]
pub struct Scratch {
    fields: Vec<u8>,
    json: Vec<u8>,
}

/// An event that meets the schema.
#[derive(Debug)]
#[non_exhaustive]
pub struct Checked<'a> {
    /// The id that the client gave it.
    pub event_id: Option<Cow<'a, str>>,
    /// How grave it is.
    pub level: Level,
    /// What kind of event it is, if it says so.
    pub kind: Option<Cow<'a, str>>,
    /// The logger that made it, if it says so.
    pub logger: Option<Cow<'a, str>>,
    /// It stands for text that is no event, so its level says nothing.
    pub wrapped: bool,
    /// The normalised event: one JSON object on one line.
    pub json: &'a [u8],
}

/// What became of the client's timestamp.
enum Stamp {
    Kept(i64),
    Missing,
    OutOfWindow(i64),
}

impl Validator {
    /// A validator with these limits.
    ///
    /// # Errors
    ///
    /// If a limit is out of its bounds.
    pub fn new(limits: EventLimits) -> Result<Self, ConfigError> {
        limits.check()?;
        Ok(Self { limits })
    }

    /// The limits.
    pub const fn limits(&self) -> &EventLimits {
        &self.limits
    }

    /// Checks one event, given as JSON.
    ///
    /// # Errors
    ///
    /// The first fault found. Whether the rest of a refused event is JSON at all remains open;
    /// [`is_json`](super::is_json) tells.
    pub fn check<'a>(
        &self,
        raw: &'a [u8],
        arrival: Arrival,
        scratch: &'a mut Scratch,
    ) -> Result<Checked<'a>, Violation> {
        if raw.len() > self.limits.bytes {
            return Err(Violation::whole(ViolationCode::EventTooLarge));
        }
        let Ok(text) = str::from_utf8(raw) else {
            return Err(Violation::whole(ViolationCode::InvalidUtf8));
        };
        if !text.trim_start().starts_with('{') {
            return Err(json_or_not(raw, ViolationCode::NotAnObject));
        }
        let Scratch { fields, json } = scratch;
        let mut walk = Walk::new(text, fields, &self.limits);
        let mut parser = serde_json::Deserializer::from_str(text);
        let read = Root(&mut walk)
            .deserialize(&mut parser)
            .and_then(|()| parser.end());
        if read.is_err() {
            return Err(walk
                .violation()
                .unwrap_or_else(|| json_or_not(raw, ViolationCode::Unrepresentable)));
        }
        let members = walk.members;
        let level = match (members.missing(), members.level) {
            (None, Some(level)) => level,
            (missing, _) => return Err(Violation::at(ViolationCode::MissingField, missing)),
        };
        let stamp = self.stamp(members.timestamp, time::millis(arrival.received));
        json.clear();
        write_event(json, &members, level, fields, arrival, &stamp);
        Ok(Checked {
            event_id: members.event_id,
            level,
            kind: members.kind,
            logger: members.logger,
            wrapped: false,
            json,
        })
    }

    /// Makes an event of `service` out of text that is none: the text becomes its message, cut to the limit of an event.
    /// The event has no trace id, and says in `ingest.wrapped` what was wrong.
    ///
    /// Bytes that are not UTF-8 and control characters become `U+FFFD`. The `kind` and `logger` of what is returned are those
    /// of the text, as far as they come before its fault.
    pub fn wrap<'a>(
        &self,
        raw: &'a [u8],
        why: ViolationCode,
        service: &str,
        arrival: Arrival,
        scratch: &'a mut Scratch,
    ) -> Checked<'a> {
        // Each character that is replaced grows to three bytes at the most, and quotation marks to two.
        let raw = raw.get(..self.limits.bytes).unwrap_or(raw);
        let mut message: String = String::from_utf8_lossy(raw)
            .chars()
            .map(|c| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect();
        while message.len() > self.limits.bytes {
            message.pop();
        }
        let Scratch { fields, json } = scratch;
        let members = self.before_the_fault(raw, fields);
        json.clear();
        json.extend_from_slice(b"{\"@timestamp\":\"");
        time::write(time::millis(arrival.received), json);
        json.extend_from_slice(b"\",\"service\":");
        write_string(json, service);
        json.extend_from_slice(b",\"level\":\"info\",\"message\":");
        write_string(json, &message);
        json.extend_from_slice(b",\"kind\":\"unparsed\"");
        begin_ingest(json, arrival);
        json.extend_from_slice(b",\"timestamp\":\"missing\",\"wrapped\":\"");
        json.extend_from_slice(why.as_str().as_bytes());
        json.extend_from_slice(b"\"}}");
        Checked {
            event_id: None,
            level: Level::Info,
            kind: members.kind.or(Some(Cow::Borrowed("unparsed"))),
            logger: members.logger,
            wrapped: true,
            json,
        }
    }

    /// The members of a faulty event, as far as they can be read.
    fn before_the_fault<'a>(&self, raw: &'a [u8], fields: &mut Vec<u8>) -> Members<'a> {
        let text = raw.utf8_chunks().next();
        let text = text.map(|chunk| chunk.valid()).unwrap_or_default();
        let mut walk = Walk::new(text, fields, &self.limits);
        // That it fails is known.
        _ = Root(&mut walk).deserialize(&mut serde_json::Deserializer::from_str(text));
        walk.members
    }

    fn stamp(&self, claimed: Option<i64>, received: i64) -> Stamp {
        let earliest = received.saturating_sub(time::whole(self.limits.past));
        let latest = received.saturating_add(time::whole(self.limits.future));
        match claimed {
            None => Stamp::Missing,
            Some(time) if (earliest..=latest).contains(&time) => Stamp::Kept(time),
            Some(time) => Stamp::OutOfWindow(time),
        }
    }
}

/// The fault of an event that was not read: this one if it is JSON at all.
fn json_or_not(raw: &[u8], fault: ViolationCode) -> Violation {
    Violation::whole(if is_json(raw) {
        fault
    } else {
        ViolationCode::InvalidJson
    })
}

/// The event that stands for reports about failed uploads that were not kept.
pub(crate) fn collapsed_report(count: u64, arrival: Arrival) -> Vec<u8> {
    let mut json = Vec::new();
    json.extend_from_slice(b"{\"@timestamp\":\"");
    time::write(time::millis(arrival.received), &mut json);
    json.extend_from_slice(
        b"\",\"service\":\"gw-logingest\",\"level\":\"warn\",\
          \"message\":\"reports of failed uploads were collapsed into this event\",\
          \"kind\":\"upload_failure\",\"fields\":{\"count\":",
    );
    json.extend_from_slice(itoa::Buffer::new().format(count).as_bytes());
    json.push(b'}');
    begin_ingest(&mut json, arrival);
    json.extend_from_slice(b"}}");
    json
}

/// Whether these bytes are one JSON value by the grammar.
pub fn is_json(raw: &[u8]) -> bool {
    str::from_utf8(raw).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn write_event(
    json: &mut Vec<u8>,
    members: &Members<'_>,
    level: Level,
    fields: &[u8],
    arrival: Arrival,
    stamp: &Stamp,
) {
    json.extend_from_slice(b"{\"@timestamp\":\"");
    let time = match stamp {
        Stamp::Kept(time) => *time,
        Stamp::Missing | Stamp::OutOfWindow(_) => time::millis(arrival.received),
    };
    time::write(time, json);
    json.push(b'"');
    for (name, value) in [
        ("trace_id", members.trace_id.as_deref()),
        ("span_id", members.span_id.as_deref()),
        ("service", members.service.as_deref()),
        ("level", Some(level.as_str())),
        ("message", members.message.as_deref()),
        ("kind", members.kind.as_deref()),
        ("logger", members.logger.as_deref()),
        ("event_id", members.event_id.as_deref()),
    ] {
        if let Some(value) = value {
            json.extend_from_slice(b",\"");
            json.extend_from_slice(name.as_bytes());
            json.extend_from_slice(b"\":");
            write_string(json, value);
        }
    }
    if !fields.is_empty() {
        json.extend_from_slice(b",\"fields\":{");
        json.extend_from_slice(fields);
        json.push(b'}');
    }
    begin_ingest(json, arrival);
    match stamp {
        Stamp::Kept(_) => {}
        Stamp::Missing => json.extend_from_slice(b",\"timestamp\":\"missing\""),
        Stamp::OutOfWindow(claimed) => {
            json.extend_from_slice(b",\"timestamp\":\"out_of_window\",\"claimed\":\"");
            time::write(*claimed, json);
            json.push(b'"');
        }
    }
    json.extend_from_slice(b"}}");
}

/// Writes the member `ingest` behind others, and leaves it open for more.
fn begin_ingest(json: &mut Vec<u8>, arrival: Arrival) {
    json.extend_from_slice(b",\"ingest\":{\"received\":\"");
    time::write(time::millis(arrival.received), json);
    json.extend_from_slice(b"\",\"seq\":");
    json.extend_from_slice(itoa::Buffer::new().format(arrival.seq).as_bytes());
}
