use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::assembly::Fault;
use crate::config::{Config, KeyPath};

/// The open sockets of a gateway.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) traffic: Vec<TcpListener>,
    /// Those of lanes, by the lane's name.
    pub(super) lanes: BTreeMap<String, Vec<TcpListener>>,
    pub(super) health: TcpListener,
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
    pub(super) fn open(config: &Config) -> Result<Self, Fault> {
        let traffic = open_all(&config.server.listen, &"server.listen".into())?;
        let health = open(config.health.listen, || "health.listen".into())?;
        let admin = open(config.admin.listen, || "admin.listen".into())?;
        let mut lanes = BTreeMap::new();
        for (name, lane) in config.lanes.own_listeners() {
            let key = KeyPath::from("lanes.lane").key(name).key("listen");
            let opened = open_all(&lane.listen, &key)?;
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
        Ok(Self {
            traffic,
            lanes,
            health,
            admin,
            addresses,
        })
    }

    pub(super) const fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

fn open_all(addresses: &[SocketAddr], key: &KeyPath) -> Result<Vec<TcpListener>, Fault> {
    let addresses = addresses.iter().enumerate();
    addresses
        .map(|(index, &address)| open(address, || key.index(index)))
        .collect()
}

fn local_all(listeners: &[TcpListener]) -> Result<Vec<SocketAddr>, Fault> {
    listeners.iter().map(local).collect()
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Fault> {
    let address = listener.local_addr();
    address.map_err(|error| Fault::new("server.listen", error.to_string()))
}

fn open(address: SocketAddr, key: impl FnOnce() -> KeyPath) -> Result<TcpListener, Fault> {
    let opened = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    opened.map_err(|error| {
        Fault::new(
            key(),
            format!("cannot listen on {address}: {}", reason(&error)),
        )
    })
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another program listens there already".to_owned(),
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        io::ErrorKind::PermissionDenied => "the system does not allow it".to_owned(),
        _ => error.to_string(),
    }
}
