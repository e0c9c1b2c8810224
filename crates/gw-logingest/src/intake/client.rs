use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use gw_core::ConfigError;
use gw_core::key::{AvailableIn, ClientIp, Consumer, Header, KeyExtractor, MissingKey};
use http::request::Parts;
use tokio::time::Instant;

use super::sweep::Sweep;
use crate::batch::ClientId;
use crate::telemetry;

/// How a client is told from the others. Its share of the queue and its guard go by that.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClientKey {
    /// The client's address. Each request has one that came over a connection, so that keys behind this one are not asked.
    /// Where the others give nothing it is used as well.
    Ip(ClientIp),
    /// A header field. Clients choose its value, so at most 32 values are told apart for one address; those beyond
    /// go by the address.
    Header(Header),
    /// The authenticated consumer.
    Consumer,
}

/// The client as an intake tells it from others, for a limit in front of it: what the limit counts is then what the queue's
/// shares go by, and ids that clients make up are bounded for both. Made by
/// [`LogIngest::by_client`](super::LogIngest::by_client).
///
/// Each request has a key, wherever the limit stands. To read it allocates, and counts for the ids that an address may have.
#[derive(Debug, Clone)]
pub struct ByClient(Arc<Clients>);

impl ByClient {
    pub(super) const fn new(clients: Arc<Clients>) -> Self {
        Self(clients)
    }
}

impl KeyExtractor for ByClient {
    type Key = ClientId;

    fn extract(&self, parts: &Parts) -> Result<ClientId, MissingKey> {
        Ok(self.0.client(parts, Instant::now()))
    }
}

// What is not known of a request yet is passed over.
impl<F> AvailableIn<F> for ByClient {}

/// Names the client of a request.
#[derive(Debug)]
pub(super) struct Clients {
    keys: Vec<ClientKey>,
    address: ClientIp,
    /// All clients without an address.
    unknown: ClientId,
    chosen: Mutex<ChosenIds>,
    hasher: RandomState,
    warned: AtomicBool,
}

/// The ids that clients chose for themselves, as hashes, by address. Pure: the time is passed in.
#[derive(Debug, Default)]
struct ChosenIds {
    addresses: HashMap<IpAddr, Vec<Chosen>>,
    sweep: Sweep,
}

#[derive(Debug)]
struct Chosen {
    id: u64,
    last: Instant,
}

impl Clients {
    pub(super) fn new(keys: Vec<ClientKey>) -> Result<Self, ConfigError> {
        let address = keys.iter().find_map(|key| match key {
            ClientKey::Ip(ip) => Some(*ip),
            _ => None,
        });
        let unknown =
            ClientId::new("unknown").map_err(|_| ConfigError::new("client", "must have a name"))?;
        Ok(Self {
            keys,
            address: address.unwrap_or_default(),
            unknown,
            chosen: Mutex::default(),
            hasher: RandomState::new(),
            warned: AtomicBool::new(false),
        })
    }

    /// The client: the first key that the request has. The prefix keeps a header from posing as an address.
    pub(super) fn client(&self, parts: &Parts, now: Instant) -> ClientId {
        let address = self.address.extract(parts);
        if let Err(missing) = &address
            && !self.warned.swap(true, Ordering::Relaxed)
        {
            telemetry::address_missing(missing);
        }
        let ip = *address
            .as_ref()
            .unwrap_or(&IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let by_address = || ClientId::new(&format!("ip:{}", address.as_ref().ok()?)).ok();
        let named = self.keys.iter().find_map(|key| match key {
            ClientKey::Ip(_) => by_address(),
            ClientKey::Consumer => {
                let consumer = Consumer.extract(parts).ok()?;
                ClientId::new(&format!("consumer:{consumer}")).ok()
            }
            ClientKey::Header(header) => {
                let value = header.extract(parts).ok()?;
                let id = ClientId::new(&format!("header:{}", value.to_str().ok()?)).ok()?;
                let hash = self.hasher.hash_one(&id);
                let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
                chosen.admit(ip, hash, now).then_some(id)
            }
        });
        named
            .or_else(by_address)
            .unwrap_or_else(|| self.unknown.clone())
    }
}

impl ChosenIds {
    const PER_ADDRESS: usize = 32;
    const MAX_ADDRESSES: usize = 4096;

    /// Whether this id is told apart from others of its address.
    fn admit(&mut self, address: IpAddr, id: u64, now: Instant) -> bool {
        let fresh = |chosen: &Chosen| !Sweep::is_idle(chosen.last, now);
        if !self.addresses.contains_key(&address) && self.addresses.len() >= Self::MAX_ADDRESSES {
            if self.sweep.is_due(now) {
                self.addresses.retain(|_, ids| ids.iter().any(fresh));
            }
            if self.addresses.len() >= Self::MAX_ADDRESSES {
                return false;
            }
        }
        let ids = self.addresses.entry(address).or_default();
        if let Some(known) = ids.iter_mut().find(|chosen| chosen.id == id) {
            known.last = now;
            return true;
        }
        if ids.len() >= Self::PER_ADDRESS {
            ids.retain(fresh);
        }
        let room = ids.len() < Self::PER_ADDRESS;
        if room {
            ids.push(Chosen { id, last: now });
        }
        room
    }
}

#[cfg(test)]
mod tests {
    use gw_core::context::{Identity, IdentityParts, PeerAddr};
    use http::{HeaderName, Request};

    use super::*;

    const NAME: HeaderName = HeaderName::from_static("x-client");

    fn parts(value: Option<&str>, peer: Option<&str>) -> Parts {
        let mut request = Request::builder();
        if let Some(value) = value {
            request = request.header(NAME, value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(PeerAddr(peer.parse().unwrap()));
        }
        parts
    }

    #[test]
    fn the_first_key_that_is_there_wins() {
        let clients = Clients::new(vec![
            ClientKey::Consumer,
            ClientKey::Header(Header::new(NAME)),
            ClientKey::Ip(ClientIp::new()),
        ])
        .unwrap();
        let now = Instant::now();
        let name = |parts: &Parts| clients.client(parts, now).to_string();
        let peer = Some("192.0.2.1:5");
        assert_eq!(name(&parts(None, peer)), "ip:192.0.2.1");
        assert_eq!(name(&parts(Some("a"), peer)), "header:a");
        assert_eq!(
            name(&parts(Some("ip:192.0.2.9"), peer)),
            "header:ip:192.0.2.9"
        );
        assert_eq!(name(&parts(Some("not visible"), peer)), "ip:192.0.2.1");
        assert_eq!(name(&parts(Some(&"x".repeat(200)), peer)), "ip:192.0.2.1");
        assert_eq!(name(&parts(None, None)), "unknown");
        let mut known = parts(Some("a"), peer);
        known.extensions.insert(Identity::new(IdentityParts {
            consumer: Some("shop".into()),
            ..IdentityParts::default()
        }));
        assert_eq!(name(&known), "consumer:shop");
    }

    /// Story: with the address named first, clients went by a header that they chose.
    #[test]
    fn what_stands_behind_the_address_is_not_asked() {
        let keys = [
            ClientKey::Ip(ClientIp::new()),
            ClientKey::Header(Header::new(NAME)),
        ];
        let clients = Clients::new(keys.to_vec()).unwrap();
        let client = |peer| clients.client(&parts(Some("a"), peer), Instant::now());
        assert_eq!(client(Some("192.0.2.1:5")).to_string(), "ip:192.0.2.1");
        assert_eq!(client(None).to_string(), "header:a");
    }

    #[test]
    fn an_address_has_at_most_32_ids() {
        let clients = Clients::new(vec![ClientKey::Header(Header::new(NAME))]).unwrap();
        let now = Instant::now();
        let name = |n: usize, peer: &str, now| {
            clients
                .client(&parts(Some(&format!("id{n}")), Some(peer)), now)
                .to_string()
        };
        for n in 0..32 {
            assert_eq!(name(n, "192.0.2.1:1", now), format!("header:id{n}"));
        }
        assert_eq!(name(32, "192.0.2.1:1", now), "ip:192.0.2.1");
        assert_eq!(name(31, "192.0.2.1:2", now), "header:id31");
        assert_eq!(name(32, "192.0.2.2:1", now), "header:id32");
        let later = now + Sweep::FORGET_AFTER;
        assert_eq!(name(32, "192.0.2.1:1", later), "header:id32");
    }

    #[test]
    fn a_limit_in_front_sees_the_same_clients() {
        let clients = Clients::new(vec![ClientKey::Header(Header::new(NAME))]).unwrap();
        let by_client = ByClient::new(Arc::new(clients));
        let peer = Some("192.0.2.1:1");
        let names: std::collections::HashSet<String> = (0..100)
            .map(|n| by_client.extract(&parts(Some(&format!("id{n}")), peer)))
            .map(|client| client.unwrap().to_string())
            .collect();
        assert_eq!(names.len(), 33);
    }

    #[test]
    fn addresses_are_bounded() {
        let mut chosen = ChosenIds::default();
        let now = Instant::now();
        let address = |n: usize| IpAddr::V4(Ipv4Addr::from(n as u32));
        let admitted = (0..ChosenIds::MAX_ADDRESSES + 500)
            .filter(|&n| chosen.admit(address(n), 7, now))
            .count();
        assert_eq!(admitted, ChosenIds::MAX_ADDRESSES);
        assert!(chosen.admit(address(9_999_999), 7, now + Sweep::FORGET_AFTER));
        assert_eq!(chosen.addresses.len(), 1);
    }
}
