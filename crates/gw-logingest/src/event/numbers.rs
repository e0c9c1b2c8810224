/// Finds the text of a number in a JSON text, by its place among the numbers.
///
/// The JSON parser hands over an integer beyond 64 bits as a float, which looks like a large float that was sent as
/// one: the first is refused and the second is kept, so the text has to tell. And a float is kept as it was sent, digit
/// for digit. Looking goes forwards only: all look-ups in one event cost one pass over it.
#[derive(Debug)]
pub(super) struct NumberTexts<'a> {
    text: &'a [u8],
    position: usize,
    passed: usize,
}

impl<'a> NumberTexts<'a> {
    pub(super) const fn of(text: &'a [u8]) -> Self {
        Self {
            text,
            position: 0,
            passed: 0,
        }
    }

    /// The number with this ordinal, from 0. Ordinals must grow from call to call.
    pub(super) fn nth(&mut self, ordinal: usize) -> Option<&'a [u8]> {
        loop {
            let rest = self.text.get(self.position..)?;
            match rest.first()? {
                b'"' => self.position += string_length(rest),
                b'-' | b'0'..=b'9' => {
                    let part =
                        |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
                    let length = rest.iter().take_while(|byte| part(byte)).count();
                    self.position += length;
                    self.passed += 1;
                    if self.passed == ordinal + 1 {
                        return rest.get(..length);
                    }
                }
                _ => self.position += 1,
            }
        }
    }
}

/// The length of the string that `text` begins with, both quotation marks included.
fn string_length(text: &[u8]) -> usize {
    let mut position = 1;
    while let Some(byte) = text.get(position) {
        position += match byte {
            b'"' => return position + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_passed_over() {
        let text = br#"{"1":-2,"a\"3":[4.5e+6,"\\",7]}"#;
        let mut numbers = NumberTexts::of(text);
        assert_eq!(numbers.nth(0), Some(&b"-2"[..]));
        assert_eq!(numbers.nth(2), Some(&b"7"[..]));
        assert_eq!(numbers.nth(3), None);
    }
}
