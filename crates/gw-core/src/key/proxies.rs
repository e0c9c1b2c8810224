use std::net::IpAddr;

use http::HeaderMap;
use http::header::{FORWARDED, HeaderName};
use ipnet::{IpNet, Ipv4Net};

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
/// One of the two fields is read, `X-Forwarded-For` unless [`TrustedProxies::writing_forwarded`] says otherwise, and the
/// other one never: a proxy that appends to one of them passes the client's copy of the other on.
///
/// Without trusted proxies, the default, the peer is the client and both fields are ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    write_forwarded: bool,
}

impl TrustedProxies {
    /// The most list entries that are looked at; a longer chain ends there.
    pub const MAX_HOPS: usize = 32;

    /// Trusts nobody.
    pub const fn none() -> Self {
        Self {
            networks: Vec::new(),
            write_forwarded: false,
        }
    }

    /// Trusts the addresses in `networks`, IPv4 ones in whatever form.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let networks = networks.into_iter().map(canonical).collect();
        Self {
            networks,
            write_forwarded: false,
        }
    }

    /// Says that these proxies write `Forwarded` (RFC 7239) instead of `X-Forwarded-For`.
    #[must_use]
    pub const fn writing_forwarded(mut self) -> Self {
        self.write_forwarded = true;
        self
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
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> ClientAddr {
        let mut client = peer.to_canonical();
        if !self.contains(client) {
            return ClientAddr::new(client);
        }
        if self.write_forwarded {
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

/// A network of mapped addresses (`::ffff:0:0/96`) as the IPv4 network that it is: addresses are compared in that form.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped = v6.addr().to_ipv4_mapped().filter(|_| v6.prefix_len() >= 96);
    let v4 = mapped.and_then(|address| Ipv4Net::new(address, v6.prefix_len() - 96).ok());
    v4.map_or(network, IpNet::V4)
}
