use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

use super::{Networks, forwarded};
use crate::config::ConfigError;
use crate::context::ClientAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word about a client's address is believed.
///
/// `Forwarded` (RFC 7239) and `X-Forwarded-For` are lists to which each proxy appends the address that it was
/// called from. Only the right end can be trusted: the left part is whatever the client sent. So the walk starts at
/// the peer and goes from right to left for as long as the address at hand belongs to a trusted proxy; the first
/// address that does not is the client. An entry that is not an address ends the walk at the proxy that wrote it.
///
/// Whom to trust is said by networks ([`TrustedProxies::new`]) or, where proxies have no addresses of which that could be said, by
/// their number ([`TrustedProxies::nearest_hops`]).
///
/// One of the two fields is read, `X-Forwarded-For` unless [`TrustedProxies::writing_forwarded`] says otherwise, and the
/// other one never: a proxy that appends to one of them passes the client's copy of the other on.
///
/// Without trusted proxies, the default, the peer is the client and both fields are ignored. Clones share the networks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Networks,
    /// How many are trusted whatever their addresses, the peer first.
    hops: usize,
    write_forwarded: bool,
}

impl TrustedProxies {
    /// The most list entries that are looked at; a longer chain ends there.
    pub const MAX_HOPS: usize = 32;
    /// The most that [`TrustedProxies::nearest_hops`] takes.
    pub const MAX_NEAREST_HOPS: usize = 8;

    /// Trusts nobody.
    pub const fn none() -> Self {
        Self {
            networks: Networks::none(),
            hops: 0,
            write_forwarded: false,
        }
    }

    /// Trusts the addresses in `networks`, IPv4 ones in whatever form.
    ///
    /// # Examples
    ///
    /// ```
    /// use gw_core::key::{IpNet, TrustedProxies};
    ///
    /// let balancers: IpNet = "10.0.0.0/8".parse()?;
    /// let proxies = TrustedProxies::new([balancers]);
    /// assert!(proxies.contains([10, 1, 2, 3].into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            networks: Networks::new(networks),
            ..Self::none()
        }
    }

    /// Trusts the nearest `count` proxies whatever their addresses: the peer, whoever it is, and those behind it that the first
    /// `count - 1` entries name. 1 to [`TrustedProxies::MAX_NEAREST_HOPS`]. The client is the entry that the last of them wrote.
    ///
    /// **It is only as good as the network.** Who comes through fewer proxies than that, to the server itself or around the outermost
    /// one, writes what is believed: its address, and so its limits and what it may reach. Use it where nobody can, as addresses
    /// of proxies change too often to be named, and count too few rather than too many: then clients of one proxy are taken
    /// for one.
    ///
    /// # Errors
    ///
    /// If `count` is out of its bounds; the field is `nearest_hops`.
    ///
    /// # Examples
    ///
    /// ```
    /// use gw_core::key::TrustedProxies;
    /// use http::{HeaderMap, HeaderValue};
    ///
    /// // A content network, and a balancer that it calls.
    /// let proxies = TrustedProxies::nearest_hops(2)?;
    /// let mut fields = HeaderMap::new();
    /// let sent = HeaderValue::from_static("1.1.1.1, 192.0.2.7, 198.51.100.1");
    /// fields.insert("x-forwarded-for", sent);
    /// let client = proxies.client([10, 0, 0, 1].into(), &fields);
    /// assert_eq!(client.ip().to_string(), "192.0.2.7");
    /// # Ok::<(), gw_core::ConfigError>(())
    /// ```
    pub fn nearest_hops(count: usize) -> Result<Self, ConfigError> {
        if !(1..=Self::MAX_NEAREST_HOPS).contains(&count) {
            return Err(ConfigError::new("nearest_hops", "must be 1 to 8"));
        }
        Ok(Self {
            hops: count,
            ..Self::none()
        })
    }

    /// Says that these proxies write `Forwarded` (RFC 7239) instead of `X-Forwarded-For`.
    #[must_use]
    pub const fn writing_forwarded(mut self) -> Self {
        self.write_forwarded = true;
        self
    }

    /// Whether these proxies write `Forwarded` and not `X-Forwarded-For`. The one that they do not write is the client's.
    pub const fn write_forwarded(&self) -> bool {
        self.write_forwarded
    }

    /// Whether a peer with this address, in any form, is a trusted proxy. With [`TrustedProxies::nearest_hops`] each peer is.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.trusts(address, 0)
    }

    /// Whether the proxy with this address, so many hops behind the peer, is trusted.
    fn trusts(&self, address: IpAddr, hop: usize) -> bool {
        hop < self.hops || self.networks.contains(address)
    }

    /// The client behind `peer`, as the fields of its request tell. Does not allocate.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return ClientAddr::new(client);
        }
        if self.write_forwarded {
            let members = forwarded::from_right(headers, FORWARDED).take(Self::MAX_HOPS);
            // RFC 9110 section 5.6.1.2: empty ones are no members. In the other field, which no standard calls a list, one
            // may be all that a proxy knew.
            let elements = members.filter(|member| !member.is_empty());
            self.walk(&mut client, elements.map(forwarded::element_for));
        } else {
            let entries = forwarded::from_right(headers, X_FORWARDED_FOR).take(Self::MAX_HOPS);
            self.walk(&mut client, entries.map(forwarded::node));
        }
        ClientAddr::new(client)
    }

    fn walk(&self, client: &mut IpAddr, entries: impl Iterator<Item = Option<IpAddr>>) {
        for (hop, entry) in (1..).zip(entries) {
            let Some(address) = entry else { return };
            *client = address.to_canonical();
            if !self.trusts(*client, hop) {
                return;
            }
        }
    }
}
