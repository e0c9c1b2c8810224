//! Switching protocols: which requests may ask for it, and what follows a 101.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Extensions, HeaderMap, Response, Version};
use hyper::upgrade::OnUpgrade;
use tokio::runtime::Handle;

use super::error::{Error, ErrorKind};
use super::hop_by_hop::{has_option, options};
use super::lease::Lease;
use super::tunnel::{Tunnel, TunnelPlace};

/// The protocols that a client may switch to.
#[derive(Debug, Clone)]
pub(super) enum Allowed {
    None,
    /// Apart from others: no reference is counted for each request.
    WebSocket,
    These(Arc<[Box<str>]>),
}

impl Allowed {
    fn has(&self, protocol: &[u8]) -> bool {
        let is = |allowed: &str| protocol.eq_ignore_ascii_case(allowed.as_bytes());
        match self {
            Self::None => false,
            Self::WebSocket => is("websocket"),
            Self::These(allowed) => allowed.iter().any(|it| is(it)),
        }
    }

    /// Those that an `Upgrade` field names.
    fn named_in<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a [u8]> {
        let lines = headers.get_all(UPGRADE).iter();
        let named = lines.flat_map(|line| options(line.as_bytes()));
        named.filter(|protocol| self.has(protocol))
    }

    /// The `Upgrade` field of an answer 426, which must name what the upstream asks for (RFC 9110 section 15.5.22), as far as the
    /// gateway lets clients switch to it.
    pub(super) fn required(&self, answer: &HeaderMap) -> Option<HeaderValue> {
        let protocols: Vec<_> = self.named_in(answer).collect();
        let joined = (!protocols.is_empty()).then(|| protocols.join(&b", "[..]))?;
        HeaderValue::try_from(joined).ok()
    }
}

/// A request that asks for another protocol, and may.
#[derive(Debug)]
pub(super) struct Wanted {
    protocol: HeaderValue,
    client: OnUpgrade,
    /// Kept for as long as the tunnel: what stages have put there may be guards.
    extensions: Extensions,
    place: TunnelPlace,
}

impl Wanted {
    /// What the request asks for, if it is one of the `allowed` protocols. Then it has one of the tunnels' places.
    ///
    /// Only HTTP/1.1 without a body can switch: bytes before the 101 are the request's body, never the other
    /// protocol's. Must be asked before the fields of the connection are removed.
    ///
    /// # Errors
    ///
    /// There is no place left.
    pub(super) fn of(
        parts: &Parts,
        bodiless: bool,
        allowed: &Allowed,
        place: impl FnOnce() -> Option<TunnelPlace>,
    ) -> Result<Option<Self>, Error> {
        if parts.version != Version::HTTP_11 || !bodiless || !has_option(&parts.headers, "upgrade")
        {
            return Ok(None);
        }
        // Without it the server cannot switch.
        let Some(client) = parts.extensions.get::<OnUpgrade>() else {
            return Ok(None);
        };
        // The first one that is allowed.
        let protocol = allowed.named_in(&parts.headers).next();
        let Some(protocol) = protocol.and_then(|it| HeaderValue::from_bytes(it).ok()) else {
            return Ok(None);
        };
        Ok(Some(Self {
            protocol,
            client: client.clone(),
            extensions: parts.extensions.clone(),
            place: place().ok_or(Error::new(ErrorKind::TunnelsFull))?,
        }))
    }

    /// Asks the upstream for the protocol, and for no other one that the client named.
    pub(super) fn ask(&self, parts: &mut Parts) {
        let upgrade = HeaderValue::from_static("upgrade");
        parts.headers.insert(CONNECTION, upgrade);
        parts.headers.insert(UPGRADE, self.protocol.clone());
    }
}

/// The upstream's side of a switch, on its way back to the request that asked for it.
///
/// It is in the extensions of a 101. The client's side stays with [`Forward`](super::Forward), which joins the two: of the
/// requests that layers make of one, copies to look at and attempts that come too late among them, only the one whose answer
/// goes to the client can switch. Where an answer ends otherwise, its connection is closed with it.
#[derive(Clone)]
pub(super) struct Offer(Arc<Mutex<Option<Offered>>>);

struct Offered {
    upstream: OnUpgrade,
    lease: Lease,
    protocol: HeaderValue,
}

impl Offer {
    /// What a 101 offers, behind which hyper has its connection.
    ///
    /// # Errors
    ///
    /// The request has not `asked`, or for another protocol than the answer names.
    pub(super) fn of<B>(
        response: &mut Response<B>,
        lease: Lease,
        asked: Option<&HeaderValue>,
    ) -> Result<Self, Error> {
        let mut named = response.headers().get_all(UPGRADE).iter();
        let (Some(asked), Some(protocol), None) = (asked, named.next(), named.next()) else {
            return Err(unrequested());
        };
        if !is_same(protocol, asked) {
            return Err(unrequested());
        }
        let protocol = protocol.clone();
        let upstream = response.extensions_mut().remove::<OnUpgrade>();
        let offered = Offered {
            upstream: upstream.ok_or_else(unrequested)?,
            lease,
            protocol,
        };
        Ok(Self(Arc::new(Mutex::new(Some(offered)))))
    }

    fn take(&self) -> Option<Offered> {
        let mut offered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        offered.take()
    }
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Offer").finish_non_exhaustive()
    }
}

/// Opens the tunnel behind a 101. Returns the protocol that it speaks, for the client.
///
/// # Errors
///
/// Nobody asked for it, or nobody has offered it: a layer on the way has changed the request or made the answer up.
pub(super) fn switch(
    wanted: Option<Box<Wanted>>,
    offer: Option<Offer>,
) -> Result<HeaderValue, Error> {
    let offered = offer.and_then(|offer| offer.take());
    let (Some(wanted), Some(offered)) = (wanted, offered) else {
        return Err(unrequested());
    };
    if !is_same(&offered.protocol, &wanted.protocol) {
        return Err(unrequested());
    }
    let handle = Handle::try_current().map_err(|e| Error::because(ErrorKind::Setup, e))?;
    let Wanted {
        client,
        extensions,
        place,
        ..
    } = *wanted;
    let Offered {
        upstream,
        lease,
        protocol,
    } = offered;
    let tunnel = Tunnel {
        client,
        upstream,
        lease,
        place,
        extensions,
    };
    handle.spawn(tunnel.run());
    Ok(protocol)
}

fn is_same(protocol: &HeaderValue, other: &HeaderValue) -> bool {
    protocol.as_bytes().eq_ignore_ascii_case(other.as_bytes())
}

const fn unrequested() -> Error {
    Error::new(ErrorKind::UnrequestedUpgrade)
}
