//! Telling the upstream who the client is: `X-Forwarded-For`, `-Proto`, `-Host` and `Forwarded` (RFC 7239).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::LazyLock;

use bytes::Bytes;
use http::header::{Entry, FORWARDED, HeaderMap, HeaderName, HeaderValue};

use crate::fields::{Names, remove_where};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// What is begun or continued here, and by no other stage.
const OURS: [HeaderName; 4] = [FORWARDED, FOR, PROTO, HOST];

/// What only a trusted proxy may say, and what is dropped whoever says it.
pub(super) static SAID_BY_PROXIES: LazyLock<Names> = LazyLock::new(|| {
    OURS.into_iter()
        .chain(OTHERS.map(HeaderName::from_static))
        .chain(UNCHECKED.iter().cloned())
        .collect()
});

/// Whether [`Forward`](super::Forward) takes a field from trusted proxies alone, such as `X-Forwarded-User`, or drops it whoever
/// says it, such as `X-Real-IP`.
///
/// In front of it the field is still there, and anybody's word: no [`Route`](crate::inbound::Route) should be found by it.
pub fn is_said_by_proxies(name: &HeaderName) -> bool {
    SAID_BY_PROXIES.contains(name)
}

/// What else proxies say to upstreams: how and where the client asked, and whom they have authenticated.
const OTHERS: [&str; 27] = [
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-server",
    "x-forwarded-by",
    "x-forwarded-scheme",
    "x-forwarded-protocol",
    "x-forwarded-ssl",
    "x-url-scheme",
    "front-end-https",
    "x-original-host",
    "x-forwarded-user",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-auth-request-user",
    "x-auth-request-email",
    "x-auth-request-groups",
    "x-auth-request-preferred-username",
    "x-auth-request-access-token",
    "x-auth-request-redirect",
    // The certificate of a client, as Envoy says it, and as RFC 9440 does.
    "x-forwarded-client-cert",
    "client-cert",
    "client-cert-chain",
    "cf-ipcountry",
    "cf-visitor",
    "cf-access-authenticated-user-email",
];

/// Dropped whoever sent them: an upstream that reads them reads something else than the gateway has counted and checked.
///
/// The first ones are an address that is not a list, so that it cannot be appended to, or a list that a proxy has from the client.
/// Those from `x-original-url` on are a target or a method, in place of what was routed, limited and authorized.
static UNCHECKED: LazyLock<Names> = LazyLock::new(|| {
    [
        "x-real-ip",
        "x-client-ip",
        "x-cluster-client-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "cf-connecting-ipv6",
        "cf-pseudo-ipv4",
        "fastly-client-ip",
        "fly-client-ip",
        "do-connecting-ip",
        "x-appengine-user-ip",
        "x-original-forwarded-for",
        "x-vercel-forwarded-for",
        "forwarded-for",
        "x-forwarded",
        "x-remote-ip",
        "x-remote-addr",
        "x-originating-ip",
        "x-proxyuser-ip",
        "x-azure-clientip",
        "x-envoy-external-address",
        "x-original-url",
        "x-original-uri",
        "x-original-method",
        "x-rewrite-url",
        "x-forwarded-uri",
        "x-forwarded-path",
        "x-forwarded-method",
    ]
    .map(HeaderName::from_static)
    .into_iter()
    .collect()
});

/// The hop from the one who called to this gateway.
#[derive(Debug)]
pub(super) struct Hop<'a> {
    /// Who called.
    pub(super) from: Option<IpAddr>,
    /// What it says of others that is believed.
    pub(super) believed: Believed,
    /// `http` or `https`.
    pub(super) scheme: &'static str,
    /// The host that was asked for.
    pub(super) host: Option<&'a HeaderValue>,
}

/// Which fields the one who called has written itself, if it is a trusted proxy. What is in the others it has passed on from the
/// client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Believed {
    Nothing,
    /// `X-Forwarded-For` and what else proxies say beside it.
    XForwarded,
    /// `Forwarded` alone, which has it all.
    Forwarded,
}

impl Hop<'_> {
    /// Drops what nobody who is trusted said. What is in `protected` a stage has said, but for [`OURS`].
    pub(super) fn forget_others(&self, headers: &mut HeaderMap, protected: &[HeaderName]) {
        let (said, unchecked) = (&*SAID_BY_PROXIES, &*UNCHECKED);
        remove_where(headers, |name| {
            let goes = match self.believed {
                Believed::Nothing => said.contains(name),
                Believed::XForwarded => *name == FORWARDED || unchecked.contains(name),
                Believed::Forwarded => *name != FORWARDED && said.contains(name),
            };
            goes && (OURS.contains(name) || !protected.contains(name))
        });
    }

    /// Adds this hop, exactly once, to what trusted proxies said. What others said must have been
    /// [forgotten](Self::forget_others).
    ///
    /// `Forwarded` is continued if trusted proxies write it, and never begun: an upstream reads one of the two.
    pub(super) fn add_to(&self, headers: &mut HeaderMap, last: &mut LastFrom) {
        if self.believed == Believed::Nothing {
            // Nothing of it is left, so there is nothing to look for.
            if let Some(line) = self.from.and_then(|from| last.line(from)) {
                headers.insert(FOR, line);
            }
            headers.insert(PROTO, HeaderValue::from_static(self.scheme));
            if let Some(host) = self.host {
                headers.insert(HOST, host.clone());
            }
            return;
        }
        if let Some(from) = self.from {
            append(headers, FOR, &text(from.to_canonical()));
        }
        if headers.contains_key(FORWARDED) {
            append(headers, FORWARDED, &self.element());
        }
        // Proto and host are those of the first hop.
        headers
            .entry(PROTO)
            .or_insert(HeaderValue::from_static(self.scheme));
        if let (Entry::Vacant(entry), Some(host)) = (headers.entry(HOST), self.host) {
            entry.insert(host.clone());
        }
    }

    /// One element of `Forwarded`. Without an address it says so, which ends a reader's walk at this gateway.
    fn element(&self) -> String {
        let mut element = match self.from.map(|from| from.to_canonical()) {
            Some(IpAddr::V4(v4)) => format!("for={v4}"),
            Some(IpAddr::V6(v6)) => format!("for=\"[{v6}]\""),
            None => "for=unknown".to_owned(),
        };
        // Writing to a string does not fail.
        if let Some(host) = self.host.and_then(plain_host) {
            _ = write!(element, ";host=\"{host}\"");
        }
        _ = write!(element, ";proto={}", self.scheme);
        element
    }
}

/// Who called last, and the line that says so: on one connection it is always the same.
#[derive(Debug, Default)]
pub(super) struct LastFrom(Option<(IpAddr, HeaderValue)>);

impl LastFrom {
    fn line(&mut self, from: IpAddr) -> Option<HeaderValue> {
        if let Some((last, line)) = &self.0
            && *last == from
        {
            return Some(line.clone());
        }
        let line = value(text(from.to_canonical()).into_bytes())?;
        self.0 = Some((from, line.clone()));
        Some(line)
    }
}

/// A host that can stand between quotes as it is.
fn plain_host(host: &HeaderValue) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte);
    host.to_str().ok().filter(|host| host.bytes().all(plain))
}

/// An address as text. By hand for IPv4, which is in nearly each request: formatting takes ten times as long.
fn text(address: IpAddr) -> String {
    let IpAddr::V4(v4) = address else {
        return address.to_string();
    };
    let octets = v4.octets();
    let digits = octets.map(|octet| 1 + usize::from(octet > 9) + usize::from(octet > 99));
    // Exactly: a header value of a string with room left has one more allocation.
    let mut text = String::with_capacity(digits.iter().sum::<usize>() + 3);
    for (position, octet) in octets.into_iter().enumerate() {
        if position > 0 {
            text.push('.');
        }
        text.push_str(itoa::Buffer::new().format(octet));
    }
    text
}

/// Appends to a list as one line: many readers look at the first line only.
fn append(headers: &mut HeaderMap, name: HeaderName, member: &str) {
    let mut list = Vec::new();
    for line in headers.get_all(&name) {
        list.extend_from_slice(line.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(member.as_bytes());
    if let Some(list) = value(list) {
        headers.insert(name, list);
    }
}

/// Values joined by visible characters make a value again.
fn value(bytes: Vec<u8>) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(Bytes::from(bytes)).ok()
}

#[cfg(test)]
mod tests;
