use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

use crate::assembly::Fault;
use crate::config::{Config, KeyPath};

/// How many connections may wait to be accepted, if the system has no smaller bound. It drops those beyond without a word to either
/// side, and their clients come again after a second, then three. 128, which is what the standard library and tokio ask for, is less
/// than come at once when a balancer next door has failed.
const BACKLOG: i32 = 4096;

/// The open sockets of a gateway, but for the one that is served first.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) traffic: Vec<TcpListener>,
    /// Those of lanes, by the lane's name.
    pub(super) lanes: BTreeMap<String, Vec<TcpListener>>,
    pub(super) admin: TcpListener,
    addresses: Addresses,
}

/// Where a gateway listens: what the system gave, where the configuration leaves the port open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pub traffic: Vec<SocketAddr>,
    /// By the name of a lane that has listeners of its own.
    pub lanes: BTreeMap<String, Vec<SocketAddr>>,
    pub health: SocketAddr,
    pub admin: SocketAddr,
}

impl Listeners {
    /// Opens them, and the health listener.
    pub(super) fn open(config: &Config) -> Result<(Self, TcpListener), Fault> {
        let beside = Beside::of(config);
        let traffic = open_all(&config.server.listen, &beside, &"server.listen".into())?;
        let health = open(config.health.listen, &beside, || "health.listen".into())?;
        let admin = open(config.admin.listen, &beside, || "admin.listen".into())?;
        let mut lanes = BTreeMap::new();
        for (name, lane) in config.lanes.own_listeners() {
            let key = KeyPath::from("lanes.lane").key(name).key("listen");
            let opened = open_all(&lane.listen, &beside, &key)?;
            lanes.insert(name.to_owned(), opened);
        }
        let addresses = Addresses {
            traffic: local_all(&traffic)?,
            lanes: lanes
                .iter()
                .map(|(name, listeners)| Ok((name.clone(), local_all(listeners)?)))
                .collect::<Result<_, _>>()?,
            health: local(&health)?,
            admin: local(&admin)?,
        };
        let but_health = Self {
            traffic,
            lanes,
            admin,
            addresses,
        };
        Ok((but_health, health))
    }

    pub(super) const fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

/// The ports that have a listener for IPv4. One at `[::]` takes IPv4 as well; beside another it must leave that alone, or one of the
/// two cannot be bound.
#[derive(Debug)]
struct Beside(HashSet<u16>);

impl Beside {
    fn of(config: &Config) -> Self {
        let lanes = config.lanes.own_listeners();
        let lanes = lanes.flat_map(|(_, lane)| &lane.listen);
        let sides = [&config.health.listen, &config.admin.listen];
        let all = config.server.listen.iter().chain(sides).chain(lanes);
        // The system gives each that leaves the port open one of its own.
        let ports = all.filter(|it| it.ip().to_canonical().is_ipv4() && it.port() != 0);
        Self(ports.map(SocketAddr::port).collect())
    }

    fn ipv4(&self, address: SocketAddr) -> bool {
        address.ip() == Ipv6Addr::UNSPECIFIED && self.0.contains(&address.port())
    }
}

fn open_all(
    addresses: &[SocketAddr],
    beside: &Beside,
    key: &KeyPath,
) -> Result<Vec<TcpListener>, Fault> {
    let addresses = addresses.iter().enumerate();
    addresses
        .map(|(index, &address)| open(address, beside, || key.index(index)))
        .collect()
}

fn local_all(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, Fault> {
    listeners.iter().map(local).collect()
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Fault> {
    let address = listener.local_addr();
    address.map_err(|error| Fault::new("server.listen", error.to_string()))
}

fn open(
    address: SocketAddr,
    beside: &Beside,
    key: impl FnOnce() -> KeyPath,
) -> Result<TcpListener, Fault> {
    let opened = bind(address, beside.ipv4(address));
    opened.map_err(|error| {
        Fault::new(
            key(),
            format!("cannot listen on {address}: {}", reason(&error)),
        )
    })
}

/// As the standard library does it, but for IPv6 alone where that is asked for, and with room for a burst.
fn bind(address: SocketAddr, only_ipv6: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if only_ipv6 {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there already".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "the system does not allow it".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Duration;

    use super::*;

    fn takes_a_burst(address: SocketAddr, client: impl Into<std::net::IpAddr>) {
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn");
        let most: usize = most.map_or(128, |number| number.trim().parse().unwrap());
        // The port that is left open is taken for one that has a listener for IPv4 as well.
        let beside = Beside(HashSet::from([0]));
        let listener = open(address, &beside, || "server.listen".into()).unwrap();
        let to = SocketAddr::new(client.into(), listener.local_addr().unwrap().port());
        // Nobody accepts, so whoever finds no room waits in vain.
        let connect = |_| TcpStream::connect_timeout(&to, Duration::from_secs(20)).unwrap();
        let waiting: Vec<_> = (0..most.min(300)).map(connect).collect();
        assert_eq!(waiting.len(), most.min(300));
    }

    /// Story: 128 had room, as with the standard library. When a balancer failed, the kernel dropped the rest of those who came over
    /// from it; they waited for seconds, and no counter told of them.
    #[test]
    fn a_burst_has_room_to_wait() {
        takes_a_burst((Ipv4Addr::LOCALHOST, 0).into(), Ipv4Addr::LOCALHOST);
        takes_a_burst((Ipv6Addr::UNSPECIFIED, 0).into(), Ipv6Addr::LOCALHOST);
    }
}
