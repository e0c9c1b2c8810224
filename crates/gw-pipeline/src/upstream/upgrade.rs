//! Switching protocols: which requests may ask for it, and what follows a 101.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Extensions, Response, Version};
use hyper::upgrade::OnUpgrade;
use tokio::runtime::Handle;

use super::error::{Error, ErrorKind};
use super::hop_by_hop::{has_option, options};
use super::lease::Lease;
use super::tunnel::{Tunnel, TunnelPlace};

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
        allowed: &[Box<str>],
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
        let Some(protocol) = wanted_protocol(parts, allowed) else {
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

/// The first protocol asked for that is allowed.
fn wanted_protocol(parts: &Parts, allowed: &[Box<str>]) -> Option<HeaderValue> {
    let asked = parts.headers.get_all(UPGRADE).iter();
    let mut asked = asked.flat_map(|line| options(line.as_bytes()));
    let protocol = asked.find(|protocol| allowed.iter().any(|it| is(protocol, it)))?;
    HeaderValue::from_bytes(protocol).ok()
}

fn is(protocol: &[u8], allowed: &str) -> bool {
    protocol.eq_ignore_ascii_case(allowed.as_bytes())
}

/// A [`Wanted`] on its way to the connection that may switch. Clones share it: each attempt may be the one.
#[derive(Clone)]
pub(super) struct Switch(Arc<Mutex<Option<Wanted>>>);

impl Switch {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self(Arc::new(Mutex::new(Some(wanted))))
    }

    fn take(&self) -> Option<Wanted> {
        let mut wanted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wanted.take()
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").finish_non_exhaustive()
    }
}

/// In the extensions of a 101 behind which there is a tunnel: the protocol that it names, to be told to the client.
#[derive(Debug, Clone)]
pub(super) struct Switched(pub(super) HeaderValue);

/// What follows a 101: a tunnel, if it was asked for.
///
/// # Errors
///
/// It was not, or the answer names another protocol.
pub(super) fn switch<B>(
    response: &mut Response<B>,
    lease: Lease,
    asked: Option<Switch>,
) -> Result<(), Error> {
    let unrequested = || Error::new(ErrorKind::UnrequestedUpgrade);
    let wanted = asked.and_then(|asked| asked.take());
    let wanted = wanted.ok_or_else(unrequested)?;
    let mut named = response.headers().get_all(UPGRADE).iter();
    let (Some(protocol), None) = (named.next(), named.next()) else {
        return Err(unrequested());
    };
    if !protocol
        .as_bytes()
        .eq_ignore_ascii_case(wanted.protocol.as_bytes())
    {
        return Err(unrequested());
    }
    let switched = Switched(protocol.clone());
    let upstream = response.extensions_mut().remove::<OnUpgrade>();
    let upstream = upstream.ok_or_else(unrequested)?;
    let handle = Handle::try_current().map_err(|e| Error::because(ErrorKind::Setup, e))?;
    let Wanted {
        client,
        extensions,
        place,
        ..
    } = wanted;
    let tunnel = Tunnel {
        client,
        upstream,
        lease,
        place,
        extensions,
    };
    handle.spawn(tunnel.run());
    response.extensions_mut().insert(switched);
    Ok(())
}
