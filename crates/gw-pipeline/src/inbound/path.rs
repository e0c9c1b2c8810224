//! One normal form of a path, so that routing, limits, authentication, metrics and the upstream read the same.

mod readings;

use std::borrow::Cow;

/// What to do with `%2F` in a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodedSlash {
    /// Refuse the request. Upstreams disagree on whether it separates segments, and attackers know.
    #[default]
    Reject,
    /// Keep it encoded, as part of its segment: for upstreams that do so, too.
    Keep,
}

/// A path in its normal form.
#[derive(Debug)]
pub(crate) struct NormalPath<'p> {
    pub(crate) text: Cow<'p, str>,
    /// What else readers may take it for. It is for one route only if they all come to that.
    pub(crate) others: Vec<String>,
}

/// A path that is refused because two readers may understand it in two ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// The normal form of `path` (RFC 3986 section 6.2.2, and stricter).
///
/// Escapes of unreserved characters are decoded, other escapes get upper-case digits, characters that a path cannot
/// hold are escaped, dot segments are resolved, empty segments merged. Refused are: a path that does not begin with a slash or
/// climbs over the root, a broken escape, an escaped control character, a backslash in any form, raw bytes outside ASCII, escapes
/// that are not UTF-8, a dot segment with parameters (`..;x`), and an empty one with parameters that is not the last. A path in
/// normal form is returned as it is.
pub(crate) fn normalize(path: &str, slash: EncodedSlash) -> Result<NormalPath<'_>, Ambiguous> {
    if is_normal(path.as_bytes()) {
        return Ok(NormalPath {
            text: Cow::Borrowed(path),
            others: Vec::new(),
        });
    }
    let rest = path.strip_prefix('/').ok_or(Ambiguous)?;
    let mut normal = Normal {
        path: String::with_capacity(path.len() + 1),
    };
    let mut segments = rest.split('/').peekable();
    while let Some(raw) = segments.next() {
        let segment = decode(raw, slash)?;
        normal.push(&segment, segments.peek().is_none())?;
    }
    Ok(NormalPath {
        others: readings::others(&normal.path),
        text: Cow::Owned(normal.path),
    })
}

/// Whether nothing has to be changed or looked at closely. May be false for a normal path, never true for another.
fn is_normal(path: &[u8]) -> bool {
    let mut after_slash = false;
    let fits = path.iter().all(|&byte| {
        let strange = after_slash && matches!(byte, b'/' | b'.');
        after_slash = byte == b'/';
        !strange && PLAIN.get(usize::from(byte)) == Some(&true)
    });
    fits && path.first() == Some(&b'/')
}

/// Whether a byte stands for itself wherever it is. A table: each byte of each path is asked about.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated by the compiler, which refuses an index out of bounds"
)]
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < plain.len() {
        plain[byte] = is_plain(byte as u8);
        byte += 1;
    }
    plain
};

const fn is_plain(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~')
        || matches!(
            byte,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@'
        )
}

/// Decodes what needs no escape, and refuses what must not be in a segment.
fn decode(raw: &str, slash: EncodedSlash) -> Result<String, Ambiguous> {
    let mut segment = String::with_capacity(raw.len());
    // The bytes that the escapes stand for, to be checked as UTF-8 where they are not ASCII.
    let mut decoded = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let escaped = hex(bytes.next())? << 4 | hex(bytes.next())?;
                decoded.push(escaped);
                push_escaped(&mut segment, escaped, slash)?;
            }
            b'\\' | 0..=b' ' | 0x7f.. => return Err(Ambiguous),
            // No path may hold them as they are (RFC 3986 section 3.3), and many clients send them so.
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                decoded.push(byte);
                push_escaped(&mut segment, byte, slash)?;
            }
            _ => {
                decoded.push(byte);
                segment.push(char::from(byte));
            }
        }
    }
    std::str::from_utf8(&decoded).map_err(|_| Ambiguous)?;
    Ok(segment)
}

fn push_escaped(segment: &mut String, byte: u8, slash: EncodedSlash) -> Result<(), Ambiguous> {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            segment.push(char::from(byte));
        }
        0..0x20 | 0x7f | b'\\' => return Err(Ambiguous),
        b'/' if slash == EncodedSlash::Reject => return Err(Ambiguous),
        _ => {
            segment.push('%');
            let digits = [byte >> 4, byte & 15].map(|n| DIGITS.get(usize::from(n)).copied());
            segment.extend(digits.into_iter().flatten().map(char::from));
        }
    }
    Ok(())
}

fn hex(digit: Option<u8>) -> Result<u8, Ambiguous> {
    let digit = digit
        .and_then(|d| char::from(d).to_digit(16))
        .ok_or(Ambiguous)?;
    u8::try_from(digit).map_err(|_| Ambiguous)
}

/// A path in the making; always empty, or a slash before each segment so far.
struct Normal {
    path: String,
}

impl Normal {
    fn push(&mut self, segment: &str, last: bool) -> Result<(), Ambiguous> {
        match segment {
            // Empty and dot segments vanish, but at the end they say that the path ends in a slash.
            "" | "." if !last => {}
            "" | "." => self.path.push('/'),
            ".." => {
                let parent = self.path.rfind('/').ok_or(Ambiguous)?;
                self.path.truncate(parent);
                if last {
                    self.path.push('/');
                }
            }
            _ if hides_dots(segment) => return Err(Ambiguous),
            // Without the parameters it would vanish, or would not.
            _ if !last && is_parameters(segment) => return Err(Ambiguous),
            _ => {
                self.path.push('/');
                self.path.push_str(segment);
            }
        }
        Ok(())
    }
}

/// Whether a reader that splits at parameters, or decodes a slash, would find a dot segment.
fn hides_dots(segment: &str) -> bool {
    let pieces = segment.split(';').flat_map(|piece| piece.split("%3B"));
    pieces
        .flat_map(|piece| piece.split("%2F"))
        .any(|piece| matches!(piece, "." | ".."))
}

/// Whether a reader that splits at parameters would find nothing in front of them.
fn is_parameters(segment: &str) -> bool {
    segment.starts_with(';') || segment.starts_with("%3B")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> Option<String> {
        normalize(path, EncodedSlash::Reject)
            .ok()
            .map(|normal| normal.text.into_owned())
    }

    #[test]
    fn one_form_for_many_spellings() {
        for (path, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//a///b", "/a/b"),
            ("/a//", "/a/"),
            ("/./a/./b", "/a/b"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/%2e%2E/b", "/b"),
            ("/%61dmin", "/admin"),
            ("/a%20b", "/a%20b"),
            ("/a%c3%a9", "/a%C3%A9"),
            ("/a%252fb", "/a%252fb"),
            ("/a|b{c}", "/a%7Cb%7Bc%7D"),
            ("/a%7cb\"<>^`", "/a%7Cb%22%3C%3E%5E%60"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/a/;v=1", "/a/;v=1"),
            ("/...", "/..."),
            ("/.well-known/x", "/.well-known/x"),
        ] {
            assert_eq!(normal(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn two_readings_are_refused() {
        for path in [
            "", "a", "*", "/..", "/a/../..", "/%2e%2e", "/a/..;/b", "/..;x=1", "/.;/a", "/;x/a",
            "/a/%3b/b", "/%", "/%4", "/%zz", "/%00", "/%0a", "/%7f", "/a\\b", "/a%5cb", "/a%2fb",
            "/a%2Fb", "/\u{e9}", "/%c0%af", "/%ff", "/a b",
        ] {
            assert_eq!(normal(path), None, "{path:?}");
        }
        assert_eq!(
            normalize("/a%2fb", EncodedSlash::Keep).unwrap().text,
            "/a%2Fb"
        );
        // Story: behind a gateway that kept `%2F`, upstreams that decode it were led out of the route's prefix.
        for path in [
            "/a/..%2fb",
            "/a/%2e%2e%2Fb",
            "/a/b%2f..",
            "/a/..%3bx",
            "/a/..%3B",
        ] {
            assert!(normalize(path, EncodedSlash::Keep).is_err(), "{path}");
        }
    }

    /// Paths of what is made different, and paths of any characters.
    fn paths() -> impl Strategy<Value = String> {
        prop_oneof![
            r"(/(a|b|\.|\.\.|%2e|%2E\.|\.%2e|\.\.\.|;x|a;x|%61|%41|%2f|%7c|\||)){0,8}",
            "/[-a-z./%0-9A-F;\\\\é]{0,40}",
        ]
    }

    proptest! {
        /// Story: of any characters, hardly a path had a dot segment, or was normal.
        #[test]
        fn a_normal_path_stays_as_it_is(path in paths()) {
            if let Some(once) = normal(&path) {
                prop_assert_eq!(normal(&once), Some(once.clone()));
                prop_assert!(once.starts_with('/') && !once.contains("//"));
                prop_assert!(once.split('/').all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
