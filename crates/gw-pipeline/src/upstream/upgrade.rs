//! Switching protocols: which requests may ask for it, and the tunnel behind a 101.

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::request::Parts;
use http::{Extensions, Response, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::runtime::Handle;

use super::body::UpstreamBody;
use super::error::{Error, ErrorKind};
use super::hop_by_hop::{has_option, options};
use super::lease::Lease;

/// How much a tunnel buffers in each direction, in bytes.
const BUFFER: usize = 8 * 1024;

/// A request that asks for another protocol, and may.
#[derive(Debug)]
pub(super) struct Wanted {
    protocol: HeaderValue,
    client: OnUpgrade,
    /// Kept for as long as the tunnel: what stages have put there may be guards.
    extensions: Extensions,
}

impl Wanted {
    /// What the request asks for, if it is one of the `allowed` protocols.
    ///
    /// Only HTTP/1.1 without a body can switch: bytes before the 101 are the request's body, never the other
    /// protocol's. Must be asked before the fields of the connection are removed.
    pub(super) fn of(parts: &Parts, bodiless: bool, allowed: &[Box<str>]) -> Option<Self> {
        if parts.version != Version::HTTP_11 || !bodiless || !has_option(&parts.headers, "upgrade")
        {
            return None;
        }
        // Without it the server cannot switch.
        let client = parts.extensions.get::<OnUpgrade>()?.clone();
        let asked = parts.headers.get_all(UPGRADE).iter();
        let mut asked = asked.flat_map(|line| options(line.as_bytes()));
        let protocol = asked.find(|protocol| allowed.iter().any(|it| is(protocol, it)))?;
        Some(Self {
            protocol: HeaderValue::from_bytes(protocol).ok()?,
            client,
            extensions: parts.extensions.clone(),
        })
    }

    /// Asks the upstream for the protocol, and for no other one that the client named.
    pub(super) fn ask(&self, parts: &mut Parts) {
        let upgrade = HeaderValue::from_static("upgrade");
        parts.headers.insert(CONNECTION, upgrade);
        parts.headers.insert(UPGRADE, self.protocol.clone());
    }
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
        client, extensions, ..
    } = *wanted;
    handle.spawn(tunnel(client, upstream, lease, extensions));
    Ok(Some(protocol))
}

/// Copies bytes both ways until both sides have closed, or one has failed.
async fn tunnel(client: OnUpgrade, upstream: OnUpgrade, lease: Lease, extensions: Extensions) {
    if let (Ok(client), Ok(upstream)) = (client.await, upstream.await) {
        let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
        // How a tunnel ends is between its ends.
        _ = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
    }
    drop((lease, extensions));
}
