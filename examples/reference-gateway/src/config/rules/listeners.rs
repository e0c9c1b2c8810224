//! Sockets.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

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

    let mut sockets: HashMap<(u16, bool), Taken> = HashMap::new();
    for (at, address) in all(file) {
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
    all
}
