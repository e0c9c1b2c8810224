//! Which host a request is for, and what a host looks like.

use std::net::Ipv6Addr;

use gw_core::{Code, Rejection};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderValue, Version};

use super::{Lines, malformed};
use crate::codes;

/// The host that must replace the field's (RFC 9112 section 3.2, RFC 9113 section 8.3.1).
pub(super) fn find_host(parts: &Parts, hosts: Lines<'_>) -> Result<Option<HeaderValue>, Rejection> {
    const MALFORMED: &Code = &codes::MALFORMED_REQUEST;
    if hosts.first.is_some() && !hosts.is_alone {
        return Err(malformed("host", "duplicate"));
    }
    let host = match (parts.uri.authority(), hosts.first) {
        (Some(authority), host) => {
            if !is_host(authority.as_str()) {
                return Err(malformed("host", "invalid"));
            }
            // The field must be there and be a host all the same: what stands in front may read it instead of the target.
            if parts.version < Version::HTTP_2 {
                check_host(host, parts.version)?;
            }
            // On HTTP/1 the target wins over the field; on HTTP/2 both say the same or the request is malformed.
            let target = authority.as_str().as_bytes();
            let scheme = parts.uri.scheme();
            let disagree = |host: &HeaderValue| {
                let host = without_usual_port(host.as_bytes(), scheme);
                !host.eq_ignore_ascii_case(without_usual_port(target, scheme))
            };
            if parts.version >= Version::HTTP_2 && host.is_some_and(disagree) {
                return Err(malformed("host", "contradicts :authority"));
            }
            without_empty_port(target)
        }
        (None, host) => {
            check_host(host, parts.version)?;
            let Some(host) = host else { return Ok(None) };
            let normal = without_empty_port(host.as_bytes());
            if normal.len() == host.len() {
                return Ok(None);
            }
            normal
        }
    };
    Ok(Some(HeaderValue::from_bytes(host).map_err(|_| MALFORMED)?))
}

/// An empty port is the usual one, and is left out in the normal form (RFC 9110 section 4.2.3).
fn without_empty_port(host: &[u8]) -> &[u8] {
    host.strip_suffix(b":").unwrap_or(host)
}

/// For the comparison of two hosts: the port that the scheme has is the same as none (RFC 3986 section 6.2.3).
fn without_usual_port<'a>(host: &'a [u8], scheme: Option<&Scheme>) -> &'a [u8] {
    let usual: &[u8] = match scheme.map(Scheme::as_str) {
        Some("http") => b":80",
        Some("https") => b":443",
        _ => b":",
    };
    let stripped = host.strip_suffix(usual);
    stripped.unwrap_or_else(|| without_empty_port(host))
}

/// The field must be a host, and only before HTTP/1.1 may it be missing.
fn check_host(host: Option<&HeaderValue>, version: Version) -> Result<(), Rejection> {
    match host {
        Some(host) if host.to_str().is_ok_and(is_host) => Ok(()),
        Some(_) => Err(malformed("host", "invalid")),
        None if version < Version::HTTP_11 => Ok(()),
        None => Err(malformed("host", "missing")),
    }
}

/// A registered name of letters, digits, `-`, `.`, `_`, or an IP address, with an optional port, which may be empty.
pub(in crate::inbound) fn is_host(text: &str) -> bool {
    let (name, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, port)) if address.parse::<Ipv6Addr>().is_ok() => ("v6", port),
        Some(_) => return false,
        // As far as a name goes: only a port may follow it.
        None => text
            .bytes()
            .position(|byte| !is_in_name(byte))
            .and_then(|end| text.split_at_checked(end))
            .unwrap_or((text, "")),
    };
    let port_is_valid = match port.strip_prefix(':') {
        Some("") => true,
        Some(digits) => digits.bytes().all(|b| b.is_ascii_digit()) && digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    (1..=255).contains(&name.len()) && port_is_valid
}

const fn is_in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')
}
