use super::{Carry, Gate, Piece, SplitFault, Take, is_space};

/// NDJSON: what one line holds never disturbs the next one.
///
/// The size of a line counts from its first byte that is no white space to its end, without the carriage return: so
/// it does not depend on how the body was cut into chunks.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// The beginning of the line, from its first byte that is no white space.
    pub(super) carry: Carry,
}

impl Lines {
    pub(super) fn push(
        &mut self,
        chunk: &[u8],
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<(), SplitFault> {
        let mut rest = chunk;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, tail) = rest.split_at(end);
            self.end_line(line, gate, taker)?;
            rest = tail.get(1..).unwrap_or_default();
        }
        let begun = if self.carry.is_empty() {
            trim_start(rest)
        } else {
            rest
        };
        // One byte more, for a carriage return.
        self.carry.extend(begun, gate.event_bytes.saturating_add(1));
        Ok(())
    }

    pub(super) fn finish(
        mut self,
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<(), SplitFault> {
        self.end_line(&[], gate, taker)
    }

    fn end_line(
        &mut self,
        line: &[u8],
        gate: &mut Gate,
        taker: &mut impl Take,
    ) -> Result<(), SplitFault> {
        if self.carry.is_empty() {
            return pass(trim_start(line), gate, taker);
        }
        self.carry.extend(line, gate.event_bytes.saturating_add(1));
        if std::mem::take(&mut self.carry.oversize) {
            return gate.pass(Piece::Oversize, taker);
        }
        let passed = pass(&self.carry.bytes, gate, taker);
        self.carry.bytes.clear();
        passed
    }
}

fn pass(line: &[u8], gate: &mut Gate, taker: &mut impl Take) -> Result<(), SplitFault> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Ok(());
    }
    if line.len() > gate.event_bytes {
        return gate.pass(Piece::Oversize, taker);
    }
    gate.pass(Piece::Event(trim_end(line)), taker)
}

fn trim_start(line: &[u8]) -> &[u8] {
    let blanks = line.iter().take_while(|&&byte| is_space(byte)).count();
    line.get(blanks..).unwrap_or_default()
}

fn trim_end(line: &[u8]) -> &[u8] {
    let blanks = line
        .iter()
        .rev()
        .take_while(|&&byte| is_space(byte))
        .count();
    line.get(..line.len() - blanks).unwrap_or_default()
}
