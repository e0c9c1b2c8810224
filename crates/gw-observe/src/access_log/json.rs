//! One JSON object, written field by field into a buffer that is used again and again.
//!
//! By hand: each text has a bound here, and every character that could be mistaken for something else is escaped, those
//! outside of ASCII included. So a line is one line on any terminal, and no client can forge another one.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

pub(super) struct Object<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> Object<'a> {
    pub(super) fn begin(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        let is_empty = true;
        Self { out, is_empty }
    }

    /// Ends the object and the line.
    pub(super) fn end(self) {
        self.out.extend(b"}\n");
    }

    /// A text, cut when it has filled `max` bytes.
    pub(super) fn text(&mut self, key: &'static str, text: &[u8], max: usize) {
        self.key(key);
        self.out.push(b'"');
        escape(self.out, text, max);
        self.out.push(b'"');
    }

    /// A word of our own: plain ASCII without quotes.
    pub(super) fn word(&mut self, key: &'static str, word: &str) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(word.as_bytes());
        self.out.push(b'"');
    }

    /// What prints as plain ASCII without quotes.
    pub(super) fn plain(&mut self, key: &'static str, value: impl Display) {
        self.key(key);
        // Writing to a vector does not fail; what fails to print is left out.
        _ = write!(self.out, "\"{value}\"");
    }

    /// Bytes as lower-case hex digits.
    pub(super) fn hex(&mut self, key: &'static str, bytes: &[u8]) {
        self.key(key);
        self.out.push(b'"');
        crate::trace::push_hex(self.out, bytes);
        self.out.push(b'"');
    }

    pub(super) fn integer(&mut self, key: &'static str, number: u64) {
        self.key(key);
        self.digits(number);
    }

    /// A share of all, to seven digits: one that is worked out is then written as the one that was asked for.
    pub(super) fn share(&mut self, key: &'static str, share: f64) {
        self.key(key);
        _ = write!(self.out, "{}", share as f32);
    }

    /// Milliseconds with three places. Rounded down, so that durations of whole microseconds add up as they are printed.
    pub(super) fn millis(&mut self, key: &'static str, duration: Duration) {
        self.key(key);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.digits(micros / 1000);
        let rest = micros % 1000;
        if rest > 0 {
            let digit = |number: u64| b'0' + (number % 10) as u8;
            self.out
                .extend([b'.', digit(rest / 100), digit(rest / 10), digit(rest)]);
        }
    }

    fn digits(&mut self, number: u64) {
        self.out
            .extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
    }

    fn key(&mut self, key: &'static str) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        self.out.push(b'"');
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend(b"\":");
    }
}

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\'
}

/// Appends `text` as the content of a JSON string, at most `max` bytes of it and a mark if there was more.
fn escape(out: &mut Vec<u8>, text: &[u8], max: usize) {
    const MORE: &[u8] = b"\\u2026";
    if text.len() <= max && text.iter().copied().all(is_plain) {
        return out.extend_from_slice(text);
    }
    let mut left = max;
    for chunk in text.utf8_chunks() {
        let invalid = (!chunk.invalid().is_empty()).then_some(char::REPLACEMENT_CHARACTER);
        for character in chunk.valid().chars().chain(invalid) {
            let before = out.len();
            escape_char(out, character);
            match left.checked_sub(out.len() - before) {
                Some(rest) => left = rest,
                None => {
                    out.truncate(before);
                    return out.extend_from_slice(MORE);
                }
            }
        }
    }
}

fn escape_char(out: &mut Vec<u8>, character: char) {
    match u8::try_from(character) {
        Ok(byte) if is_plain(byte) => out.push(byte),
        Ok(byte @ (b'"' | b'\\')) => out.extend([b'\\', byte]),
        _ => {
            for unit in character.encode_utf16(&mut [0; 2]) {
                out.extend(b"\\u");
                crate::trace::push_hex(out, &unit.to_be_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(text: &[u8], max: usize) -> String {
        let mut out = Vec::new();
        escape(&mut out, text, max);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_could_be_mistaken_is_escaped() {
        assert_eq!(escaped(b"/a b/c", 100), "/a b/c");
        assert_eq!(escaped(b"a\"b\\c", 100), "a\\\"b\\\\c");
        let hostile = "\r\n\x1b[31m\x00\u{7f}\u{2028}\u{202e}";
        assert_eq!(
            escaped(hostile.as_bytes(), 100),
            "\\u000d\\u000a\\u001b[31m\\u0000\\u007f\\u2028\\u202e"
        );
        assert_eq!(escaped("é😀".as_bytes(), 100), "\\u00e9\\ud83d\\ude00");
        assert_eq!(escaped(b"a\xff\xfeb", 100), "a\\ufffd\\ufffdb");
    }

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(escaped(b"abcdef", 6), "abcdef");
        assert_eq!(escaped(b"abcdefg", 6), "abcdef\\u2026");
        assert_eq!(escaped("aéé".as_bytes(), 8), "a\\u00e9\\u2026");
    }

    #[test]
    fn durations_are_printed_in_milliseconds() {
        let printed = |micros| {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.millis("ms", Duration::from_micros(micros));
            object.end();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printed(0), "{\"ms\":0}\n");
        assert_eq!(printed(5), "{\"ms\":0.005}\n");
        assert_eq!(printed(12_340), "{\"ms\":12.340}\n");
        assert_eq!(printed(7_000), "{\"ms\":7}\n");
    }

    proptest! {
        #[test]
        fn whatever_the_text_the_line_is_one_json_object(text: Vec<u8>, max in 0usize..64) {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.text("text", &text, max);
            object.integer("number", 7);
            object.end();
            prop_assert!(out.len() <= max + 40);
            let (end, line) = out.split_last().unwrap();
            prop_assert_eq!(*end, b'\n');
            prop_assert!(line.iter().all(|byte| matches!(byte, b' '..=b'~')));
            let read: serde_json::Value = serde_json::from_slice(line).unwrap();
            if text.len() * 6 <= max {
                prop_assert_eq!(read["text"].as_str().unwrap(), String::from_utf8_lossy(&text));
            }
        }
    }
}
