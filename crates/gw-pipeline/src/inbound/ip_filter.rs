use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::call::call_into;
use gw_core::context::ClientAddr;
use gw_core::key::{Networks, TrustedProxies, peer_addr};
use gw_core::record::Record;
use gw_core::stage::{FactSet, Stage};
use gw_core::{OnReject, Rejection, Respond};
use http::{Request, Response};
use ipnet::IpNet;
use tower_layer::Layer;
use tower_service::Service;

use crate::codes;
use crate::decided::Decided;
use crate::pipeline::slot;

/// Establishes the client's address, and lets it pass or not.
///
/// The address is the result of the walk through trusted proxies, and goes into the request's extensions as
/// [`ClientAddr`]. An address on the deny list is refused with 403, and so is one that is not on an allow list that has
/// entries. Without lists the stage only establishes the address.
///
/// A request whose peer address the server does not provide is answered with 500; the refusal's cause says what
/// provides it.
#[derive(Debug, Clone)]
pub struct IpFilterLayer<R = Respond> {
    rules: Arc<Rules>,
    on_reject: R,
}

#[derive(Debug, Clone)]
struct Rules {
    proxies: TrustedProxies,
    allow: Networks,
    deny: Networks,
}

impl IpFilterLayer {
    /// Believes `proxies`, and lets everybody pass.
    pub fn new(proxies: TrustedProxies) -> Self {
        let rules = Rules {
            proxies,
            allow: Networks::none(),
            deny: Networks::none(),
        };
        Self {
            rules: Arc::new(rules),
            on_reject: Respond::new(),
        }
    }
}

impl<R> IpFilterLayer<R> {
    /// Lets only these networks pass, IPv4 ones in whatever form; an empty list lets everybody pass.
    #[must_use]
    pub fn allow(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        Arc::make_mut(&mut self.rules).allow = Networks::new(networks);
        self
    }

    /// Lets these networks, IPv4 ones in whatever form, never pass, whatever the allow list says.
    #[must_use]
    pub fn deny(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        Arc::make_mut(&mut self.rules).deny = Networks::new(networks);
        self
    }

    /// Renders refusals with `on_reject`.
    #[must_use]
    pub fn on_reject<R2>(self, on_reject: R2) -> IpFilterLayer<R2> {
        IpFilterLayer {
            rules: self.rules,
            on_reject,
        }
    }
}

impl Rules {
    fn client<B>(&self, request: &Request<B>) -> Result<ClientAddr, Rejection> {
        let peer = peer_addr(request.extensions())
            .map_err(|missing| Rejection::new(&codes::INTERNAL).caused_by(missing))?;
        let client = self.proxies.client(peer.ip(), request.headers());
        // Of a request that is denied, the address is what the log needs most.
        if let Some(record) = Record::of(request.extensions()) {
            record.update(|exchange| exchange.client = Some(client));
        }
        if self.lets_pass(client.ip()) {
            Ok(client)
        } else {
            Err(Rejection::new(&codes::ADDRESS_DENIED))
        }
    }

    fn lets_pass(&self, address: IpAddr) -> bool {
        let allowed = || self.allow.is_empty() || self.allow.contains(address);
        !self.deny.contains(address) && allowed()
    }
}

impl<F: FactSet, R> Stage<F> for IpFilterLayer<R> {
    type Facts = F::WithClientAddr;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl<S, R: Clone> Layer<S> for IpFilterLayer<R> {
    type Service = IpFilter<S, R>;

    fn layer(&self, inner: S) -> IpFilter<S, R> {
        IpFilter {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`IpFilterLayer`].
#[derive(Debug, Clone)]
pub struct IpFilter<S, R = Respond> {
    inner: S,
    layer: IpFilterLayer<R>,
}

impl<S, R, B, ResB> Service<Request<B>> for IpFilter<S, R>
where
    S: Service<Request<B>, Response = Response<ResB>>,
    R: OnReject<Response<ResB>, S::Error> + Clone,
{
    type Response = Response<ResB>;
    type Error = R::Error;
    type Future = Decided<S::Future, R, ResB, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), R::Error>> {
        self.inner.poll_ready(cx).map_err(R::inner)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.layer.rules.client(&request) {
            Ok(client) => {
                request.extensions_mut().insert(client);
                call_into(&mut self.inner, request, Decided::inner)
            }
            Err(refused) => {
                let (parts, _) = request.into_parts();
                Decided::refuse::<slot::IpFilter>(&self.layer.on_reject, refused, &parts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(layer: &IpFilterLayer, address: &str) -> bool {
        let client = ClientAddr::new(address.parse().unwrap());
        layer.rules.lets_pass(client.ip())
    }

    fn nets(text: &[&str]) -> Vec<IpNet> {
        text.iter().map(|n| n.parse().unwrap()).collect()
    }

    /// Story: such a network denied nobody, and let nobody pass.
    #[test]
    fn networks_of_mapped_addresses_are_those_of_ipv4() {
        let layer = || IpFilterLayer::new(TrustedProxies::none());
        let deny = layer().deny(nets(&["::ffff:192.0.2.66/128", "::ffff:198.51.100.0/120"]));
        let allow = layer().allow(nets(&["::ffff:192.0.2.66/128", "::ffff:198.51.100.0/120"]));
        for (address, listed) in [
            ("192.0.2.66", true),
            ("::ffff:192.0.2.66", true),
            ("198.51.100.7", true),
            ("192.0.2.67", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(passes(&deny, address), !listed, "{address}");
            assert_eq!(passes(&allow, address), listed, "{address}");
        }
    }

    #[test]
    fn deny_wins_over_allow() {
        let open = IpFilterLayer::new(TrustedProxies::none());
        assert!(passes(&open, "192.0.2.1"));
        let filter = open
            .allow(nets(&["192.0.2.0/24"]))
            .deny(nets(&["192.0.2.66/32"]));
        assert!(passes(&filter, "192.0.2.1"));
        assert!(passes(&filter, "::ffff:192.0.2.1"));
        assert!(!passes(&filter, "192.0.2.66"));
        assert!(!passes(&filter, "198.51.100.1"));
    }
}
