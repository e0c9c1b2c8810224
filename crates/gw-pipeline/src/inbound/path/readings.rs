//! What others may take a path for.

use super::is_plain;

/// How others read `path`, which is in normal form, where they read another path; two at the most.
///
/// Some undo the escapes of what needs none, some cut parameters off at `;`, before that or behind it, and some do none of it. Not
/// all of them have to be tried: what is undone or cut off is in no literal of a route. So who does it all comes by every
/// literal that anybody comes by, and who does nothing by those alone that everybody comes by; where these two find one route, it
/// is the route of all between them.
///
/// Where nothing is left of the last segment it matches less than before, since no `{name}` takes an empty one. So it is
/// read in both ways, and all others are as nobody leaves them.
pub(super) fn others(path: &str) -> Vec<String> {
    if !path.contains(['%', ';']) {
        return Vec::new();
    }
    let bare = path.split('/').map(bare).collect::<Vec<_>>().join("/");
    let emptied = bare
        .split_once("/;")
        .map(|(before, _)| format!("{before}/"));
    let bare = (bare != path).then_some(bare);
    bare.into_iter().chain(emptied).collect()
}

/// The segment without needless escapes and parameters, unless it is nothing but parameters.
fn bare(segment: &str) -> String {
    let mut pieces = segment.split('%');
    let mut undone = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let escape = piece.split_at_checked(2);
        match escape.and_then(|(digits, rest)| Some((needless(digits)?, rest))) {
            Some((meant, rest)) => {
                undone.push(meant);
                undone.push_str(rest);
            }
            None => {
                undone.push('%');
                undone.push_str(piece);
            }
        }
    }
    if let Some(end) = undone.find(';').filter(|&end| end > 0) {
        undone.truncate(end);
    }
    undone
}

/// What an escape stands for, if that could stand in a segment as well.
fn needless(digits: &str) -> Option<char> {
    let byte = u8::from_str_radix(digits, 16).ok()?;
    // Brackets as well: no path should hold them as they are (RFC 3986 section 3.3), but many do.
    let plain = matches!(byte, b';' | b'[' | b']') || (is_plain(byte) && byte != b'/');
    plain.then(|| char::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_is_what_needs_no_escape() {
        for (path, expected) in [
            ("/a/b", &[][..]),
            ("/a%20b/%C3%A9/%2F/%25/%253A", &[]),
            ("/%3A%40%21%24%26%27%28%29%2A%2B%2C%3D", &["/:@!$&'()*+,="]),
            ("/a%3Ab%20c/d", &["/a:b%20c/d"]),
            ("/a%5B0%5D", &["/a[0]"]),
            ("/a;v=1/b;/c%3Bd%3A", &["/a/b/c"]),
            ("/a/;x", &["/a/"]),
            ("/a%3A/;x", &["/a:/;x", "/a:/"]),
            ("/a/%3Bx", &["/a/;x", "/a/"]),
            ("/;x;y", &["/"]),
        ] {
            assert_eq!(others(path), expected, "{path}");
        }
    }
}
