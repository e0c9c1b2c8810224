//! The lists in `Forwarded` (RFC 7239) and `X-Forwarded-For`, read from the right.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName};

/// The elements of a list field, the last one first, over all its lines (RFC 9110 section 5.3 joins them in order).
///
/// A line that is not visible ASCII gives one empty element, which is not an address and so ends a walk. A comma
/// inside a quoted string splits as well: both halves then have half a quotation and end a walk, the strict side.
pub(super) fn from_right(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).iter().rev();
    lines
        .flat_map(|line| line.to_str().unwrap_or_default().rsplit(','))
        .map(trim)
}

/// The address in the `for` parameter of one element of `Forwarded`.
///
/// `None` for anything but exactly one well-formed address: obfuscated and unknown identifiers have none.
pub(super) fn element_for(element: &str) -> Option<IpAddr> {
    // The list was split at every comma. Half a quoted string is client text that some proxy copied, and what looks
    // like a parameter in it is none.
    if element.bytes().filter(|byte| *byte == b'"').count() % 2 != 0 {
        return None;
    }
    let mut found = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if trim(name).eq_ignore_ascii_case("for") && found.replace(trim(value)).is_some() {
            return None;
        }
    }
    let value = found?;
    match value.strip_prefix('"') {
        Some(quoted) => node(quoted.strip_suffix('"')?),
        // RFC 7239 section 4: colons and brackets must be quoted, so a bare value is an IPv4 address.
        None => value.parse().ok().filter(IpAddr::is_ipv4),
    }
}

/// The address of a node: IPv4 or IPv6, with brackets, and with a port, where these may stand.
pub(super) fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

/// Without optional white space (RFC 9110 section 5.6.3) around it.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}
