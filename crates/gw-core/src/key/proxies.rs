use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

use super::forwarded;
use crate::context::ClientAddr;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose word about a client's address is believed.
///
/// `Forwarded` (RFC 7239) and `X-Forwarded-For` are lists to which each proxy appends the address that it was
/// called from. Only the right end can be trusted: the left part is whatever the client sent. So the walk starts at
/// the peer and goes from right to left for as long as the address at hand belongs to a trusted proxy; the first
/// address that does not is the client. An entry that is not an address ends the walk at the proxy that wrote it.
///
/// Without trusted proxies, the default, the peer is the client and both fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
}

impl TrustedProxies {
    /// The most list entries that are looked at; a longer chain ends there.
    pub const MAX_HOPS: usize = 32;

    /// Trusts nobody.
    pub const fn none() -> Self {
        Self {
            networks: Vec::new(),
        }
    }

    /// Trusts the addresses in `networks`.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self {
            networks: networks.into_iter().collect(),
        }
    }

    /// Whether `address`, in any form, belongs to a trusted proxy.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks
            .iter()
            .any(|network| network.contains(&address))
    }

    /// The client behind `peer`, as the fields of its request tell. Does not allocate.
    ///
    /// If a request has both fields, `Forwarded` is read and `X-Forwarded-For` is not: a proxy that writes one of
    /// them passes the client's copy of the other on.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return ClientAddr::new(client);
        }
        if headers.contains_key(FORWARDED) {
            self.walk(
                &mut client,
                forwarded::from_right(headers, FORWARDED).map(forwarded::element_for),
            );
        } else {
            let entries = forwarded::from_right(headers, X_FORWARDED_FOR);
            self.walk(&mut client, entries.map(forwarded::node));
        }
        ClientAddr::new(client)
    }

    fn walk(&self, client: &mut IpAddr, entries: impl Iterator<Item = Option<IpAddr>>) {
        for entry in entries.take(Self::MAX_HOPS) {
            let Some(address) = entry else { return };
            *client = address.to_canonical();
            if !self.contains(*client) {
                return;
            }
        }
    }
}
