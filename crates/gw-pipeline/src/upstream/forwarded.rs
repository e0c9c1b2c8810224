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
mod tests {
    use super::*;

    const SAID: [(&str, &str); 10] = [
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-for", "192.0.2.2"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "first.example"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-prefix", "/x"),
        ("x-real-ip", "192.0.2.1"),
        ("true-client-ip", "192.0.2.1"),
        ("x-original-url", "/admin"),
    ];

    fn pass(hop: &Hop<'_>, said: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in said {
            headers.append(*name, value.parse().unwrap());
        }
        hop.forget_others(&mut headers, &[]);
        hop.add_to(&mut headers, &mut LastFrom::default());
        headers
    }

    #[test]
    fn a_stranger_says_nothing_of_others() {
        let host = HeaderValue::from_static("shop.example");
        let headers = pass(
            &Hop {
                from: Some("::ffff:203.0.113.9".parse().unwrap()),
                believed: Believed::Nothing,
                scheme: "http",
                host: Some(&host),
            },
            &SAID,
        );
        assert_eq!(headers.len(), 3);
        assert_eq!(headers["x-forwarded-for"], "203.0.113.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "shop.example");
    }

    #[test]
    fn a_trusted_proxy_is_continued() {
        let host = HeaderValue::from_static("shop.example:8080");
        let hop = Hop {
            from: Some("2001:db8::1".parse().unwrap()),
            believed: Believed::XForwarded,
            scheme: "http",
            host: Some(&host),
        };
        let headers = pass(&hop, &SAID);
        assert_eq!(
            headers["x-forwarded-for"],
            "192.0.2.1, 192.0.2.2, 2001:db8::1"
        );
        assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
        // They do not write it, so it is the client's.
        assert!(!headers.contains_key("forwarded"));
        assert_eq!(headers["x-forwarded-proto"], "https");
        assert_eq!(headers["x-forwarded-host"], "first.example");
        for name in UNCHECKED.iter() {
            assert!(!headers.contains_key(name), "{name}");
        }
        assert!(!pass(&hop, &[]).contains_key("forwarded"));
    }

    /// Story: a proxy that appends to one of the fields passes the client's copy of the other on, and so did we, with ourselves
    /// appended: to an upstream it looked like what trusted proxies had said.
    #[test]
    fn who_writes_forwarded_writes_nothing_else() {
        let host = HeaderValue::from_static("shop.example:8080");
        let hop = Hop {
            from: Some("2001:db8::1".parse().unwrap()),
            believed: Believed::Forwarded,
            scheme: "http",
            host: Some(&host),
        };
        let headers = pass(&hop, &SAID);
        assert_eq!(headers.len(), 4);
        let element = r#"for="[2001:db8::1]";host="shop.example:8080";proto=http"#;
        assert_eq!(headers["forwarded"], format!("for=192.0.2.1, {element}"));
        assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "shop.example:8080");
        assert!(!pass(&hop, &[]).contains_key("forwarded"));
    }

    /// Story: these went on as the client had sent them. Several frameworks take `X-Forwarded-Ssl: on` for TLS.
    #[test]
    fn less_usual_fields_of_proxies_are_theirs_alone() {
        let hop = |believed| Hop {
            from: None,
            believed,
            scheme: "http",
            host: None,
        };
        for name in OTHERS {
            let said = [(name, "x")];
            assert!(
                !pass(&hop(Believed::Nothing), &said).contains_key(name),
                "{name}"
            );
            assert!(
                pass(&hop(Believed::XForwarded), &said).contains_key(name),
                "{name}"
            );
        }
        for name in UNCHECKED.iter() {
            let mut headers = HeaderMap::new();
            headers.insert(name.clone(), HeaderValue::from_static("x"));
            hop(Believed::XForwarded).forget_others(&mut headers, &[]);
            assert!(headers.is_empty(), "{name}");
            assert!(SAID_BY_PROXIES.contains(name), "{name}");
        }
    }

    /// Story: upstreams at home in one of these clouds read its field for the client's address, and the client had written it.
    #[test]
    fn fields_of_clouds_and_networks_are_known() {
        for name in [
            "cf-pseudo-ipv4",
            "fly-client-ip",
            "do-connecting-ip",
            "x-appengine-user-ip",
            "x-original-forwarded-for",
            "x-vercel-forwarded-for",
        ] {
            assert!(UNCHECKED.contains(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "cf-ipcountry",
            "cf-visitor",
            "cf-access-authenticated-user-email",
        ] {
            assert!(OTHERS.contains(&name), "{name}");
        }
        // Those who read it verify its signature.
        let signed = HeaderName::from_static("cf-access-jwt-assertion");
        assert!(!SAID_BY_PROXIES.contains(&signed));
    }

    /// Story: an upstream that serves proxies as their authorizer, or stands behind a login proxy, read from the client what it had
    /// asked for, and who it was.
    #[test]
    fn what_authorizing_proxies_say_is_known() {
        for name in [
            "x-forwarded-uri",
            "x-forwarded-path",
            "x-forwarded-method",
            "x-original-uri",
            "x-original-method",
        ] {
            assert!(UNCHECKED.contains(&HeaderName::from_static(name)), "{name}");
        }
        for name in [
            "x-forwarded-access-token",
            "x-auth-request-user",
            "x-auth-request-email",
            "x-auth-request-groups",
            "x-auth-request-preferred-username",
            "x-auth-request-access-token",
            "x-auth-request-redirect",
        ] {
            assert!(OTHERS.contains(&name), "{name}");
            assert!(is_said_by_proxies(&HeaderName::from_static(name)));
        }
        assert!(!is_said_by_proxies(&HeaderName::from_static("x-beta")));
    }

    /// Story: an upstream that knows its callers by the certificates that Envoy has checked believed whoever wrote the field.
    #[test]
    fn a_stranger_has_no_certificate_by_its_own_word() {
        let said = [
            ("x-forwarded-client-cert", "Subject=\"CN=admin\""),
            ("client-cert", ":MIIBqA==:"),
            ("client-cert-chain", ":MIIBqA==:"),
        ];
        for (believed, stays) in [
            (Believed::Nothing, false),
            (Believed::XForwarded, true),
            (Believed::Forwarded, false),
        ] {
            let hop = Hop {
                from: None,
                believed,
                scheme: "http",
                host: None,
            };
            let headers = pass(&hop, &said);
            for (name, _) in said {
                assert_eq!(headers.contains_key(name), stays, "{name} {believed:?}");
            }
        }
    }

    /// Story: identity headers with such a name were set by their stage, and dropped here.
    #[test]
    fn what_stages_say_stays_and_what_is_said_here_is_no_stages() {
        for believed in [Believed::Nothing, Believed::XForwarded, Believed::Forwarded] {
            let hop = Hop {
                from: None,
                believed,
                scheme: "http",
                host: None,
            };
            for name in OTHERS.iter().copied().chain(["x-real-ip"]) {
                let mut headers = HeaderMap::new();
                headers.insert(name, HeaderValue::from_static("7"));
                hop.forget_others(&mut headers, &[HeaderName::from_static(name)]);
                assert_eq!(headers.len(), 1, "{name}");
            }
        }
        let headers = SAID.map(|(name, _)| HeaderName::from_static(name));
        let stranger = Hop {
            from: None,
            believed: Believed::Nothing,
            scheme: "http",
            host: None,
        };
        for name in OURS {
            let mut said = HeaderMap::new();
            said.insert(name, HeaderValue::from_static("192.0.2.1"));
            stranger.forget_others(&mut said, &headers);
            assert!(said.is_empty());
        }
    }

    #[test]
    fn the_line_is_that_of_who_called_now() {
        let mut last = LastFrom::default();
        for from in ["203.0.113.9", "203.0.113.9", "2001:db8::1", "203.0.113.9"] {
            let hop = Hop {
                from: Some(from.parse().unwrap()),
                believed: Believed::Nothing,
                scheme: "http",
                host: None,
            };
            let mut headers = HeaderMap::new();
            hop.add_to(&mut headers, &mut last);
            assert_eq!(headers["x-forwarded-for"], from);
        }
    }

    #[test]
    fn a_strange_host_cannot_break_out_of_its_quotes() {
        let host = HeaderValue::from_static("a\";for=10.0.0.1");
        let hop = Hop {
            from: None,
            believed: Believed::Forwarded,
            scheme: "http",
            host: Some(&host),
        };
        let headers = pass(&hop, &[("forwarded", "for=192.0.2.1")]);
        assert_eq!(
            headers["forwarded"],
            "for=192.0.2.1, for=unknown;proto=http"
        );
    }
}
