use super::{Malformed, is_space};

/// Finds the end of one JSON value.
///
/// It follows strings and brackets and nothing else: what it lets pass is for a parser to judge. Its memory is one bit
/// for each open bracket.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ValueScan {
    begun: bool,
    scalar: bool,
    in_string: bool,
    escaped: bool,
    depth: u32,
    /// One bit for each open bracket, the innermost lowest: 1 for an object.
    objects: u128,
}

impl ValueScan {
    /// As deep as the parser reads.
    const MAX_DEPTH: u32 = 127;

    /// Reads on. `Some(n)`: the value ends with the first `n` of these bytes. `None`: they all belong to it, and it
    /// goes on, unless it is a number or a word, which only the next byte can end.
    ///
    /// The first byte of all must not be white space.
    pub(super) fn advance(&mut self, bytes: &[u8]) -> Result<Option<usize>, Malformed> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.escaped {
                self.escaped = false;
                at += 1;
            } else if self.in_string {
                let Some(found) = bytes
                    .get(at..)
                    .and_then(|rest| memchr::memchr2(b'"', b'\\', rest))
                else {
                    return Ok(None);
                };
                at += found + 1;
                if bytes.get(at - 1) == Some(&b'\\') {
                    self.escaped = true;
                } else {
                    self.in_string = false;
                    if self.depth == 0 {
                        return Ok(Some(at));
                    }
                }
            } else if self.scalar {
                if is_space(byte) || matches!(byte, b',' | b']' | b'}') {
                    return Ok(Some(at));
                }
                at += 1;
            } else {
                at += 1;
                if self.structure(byte)? {
                    return Ok(Some(at));
                }
            }
        }
        Ok(None)
    }

    /// A byte outside of strings and numbers; whether the value ends with it.
    fn structure(&mut self, byte: u8) -> Result<bool, Malformed> {
        let begun = std::mem::replace(&mut self.begun, true);
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.open(true)?,
            b'[' => self.open(false)?,
            b'}' | b']' => {
                let object = self.objects & 1 == 1;
                if self.depth == 0 || object != (byte == b'}') {
                    return Err(Malformed::Syntax);
                }
                self.depth -= 1;
                self.objects >>= 1;
                return Ok(self.depth == 0);
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' if !begun => self.scalar = true,
            // Within an object or array all else is the parser's to judge.
            _ if begun => {}
            _ => return Err(Malformed::Syntax),
        }
        Ok(false)
    }

    fn open(&mut self, object: bool) -> Result<(), Malformed> {
        if self.depth == Self::MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        Ok(())
    }
}
