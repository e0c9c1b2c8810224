use super::trim;

/// The most members that a list has.
const MAX_MEMBERS: usize = 32;
/// What is passed on at most, in bytes: what the specification asks for at least.
const MAX_LEN: usize = 512;
/// A member longer than this, in bytes, is dropped before shorter ones are.
const LONG_MEMBER: usize = 128;

/// What becomes of the `tracestate` fields of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracestate {
    /// There is nothing to pass on.
    Absent,
    /// The one line is passed on as it came.
    AsSent,
    /// This line is passed on in place of those that came.
    Rewritten(Vec<u8>),
}

/// Combines the lines of `tracestate` into what is passed on. The members and their order stay.
///
/// A list with a malformed member, or with more than 32, is dropped as a whole. Of a list longer than 512 bytes, members
/// longer than 128 bytes are dropped first, then all others, from the right in both cases. Members with the same key
/// are kept: which of them counts is for those to say who understand it.
pub fn tracestate<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Tracestate {
    let mut members: [&[u8]; MAX_MEMBERS] = [&[]; MAX_MEMBERS];
    let mut count = 0;
    let mut first_line = None;
    let mut several = false;
    for line in lines {
        several |= first_line.replace(line).is_some();
        for member in line.split(|byte| *byte == b',').map(trim) {
            if member.is_empty() {
                continue;
            }
            match members.get_mut(count) {
                Some(place) if is_member(member) => *place = member,
                _ => return Tracestate::Absent,
            }
            count += 1;
        }
    }
    let len = shorten(&mut members);
    if len == 0 {
        Tracestate::Absent
    } else if !several && first_line.is_some_and(|line| line.len() == len) {
        // Whatever is left out or normalised makes it shorter.
        Tracestate::AsSent
    } else {
        Tracestate::Rewritten(join(&members, len))
    }
}

/// Drops members until the list is not too long. Returns how long it is.
fn shorten(members: &mut [&[u8]]) -> usize {
    let lengths = members.iter().map(|member| member.len());
    // Each member that is there brings a comma, but for the first one.
    let mut len = lengths
        .filter(|len| *len > 0)
        .map(|len| len + 1)
        .sum::<usize>()
        .saturating_sub(1);
    for longer_than in [LONG_MEMBER, 0] {
        for member in members.iter_mut().rev() {
            if len > MAX_LEN && member.len() > longer_than {
                len = len.saturating_sub(member.len() + 1);
                *member = &[];
            }
        }
    }
    len
}

fn join(members: &[&[u8]], len: usize) -> Vec<u8> {
    let mut joined = Vec::with_capacity(len);
    for member in members.iter().filter(|member| !member.is_empty()) {
        if !joined.is_empty() {
            joined.push(b',');
        }
        joined.extend_from_slice(member);
    }
    joined
}

/// Whether it is a key and a value by the grammar of level 2.
fn is_member(member: &[u8]) -> bool {
    let mut parts = member.splitn(2, |byte| *byte == b'=');
    matches!((parts.next(), parts.next()), (Some(key), Some(value)) if is_key(key) && is_value(value))
}

fn is_key(key: &[u8]) -> bool {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    key.len() <= 256
        && key.first().is_some_and(alphanumeric)
        && key
            .iter()
            .all(|byte| alphanumeric(byte) || b"_-*/@".contains(byte))
}

fn is_value(value: &[u8]) -> bool {
    // It has no white space at its end: that was trimmed with the member's.
    (1..=256).contains(&value.len())
        && value
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is passed on.
    fn pass(lines: &[&str]) -> Option<String> {
        let text = |bytes: Vec<u8>| Some(String::from_utf8(bytes).unwrap());
        match tracestate(lines.iter().map(|line| line.as_bytes())) {
            Tracestate::Absent => None,
            Tracestate::AsSent => Some(lines[0].to_owned()),
            Tracestate::Rewritten(line) => text(line),
        }
    }

    #[test]
    fn lines_are_combined_in_order() {
        assert_eq!(pass(&["foo=1,bar=2"]).unwrap(), "foo=1,bar=2");
        let lines = ["foo=1,bar=2", "rojo=1,congo=2", "baz=3"];
        assert_eq!(pass(&lines).unwrap(), "foo=1,bar=2,rojo=1,congo=2,baz=3");
    }

    #[test]
    fn what_is_empty_is_left_out() {
        for empty in [&[][..], &[""], &["", " "], &[",,", " , "]] {
            assert_eq!(pass(empty), None, "{empty:?}");
        }
        for lines in [
            &["foo=1", ""][..],
            &["", "foo=1"],
            &["foo=1,,"],
            &[" , foo=1"],
        ] {
            assert_eq!(pass(lines).unwrap(), "foo=1", "{lines:?}");
        }
    }

    #[test]
    fn white_space_around_members_is_ignored() {
        for line in [
            "foo=1 \t , \t bar=2, \t baz=3",
            "foo=1\t \t,\t \tbar=2,\t \tbaz=3",
        ] {
            assert_eq!(pass(&[line]).unwrap(), "foo=1,bar=2,baz=3");
        }
        for line in [" foo=1", "\tfoo=1", "foo=1 ", "foo=1\t", "\t foo=1 \t"] {
            assert_eq!(pass(&[line]).unwrap(), "foo=1");
        }
        // White space inside of a value belongs to it.
        assert_eq!(pass(&["foo=  a b"]).unwrap(), "foo=  a b");
    }

    #[test]
    fn all_that_is_allowed_passes() {
        let key = "0abcdefghijklmnopqrstuvwxyz0123456789_-*/@a";
        let value: String = (b' '..=b'~')
            .map(char::from)
            .filter(|c| !",=".contains(*c))
            .collect();
        let line = format!("{key}={value}");
        assert_eq!(pass(&[&line]).unwrap(), line);
        for key in [
            "foo@",
            "foo@@bar",
            "foo@bar@baz",
            "1",
            "t@vvvvvvvvvvvvvvvvv",
        ] {
            let line = format!("{key}=1");
            assert_eq!(pass(&[&line]).unwrap(), line);
        }
        let longest = format!("{}={}", "z".repeat(256), "v".repeat(255));
        assert_eq!(pass(&[&longest]).unwrap(), longest);
    }

    #[test]
    fn one_malformed_member_is_the_end_of_all() {
        for malformed in [
            "foo",
            "foo=",
            "=1",
            "foo =1",
            "FOO=1",
            "foo.bar=1",
            "@foo=1",
            "_foo=1",
            "foo=bar=baz",
            "foo=\u{e9}",
            "foo=a\u{7f}",
            &format!("{}=1", "z".repeat(257)),
            &format!("foo={}", "v".repeat(257)),
        ] {
            assert_eq!(pass(&["bar=2", malformed]), None, "{malformed}");
        }
    }

    #[test]
    fn there_are_at_most_32_members() {
        let list = |count: usize| {
            (1..=count)
                .map(|n| format!("bar{n:02}={n:02}"))
                .collect::<Vec<_>>()
                .join(",")
        };
        assert_eq!(pass(&[&list(32)]).unwrap(), list(32));
        assert_eq!(pass(&[&list(33)]), None);
        assert_eq!(pass(&[&list(16), "", &list(16), "x=1"]), None);
    }

    #[test]
    fn long_lists_lose_long_members_first_then_the_last_ones() {
        let member = |key: &str, len: usize| format!("{key}={}", "v".repeat(len - key.len() - 1));
        let line = [
            member("a", 200),
            member("b", 100),
            member("c", 129),
            member("d", 100),
            member("e", 50),
        ];
        // 583 bytes: without the last long one it is short enough.
        assert_eq!(
            pass(&[&line.join(",")]).unwrap(),
            [&*line[0], &*line[1], &*line[3], &*line[4]].join(",")
        );
        let line: Vec<_> = (0..6).map(|n| member(&format!("k{n}"), 128)).collect();
        assert_eq!(pass(&[&line.join(",")]).unwrap(), line[..3].join(","));
    }

    #[test]
    fn the_same_key_twice_is_kept() {
        assert_eq!(pass(&["foo=1,foo=2"]).unwrap(), "foo=1,foo=2");
    }

    proptest! {
        #[test]
        fn whatever_comes_something_short_and_valid_goes(lines: Vec<Vec<u8>>) {
            if let Tracestate::Rewritten(line) = tracestate(lines.iter().map(Vec::as_slice)) {
                prop_assert!(line.len() <= MAX_LEN);
                prop_assert_eq!(tracestate([&*line].into_iter()), Tracestate::AsSent);
            }
        }

        #[test]
        fn what_is_valid_and_short_passes_whole(
            members in proptest::collection::vec("[a-z0-9][a-z0-9_*/@-]{0,6}=[!-+--<>-~]{1,6}", 1..32),
            space in "[ \t]{0,3}",
        ) {
            let joined = members.join(",");
            prop_assert_eq!(pass(&[&joined]), Some(joined.clone()));
            let spaced = members.join(&format!("{space},{space},"));
            prop_assert_eq!(pass(&[&spaced]), Some(joined.clone()));
            let lines: Vec<_> = members.iter().map(String::as_str).collect();
            prop_assert_eq!(pass(&lines), Some(joined));
        }
    }
}
