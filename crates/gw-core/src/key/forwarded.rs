//! The lists in `Forwarded` (RFC 7239) and `X-Forwarded-For`, read from the right.
//!
//! In bytes, and no further than the walk goes: on the left stands what the client wrote, and nothing in there may change
//! how the entries of the proxies are read. They are well-formed, whatever text of the client they quote.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::{iter, str};

use http::{HeaderMap, HeaderName};

/// The elements of a list field, the last one first, over all its lines (RFC 9110 section 5.3 joins them in order).
///
/// A comma in a quoted string does not end an element. Counted from the right, the quotation marks are those of the
/// proxies until the walk is through with them.
pub(super) fn from_right(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).iter().rev();
    lines.flat_map(|line| split_from_right(line.as_bytes(), b','))
}

/// The address in the `for` parameter of one element of `Forwarded`.
///
/// `None` for anything but exactly one well-formed address: obfuscated and unknown identifiers have none.
pub(super) fn element_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    // RFC 7239 section 4 lets pairs be empty.
    let pairs = split_from_right(element, b';').filter(|pair| !pair.is_empty());
    for pair in pairs {
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let (name, value) = pair.split_at_checked(at)?;
        if !name.trim_ascii().eq_ignore_ascii_case(b"for") {
            continue;
        }
        if found.replace(value.get(1..)?.trim_ascii()).is_some() {
            return None;
        }
    }
    let value = str::from_utf8(found?).ok()?;
    match value.strip_prefix('"') {
        Some(quoted) => {
            let text = quoted.strip_suffix('"')?;
            without_obfuscated_port(text).or_else(|| node(text.as_bytes()))
        }
        // RFC 7239 section 4: colons and brackets must be quoted, so a bare value is an IPv4 address.
        None => value.parse().ok().filter(IpAddr::is_ipv4),
    }
}

/// The address of a node: IPv4 or IPv6, with brackets, and with a port, where these may stand.
pub(super) fn node(text: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(text).ok()?;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    in_brackets(text)
}

/// The address of a node whose port has a name instead of a number (RFC 7239 section 6.3).
fn without_obfuscated_port(text: &str) -> Option<IpAddr> {
    let (address, port) = text.rsplit_once(":_")?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if port.is_empty() || !port.bytes().all(is_plain) {
        return None;
    }
    let v4 = address.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    v4.or_else(|| in_brackets(address))
}

fn in_brackets(text: &str) -> Option<IpAddr> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// The parts between separators that are not quoted, the last one first, without white space around them.
fn split_from_right(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest.take()?;
        let mut quoted = false;
        let ends = |(at, byte): &(usize, &u8)| {
            quoted ^= **byte == b'"' && !is_escaped(text, *at);
            **byte == separator && !quoted
        };
        let Some((at, _)) = text.iter().enumerate().rev().find(ends) else {
            return Some(text.trim_ascii());
        };
        let (before, part) = text.split_at_checked(at)?;
        rest = Some(before);
        part.get(1..).map(<[u8]>::trim_ascii)
    })
}

/// Whether the byte there has an odd number of backslashes before it (RFC 9110 section 5.6.4).
fn is_escaped(text: &[u8], at: usize) -> bool {
    let before = text.iter().take(at).rev();
    before.take_while(|byte| **byte == b'\\').count() % 2 == 1
}
