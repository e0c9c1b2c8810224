//! Switching protocols: which requests may ask for it, and what follows a 101.

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Extensions, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use tokio::runtime::Handle;

use super::body::UpstreamBody;
use super::error::{Error, ErrorKind};
use super::hop_by_hop::{has_option, options};
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

/// What follows from an answer's status: a 101 that was asked for becomes a tunnel, one that was not is an error.
///
/// The protocol that the answer names is returned, to be told to the client.
pub(super) fn switch(
    response: &mut Response<UpstreamBody>,
    wanted: Option<Box<Wanted>>,
) -> Result<Option<HeaderValue>, Error> {
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(None);
    }
    let unrequested = || Error::new(ErrorKind::UnrequestedUpgrade);
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
    let protocol = protocol.clone();
    let upstream = response.extensions_mut().remove::<OnUpgrade>();
    let lease = response.body_mut().take_lease();
    let (Some(upstream), Some(lease)) = (upstream, lease) else {
        return Err(unrequested());
    };
    let handle = Handle::try_current().map_err(|e| Error::because(ErrorKind::Setup, e))?;
    let Wanted {
        client,
        extensions,
        place,
        ..
    } = *wanted;
    let tunnel = Tunnel {
        client,
        upstream,
        lease,
        place,
        extensions,
    };
    handle.spawn(tunnel.run());
    Ok(Some(protocol))
}
