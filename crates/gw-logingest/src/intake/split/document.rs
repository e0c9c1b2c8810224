use super::scan::ValueScan;
use super::{Carry, Gate, Malformed, SplitFault, Take, is_space};

/// A JSON document: an array of events, an object with the array `events`, or one event.
#[derive(Debug, Default)]
pub(super) struct Document {
    state: State,
    /// The event that began in an earlier chunk, or the object that may turn out to be one event.
    pub(super) carry: Carry,
    /// Whether the array stands in an object.
    enveloped: bool,
    /// Members of the object so far.
    members: usize,
    name: Name,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Start,
    /// After `[`.
    FirstElement,
    Element(ValueScan),
    AfterElement,
    NextElement,
    /// After `{`.
    FirstName,
    Name(ValueScan),
    Colon,
    BeforeValue,
    Value(ValueScan),
    AfterValue,
    NextName,
    /// After the array `events`.
    EndOfEnvelope,
    End,
}

/// Compares the name of a member with `events` as it arrives.
#[derive(Debug, Default)]
struct Name {
    length: usize,
    differs: bool,
}

impl Name {
    const EVENTS: &[u8] = b"\"events\"";

    fn extend(&mut self, bytes: &[u8]) {
        let expected = Self::EVENTS.get(self.length..).unwrap_or_default();
        self.differs |= !expected.starts_with(bytes);
        self.length += bytes.len();
    }

    const fn is_events(&self) -> bool {
        !self.differs && self.length == Self::EVENTS.len()
    }
}

impl Document {
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<(), SplitFault> {
        let mut rest = chunk;
        while !rest.is_empty() {
            let used = self.step(rest, gate, taker)?;
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<(), SplitFault> {
        match self.state {
            State::End => Ok(()),
            _ => Err(SplitFault::Malformed(Malformed::Incomplete)),
        }
    }

    /// Takes at least one byte of `bytes`, which are not empty; says how many.
    fn step(
        &mut self,
        bytes: &[u8],
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<usize, SplitFault> {
        match &mut self.state {
            State::Element(scan) => {
                let end = scan.advance(bytes).map_err(SplitFault::Malformed)?;
                let Some(end) = end else {
                    self.carry.extend(bytes, gate.event_bytes);
                    return Ok(bytes.len());
                };
                let event = bytes.get(..end).unwrap_or_default();
                self.carry.pass(event, gate, taker)?;
                self.state = State::AfterElement;
                // A number ends before the byte that ends it, so nothing may have been taken here.
                self.between(bytes, end, gate, taker)
            }
            State::Name(scan) | State::Value(scan) => {
                let end = scan.advance(bytes).map_err(SplitFault::Malformed)?;
                let taken = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
                self.carry.extend(taken, gate.event_bytes);
                let is_name = matches!(self.state, State::Name(_));
                if is_name {
                    self.name.extend(taken);
                }
                let Some(end) = end else {
                    return Ok(bytes.len());
                };
                self.state = if is_name {
                    State::Colon
                } else {
                    State::AfterValue
                };
                self.between(bytes, end, gate, taker)
            }
            _ => self.between(bytes, 0, gate, taker),
        }
    }

    /// Takes white space from `start` on, and the byte of structure after it. A byte that begins a value is left.
    fn between(
        &mut self,
        bytes: &[u8],
        start: usize,
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<usize, SplitFault> {
        let rest = bytes.get(start..).unwrap_or_default();
        let blanks = rest.iter().take_while(|&&byte| is_space(byte)).count();
        if self.in_object() {
            self.carry
                .extend(rest.get(..blanks).unwrap_or_default(), gate.event_bytes);
        }
        let at = start + blanks;
        let Some(&byte) = bytes.get(at) else {
            return Ok(at);
        };
        let in_object = self.in_object();
        let next = self.follow(byte)?;
        let takes_byte = !matches!(next, State::Element(_) | State::Name(_) | State::Value(_));
        if takes_byte && (in_object || matches!(next, State::FirstName)) {
            self.carry.extend(&[byte], gate.event_bytes);
        }
        if in_object && matches!(next, State::FirstElement) {
            self.carry = Carry::default();
        }
        if in_object && matches!(next, State::End) {
            self.carry.pass(&[], gate, taker)?;
        }
        self.state = next;
        Ok(if takes_byte {
            at + 1
        } else {
            self.begin(bytes, at, gate, taker)?
        })
    }

    /// Begins with a value at once, so that each step takes a byte.
    fn begin(
        &mut self,
        bytes: &[u8],
        at: usize,
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<usize, SplitFault> {
        let value = bytes.get(at..).unwrap_or_default();
        Ok(at + self.step(value, gate, taker)?)
    }

    /// The state after a byte of structure, or before a value that begins with it.
    fn follow(&mut self, byte: u8) -> Result<State, SplitFault> {
        let value = ValueScan::default();
        let next = match (&self.state, byte) {
            (State::Start, b'[') => State::FirstElement,
            (State::Start, b'{') => State::FirstName,
            (State::Start, _) => return malformed(Malformed::Syntax),
            (State::FirstElement | State::AfterElement, b']') if self.enveloped => {
                State::EndOfEnvelope
            }
            (State::FirstElement | State::AfterElement, b']') => State::End,
            (State::AfterElement, b',') => State::NextElement,
            (State::FirstElement | State::NextElement, _) => State::Element(value),
            (State::FirstName | State::AfterValue, b'}') => State::End,
            (State::AfterValue, b',') => State::NextName,
            (State::FirstName | State::NextName, b'"') => {
                self.members += 1;
                self.name = Name::default();
                State::Name(value)
            }
            (State::Colon, b':') => State::BeforeValue,
            (State::BeforeValue, b'[') if self.name.is_events() => {
                if self.members > 1 {
                    return malformed(Malformed::UnknownMember);
                }
                self.enveloped = true;
                State::FirstElement
            }
            (State::BeforeValue, _) => State::Value(value),
            (State::EndOfEnvelope, b'}') => State::End,
            (State::EndOfEnvelope, b',') => return malformed(Malformed::UnknownMember),
            _ => return malformed(Malformed::Syntax),
        };
        Ok(next)
    }

    /// Whether the bytes at hand belong to an object that may be an event.
    const fn in_object(&self) -> bool {
        matches!(
            self.state,
            State::FirstName
                | State::Colon
                | State::BeforeValue
                | State::AfterValue
                | State::NextName
        )
    }
}

const fn malformed<T>(what: Malformed) -> Result<T, SplitFault> {
    Err(SplitFault::Malformed(what))
}
