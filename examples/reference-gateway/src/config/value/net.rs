//! Addresses and URLs.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::Uri;
use ipnet::IpNet;

use super::text::{FromText, deserialize_from_text};

impl FromText for SocketAddr {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        text.parse().map_err(
            |_| "must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
        )
    }
}

const NETWORK: &str = "must be an address or a network, such as \"192.0.2.7\", \"10.0.0.0/8\" or \
                       \"2001:db8::/32\"";

impl FromText for IpNet {
    /// A bare address is a network of one.
    fn from_text(text: &str) -> Result<Self, &'static str> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::from(address));
        }
        let net: Self = text.parse().map_err(|_| NETWORK)?;
        // Usually a slip in the prefix length, and it would let in more than meant.
        if net.addr() != net.network() {
            return Err(
                "has address bits beyond its prefix: write its first address, or a longer prefix",
            );
        }
        Ok(net)
    }
}

/// Parses and splits, refusing what no URL of ours may carry.
fn http_uri(text: &str) -> Option<Uri> {
    let uri: Uri = text.parse().ok()?;
    let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
    let host = uri.host().is_some_and(|host| !host.is_empty());
    let userinfo = uri
        .authority()
        .is_some_and(|authority| authority.as_str().contains('@'));
    // `Uri` drops fragments and takes a port that does not fit.
    let port = uri
        .authority()
        .and_then(|authority| authority.as_str().rsplit_once(':'));
    let odd_port = port.is_some_and(|(_, port)| {
        !port.contains(']') && uri.port_u16().is_none_or(|port| port == 0)
    });
    (scheme && host && !userinfo && !odd_port && !text.contains('#')).then_some(uri)
}

/// A host in lower case and without brackets. `Uri` takes some that no resolver knows, such as `*`.
fn host(written: &str) -> Option<String> {
    if let Some(address) = written
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return address
            .parse::<Ipv6Addr>()
            .ok()
            .map(|address| address.to_string());
    }
    let letter = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    written
        .bytes()
        .all(letter)
        .then(|| written.to_ascii_lowercase())
}

/// One instance of an upstream: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub tls: bool,
    /// Name or address, in lower case; an IPv6 address without its brackets.
    pub host: String,
    /// 80 or 443 where none is written.
    pub port: u16,
}

impl FromText for Endpoint {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        const RULE: &str =
            "must be http:// or https://, a host and a port, such as \"http://127.0.0.1:9001\"";
        let uri = http_uri(text).ok_or(RULE)?;
        if uri.path() != "/" || uri.query().is_some() {
            return Err("must end after the port: the path of a request is sent as it came");
        }
        let tls = uri.scheme_str() == Some("https");
        let host = host(uri.host().ok_or(RULE)?).ok_or(RULE)?;
        Ok(Self {
            tls,
            host,
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        let (open, close) = if self.host.contains(':') {
            ("[", "]")
        } else {
            ("", "")
        };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

/// An `http://` or `https://` URL without userinfo and fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpUrl(Uri);

impl HttpUrl {
    /// For defaults: a URL that keeps the rules.
    pub(in crate::config) fn from_static(url: &'static str) -> Self {
        Self(Uri::from_static(url))
    }

    /// The URL; scheme and host are there.
    pub fn uri(&self) -> &Uri {
        &self.0
    }
}

impl FromText for HttpUrl {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        http_uri(text)
            .map(Self)
            .ok_or("must be an http:// or https:// URL without user and fragment")
    }
}

/// The URL of a server that is not HTTP, such as `redis://127.0.0.1:6379`. May hold a password, so
/// it does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct ServiceUrl(String);

impl ServiceUrl {
    /// The whole URL, password included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What stands before `://`.
    pub fn scheme(&self) -> &str {
        self.0.split("://").next().unwrap_or_default()
    }
}

impl fmt::Debug for ServiceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceUrl({}://…)", self.scheme())
    }
}

impl FromText for ServiceUrl {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be a URL with scheme and host, such as \"redis://127.0.0.1:6379\"";
        let (scheme, rest) = text.split_once("://").ok_or(RULE)?;
        let named = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase());
        let visible = !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_graphic());
        if named && visible {
            Ok(Self(text.to_owned()))
        } else {
            Err(RULE)
        }
    }
}

deserialize_from_text!(Endpoint, HttpUrl, ServiceUrl);
