use std::io;
use std::net::{SocketAddr, TcpListener};

use crate::assembly::Fault;
use crate::config::Config;

/// The open sockets of a gateway.
#[derive(Debug)]
pub(super) struct Listeners {
    pub(super) traffic: Vec<TcpListener>,
    pub(super) health: TcpListener,
    pub(super) admin: TcpListener,
    addresses: Addresses,
}

/// Where a gateway listens: what the system gave, where the configuration leaves the port open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    pub traffic: Vec<SocketAddr>,
    pub health: SocketAddr,
    pub admin: SocketAddr,
}

impl Listeners {
    pub(super) fn open(config: &Config) -> Result<Self, Fault> {
        let listen = config.server.listen.iter().enumerate();
        let traffic =
            listen.map(|(index, &address)| open(address, || format!("server.listen[{index}]")));
        let traffic: Vec<TcpListener> = traffic.collect::<Result<_, _>>()?;
        let health = open(config.health.listen, || "health.listen".to_owned())?;
        let admin = open(config.admin.listen, || "admin.listen".to_owned())?;
        let local = |listener: &TcpListener| {
            listener
                .local_addr()
                .map_err(|error| Fault::new("server.listen", error.to_string()))
        };
        let addresses = Addresses {
            traffic: traffic.iter().map(local).collect::<Result<_, _>>()?,
            health: local(&health)?,
            admin: local(&admin)?,
        };
        Ok(Self {
            traffic,
            health,
            admin,
            addresses,
        })
    }

    pub(super) const fn addresses(&self) -> &Addresses {
        &self.addresses
    }
}

fn open(address: SocketAddr, key: impl FnOnce() -> String) -> Result<TcpListener, Fault> {
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
