//! Sockets.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::finding::{Findings, KeyPath};
use crate::config::table::File;

/// Whether every listener can be opened, and the admin page is not open to the world.
pub(super) fn check(file: &File, findings: &mut Findings) {
    findings.check(
        file.server.listen.is_empty(),
        KeyPath::of("server").key("listen"),
        "must hold at least one address, such as [\"127.0.0.1:8080\"]",
    );
    let admin = file.admin.listen.ip().to_canonical();
    findings.check(
        !admin.is_loopback() && file.admin.token_file.is_none(),
        KeyPath::of("admin").key("listen"),
        "is not loopback: add `token_file`, or listen on 127.0.0.1 or [::1]",
    );

    let all = all(file);
    check_upstreams(file, &all, findings);
    let mut sockets: HashMap<(u16, bool), Taken> = HashMap::new();
    for (at, address) in all {
        // Port 0 takes any free one. A listener at `[::]` leaves IPv4 to one that is beside it, so
        // addresses are only compared within one family.
        if address.port() == 0 {
            continue;
        }
        let taken = sockets
            .entry((address.port(), address.is_ipv4()))
            .or_default();
        if let Some(other) = taken.by(address.ip()) {
            findings.at(
                at.clone(),
                format!("is taken by {other}: choose another port"),
            );
        }
        taken.addresses.entry(address.ip()).or_insert(at);
    }
}

/// Who listens on one port.
#[derive(Default)]
struct Taken {
    addresses: BTreeMap<IpAddr, KeyPath>,
}

impl Taken {
    /// The listener because of which `address` could not be bound: the same one, or one of the two
    /// is all addresses.
    fn by(&self, address: IpAddr) -> Option<&KeyPath> {
        let (first, listener) = self.addresses.first_key_value()?;
        if address.is_unspecified() || first.is_unspecified() {
            return Some(listener);
        }
        self.addresses.get(&address)
    }
}

/// Whether no upstream is the gateway itself: requests would go round until they are over, or reach the admin listener from
/// loopback. What the health listener says anybody may hear.
fn check_upstreams(file: &File, listeners: &[(KeyPath, SocketAddr)], findings: &mut Findings) {
    for (name, upstream) in &file.upstreams {
        for (i, endpoint) in upstream.endpoints.iter().enumerate() {
            let addresses = addresses(&endpoint.host);
            let own = listeners.iter().find(|(_, listener)| {
                if *listener == file.health.listen {
                    return false;
                }
                let meets = |ip: &IpAddr| takes(listener, *ip, listeners);
                endpoint.port == listener.port() && addresses.iter().any(meets)
            });
            if let Some((listener, _)) = own {
                let at = KeyPath::of("upstreams").key(name).key("endpoints");
                let rule = format!("is this gateway's own {listener}: name another one");
                findings.at(at.index(i), rule);
            }
        }
    }
}

/// Whether who connects to this address meets the listener, which may be at all addresses: at `[::]` those of IPv4 too, unless
/// that has a listener beside it.
fn takes(listener: &SocketAddr, ip: IpAddr, all: &[(KeyPath, SocketAddr)]) -> bool {
    let beside = |(_, it): &(KeyPath, SocketAddr)| it.is_ipv4() && it.port() == listener.port();
    let family = listener.is_ipv4() == ip.is_ipv4() || ip.is_ipv4() && !all.iter().any(beside);
    listener.ip() == ip || listener.ip().is_unspecified() && ip.is_loopback() && family
}

/// Where who connects to this host may arrive, as far as its name tells.
fn addresses(host: &str) -> Vec<IpAddr> {
    const IPV4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    const IPV6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
    match host.parse().map(|ip: IpAddr| ip.to_canonical()) {
        // To connect to no address is to connect to loopback.
        Ok(ip) if ip.is_unspecified() => vec![if ip.is_ipv4() { IPV4 } else { IPV6 }],
        Ok(ip) => vec![ip],
        Err(_) if host == "localhost" => vec![IPV4, IPV6],
        Err(_) => Vec::new(),
    }
}

fn all(file: &File) -> Vec<(KeyPath, SocketAddr)> {
    let at = KeyPath::of("server").key("listen");
    let mut all: Vec<_> = file
        .server
        .listen
        .iter()
        .enumerate()
        .map(|(i, address)| (at.index(i), *address))
        .collect();
    all.push((KeyPath::of("health").key("listen"), file.health.listen));
    all.push((KeyPath::of("admin").key("listen"), file.admin.listen));
    for (name, lane) in &file.lanes.lane {
        let at = KeyPath::of("lanes").key("lane").key(name).key("listen");
        all.extend(
            lane.listen
                .iter()
                .enumerate()
                .map(|(i, address)| (at.index(i), *address)),
        );
    }
    // `::ffff:127.0.0.1` is 127.0.0.1.
    for (_, address) in &mut all {
        address.set_ip(address.ip().to_canonical());
    }
    all
}
