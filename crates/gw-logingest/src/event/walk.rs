//! The walk over an event: one pass that reads the named members and copies all others, normalised.

use std::borrow::Cow;
use std::fmt;
use std::mem;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::limits::EventLimits;
use super::members::{Member, Members, Scalar};
use super::numbers::NumberTexts;
use super::violation::{Violation, ViolationCode};
use crate::json::write_string;

/// The state of a walk.
#[derive(Debug)]
pub(super) struct Walk<'de, 'w> {
    pub(super) members: Members<'de>,
    /// The members of `fields`, as JSON without the braces.
    out: &'w mut Vec<u8>,
    limits: &'w EventLimits,
    fault: Option<Fault>,
    /// Names below `fields`, which come from there and from the event itself.
    names: Vec<Cow<'de, str>>,
    /// Which named members were there.
    seen: u16,
    /// The value of `timestamp`: only at the end it is known whether there is an `@timestamp`.
    timestamp: Scalar<'de>,
    field_count: usize,
    number_count: usize,
    numbers: NumberTexts<'de>,
}

/// A violation in the making: the path is collected on the way out, innermost name first.
#[derive(Debug)]
struct Fault {
    code: ViolationCode,
    path: Vec<String>,
}

/// The event itself.
pub(super) struct Root<'a, 'de, 'w>(pub(super) &'a mut Walk<'de, 'w>);

/// The object `fields`: its members and the unnamed members of the event are siblings.
struct FieldsObject<'a, 'de, 'w>(&'a mut Walk<'de, 'w>);

/// Any value below `fields`.
struct Value<'a, 'de, 'w> {
    walk: &'a mut Walk<'de, 'w>,
    /// Of the object or array that holds the value.
    depth: usize,
    /// The length of the names that lead here, in bytes.
    path: usize,
}

/// A name, borrowed if it has no escapes.
struct Name;

impl<'de, 'w> Walk<'de, 'w> {
    pub(super) fn new(text: &'de str, out: &'w mut Vec<u8>, limits: &'w EventLimits) -> Self {
        out.clear();
        Self {
            members: Members::default(),
            out,
            limits,
            fault: None,
            names: Vec::new(),
            seen: 0,
            timestamp: Scalar::Null,
            field_count: 0,
            number_count: 0,
            numbers: NumberTexts::of(text.as_bytes()),
        }
    }

    /// The violation that ended the walk; without one, it was not JSON.
    pub(super) fn violation(self) -> Option<Violation> {
        let Fault { code, path } = self.fault?;
        Some(Violation::at(code, path.iter().rev().map(String::as_str)))
    }

    /// Ends the walk. The error is only a signal, its text is never shown.
    fn refuse<E: Error>(&mut self, code: ViolationCode) -> E {
        self.fault = Some(Fault {
            code,
            path: Vec::new(),
        });
        E::custom("")
    }

    /// Notes on the way out that the fault lies below `name`.
    fn below(&mut self, name: &str) {
        if let Some(fault) = &mut self.fault {
            fault.path.push(name.chars().take(64).collect());
        }
    }

    fn check_name<E: Error>(&mut self, name: &str) -> Result<(), E> {
        self.field_count += 1;
        if self.field_count > self.limits.fields {
            return Err(self.refuse(ViolationCode::TooManyFields));
        }
        let valid = (1..=self.limits.key_bytes).contains(&name.len())
            && !name.chars().any(char::is_control);
        if valid {
            Ok(())
        } else {
            Err(self.refuse(ViolationCode::InvalidKey))
        }
    }

    fn root_member<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let Some(member) = Member::named(&name) else {
            return self.field(name, 1, map);
        };
        if self.seen & member.bit() != 0 {
            return Err(self.refuse(ViolationCode::DuplicateField));
        }
        self.seen |= member.bit();
        if member == Member::Fields {
            return map.next_value_seed(FieldsObject(self));
        }
        let value = map.next_value::<Scalar<'de>>()?;
        if matches!(value, Scalar::Integer(_)) {
            self.number_count += 1;
        }
        if member == Member::Timestamp {
            self.timestamp = value;
            return Ok(());
        }
        self.set(member, value)
    }

    fn set<E: Error>(&mut self, member: Member, value: Scalar<'de>) -> Result<(), E> {
        self.members
            .set(member, value, self.limits)
            .map_err(|code| self.refuse(code))
    }

    /// At the end of the event: beside an `@timestamp`, `timestamp` is a member like those without a meaning of their own.
    fn settle_timestamp<E: Error>(&mut self) -> Result<(), E> {
        let value = mem::take(&mut self.timestamp);
        if self.members.timestamp.is_none() {
            return self.set(Member::Timestamp, value);
        }
        match value {
            Scalar::Null => Ok(()),
            Scalar::Integer(number) => self.begin_field("timestamp".into(), 1)?.visit_i64(number),
            Scalar::Text(text) => self.begin_field("timestamp".into(), 1)?.visit_str(&text),
            Scalar::Other => Err(self.refuse(ViolationCode::WrongType)),
        }
    }

    /// A member of `fields`, wherever it was found.
    fn field<A: MapAccess<'de>>(
        &mut self,
        name: Cow<'de, str>,
        depth: usize,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let value = self.begin_field(name, depth)?;
        map.next_value_seed(value)
    }

    /// Writes the name; the value is to follow.
    fn begin_field<E: Error>(
        &mut self,
        name: Cow<'de, str>,
        depth: usize,
    ) -> Result<Value<'_, 'de, 'w>, E> {
        if self.names.contains(&name) {
            return Err(self.refuse(ViolationCode::DuplicateField));
        }
        if !self.names.is_empty() {
            self.out.push(b',');
        }
        write_string(self.out, &name);
        self.out.push(b':');
        let path = name.len();
        self.names.push(name);
        Ok(Value {
            walk: self,
            depth,
            path,
        })
    }

    fn write_number<T: itoa::Integer>(&mut self, value: T) {
        self.number_count += 1;
        self.out
            .extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

impl<'de> DeserializeSeed<'de> for Root<'_, 'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Root<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key_seed(Name)? {
            let label = name.clone();
            self.0
                .check_name(&name)
                .and_then(|()| self.0.root_member(name, &mut map))
                .inspect_err(|_| self.0.below(&label))?;
        }
        self.0
            .settle_timestamp()
            .inspect_err(|_| self.0.below("timestamp"))
    }
}

impl<'de> DeserializeSeed<'de> for FieldsObject<'_, 'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldsObject<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Err(self.0.refuse(ViolationCode::WrongType))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Err(self.0.refuse(ViolationCode::WrongType))
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Err(self.0.refuse(ViolationCode::WrongType))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Err(self.0.refuse(ViolationCode::WrongType))
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Err(self.0.refuse(ViolationCode::WrongType))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.0.refuse(ViolationCode::WrongType))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        const DEPTH: usize = 2;
        if self.0.limits.depth < DEPTH {
            return Err(self.0.refuse(ViolationCode::TooDeep));
        }
        while let Some(name) = map.next_key_seed(Name)? {
            let label = name.clone();
            self.0
                .check_name(&name)
                .and_then(|()| self.0.field(name, DEPTH, &mut map))
                .inspect_err(|_| self.0.below(&label))?;
        }
        Ok(())
    }
}

impl Value<'_, '_, '_> {
    /// Whether the sink takes a term with a value of so many bytes: the path, a separator and the value.
    const fn term_fits(&self, bytes: usize) -> bool {
        self.path + 1 + bytes <= self.walk.limits.exact_bytes
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.walk.out.extend_from_slice(b"null");
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        let word: &[u8] = if value { b"true" } else { b"false" };
        self.walk.out.extend_from_slice(word);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.walk.write_number(value);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        if i64::try_from(value).is_err() {
            return Err(self.walk.refuse(ViolationCode::NumberOutOfRange));
        }
        self.walk.write_number(value);
        Ok(())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        let ordinal = self.walk.number_count;
        self.walk.number_count += 1;
        let text = self.walk.numbers.nth(ordinal).unwrap_or_default();
        let float = text.iter().any(|byte| matches!(byte, b'.' | b'e' | b'E'));
        // A small number, too, may have any number of digits.
        let text_fits = self.term_fits(text.len());
        if !text_fits || !float && value.abs() >= FIRST_AMBIGUOUS {
            return Err(self.walk.refuse(ViolationCode::NumberOutOfRange));
        }
        // As it was sent: the parser's fast float may be off by the last digit.
        self.walk.out.extend_from_slice(text);
        Ok(())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        if !self.term_fits(value.len()) {
            return Err(self.walk.refuse(ViolationCode::StringTooLong));
        }
        write_string(self.walk.out, value);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { walk, depth, path } = self;
        let depth = depth + 1;
        if depth > walk.limits.depth {
            return Err(walk.refuse(ViolationCode::TooDeep));
        }
        walk.out.push(b'[');
        let mut index = 0_usize;
        loop {
            let comma = walk.out.len();
            if index > 0 {
                walk.out.push(b',');
            }
            let element = seq.next_element_seed(Value { walk, depth, path });
            match element {
                Ok(Some(())) => index += 1,
                Ok(None) => {
                    walk.out.truncate(comma);
                    walk.out.push(b']');
                    return Ok(());
                }
                Err(error) => {
                    walk.below(itoa::Buffer::new().format(index));
                    return Err(error);
                }
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { walk, depth, path } = self;
        let depth = depth + 1;
        if depth > walk.limits.depth {
            return Err(walk.refuse(ViolationCode::TooDeep));
        }
        walk.out.push(b'{');
        let mut names: Vec<Cow<'de, str>> = Vec::new();
        while let Some(name) = map.next_key_seed(Name)? {
            let mut member = || {
                walk.check_name(&name)?;
                if names.contains(&name) {
                    return Err(walk.refuse(ViolationCode::DuplicateField));
                }
                if !names.is_empty() {
                    walk.out.push(b',');
                }
                write_string(walk.out, &name);
                walk.out.push(b':');
                let path = path + 1 + name.len();
                map.next_value_seed(Value { walk, depth, path })
            };
            if let Err(error) = member() {
                walk.below(&name);
                return Err(error);
            }
            names.push(name);
        }
        walk.out.push(b'}');
        Ok(())
    }
}

/// From here on, a float may stand for an integer that does not fit into 64 bits.
const FIRST_AMBIGUOUS: f64 = 9_223_372_036_854_775_808.0;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
