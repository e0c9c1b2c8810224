use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gw_core::call::call_into;
use gw_core::context::RequestId;
use gw_core::key::{TrustedProxies, peer_addr};
use gw_core::record::Record;
use gw_core::stage::{FactSet, Stage};
use http::{HeaderName, HeaderValue, Request, Response};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// Gives each request an id: in the request's extensions, in its header field, and in the answer's.
///
/// A client's id is taken over if the rule accepts it and it is [well-formed](RequestId::new); else a new one is made, a
/// version 7 UUID (RFC 9562). A field that is sent more than once is not well-formed.
#[derive(Debug, Clone)]
pub struct RequestIdLayer {
    header: HeaderName,
    // Shared: the layer is cloned with its service.
    accept: Arc<AcceptId>,
}

/// Whose request ids are taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AcceptId {
    /// Those that come from trusted proxies. None where the server does not say who calls. This stage goes on then without a
    /// word; an [`IpFilterLayer`](super::IpFilterLayer) behind it refuses the request, and the refusal's cause says what to do.
    Trusted(TrustedProxies),
    /// Everybody's: clients can make two requests look like one.
    Always,
    /// Nobody's.
    Never,
}

impl RequestIdLayer {
    /// Makes all ids itself, in the field `x-request-id`.
    pub fn new() -> Self {
        Self {
            header: HeaderName::from_static("x-request-id"),
            accept: Arc::new(AcceptId::Never),
        }
    }

    /// Uses the field `name`.
    #[must_use]
    pub fn header(mut self, name: HeaderName) -> Self {
        self.header = name;
        self
    }

    /// Takes ids over by the rule `accept`.
    #[must_use]
    pub fn accept(mut self, accept: AcceptId) -> Self {
        self.accept = Arc::new(accept);
        self
    }

    /// A new id, as the layer makes them, for what never becomes a request.
    pub fn new_id() -> RequestId {
        generate(SystemTime::now(), fastrand::u128(..))
    }

    fn id<B>(&self, request: &Request<B>) -> RequestId {
        self.accepted(request).unwrap_or_else(Self::new_id)
    }

    fn accepted<B>(&self, request: &Request<B>) -> Option<RequestId> {
        let believed = match &*self.accept {
            AcceptId::Always => true,
            AcceptId::Never => false,
            AcceptId::Trusted(proxies) => {
                peer_addr(request.extensions()).is_ok_and(|peer| proxies.contains(peer.ip()))
            }
        };
        if !believed {
            return None;
        }
        let mut sent = request.headers().get_all(&self.header).iter();
        let (only, None) = (sent.next()?, sent.next()) else {
            return None;
        };
        RequestId::new(only.clone())
    }
}

impl Default for RequestIdLayer {
    fn default() -> Self {
        Self::new()
    }
}

/// A version 7 UUID: 48 bits of Unix time in milliseconds, then random bits around the version and the variant.
fn generate(now: SystemTime, random: u128) -> RequestId {
    let millis = now
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis();
    let bits = (millis << 80) | (random & !(u128::MAX << 80));
    let bits = bits & !(0xf << 76) | (0x7 << 76);
    let bits = bits & !(0b11 << 62) | (0b10 << 62);
    RequestId::from_u128(bits)
}

impl<F: FactSet> Stage<F> for RequestIdLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl<S> Layer<S> for RequestIdLayer {
    type Service = RequestIdService<S>;

    fn layer(&self, inner: S) -> RequestIdService<S> {
        RequestIdService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`RequestIdLayer`].
#[derive(Debug, Clone)]
pub struct RequestIdService<S> {
    inner: S,
    layer: RequestIdLayer,
}

impl<S, B, ResB> Service<Request<B>> for RequestIdService<S>
where
    S: Service<Request<B>, Response = Response<ResB>>,
{
    type Response = Response<ResB>;
    type Error = S::Error;
    type Future = RequestIdFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let id = self.layer.id(&request);
        let value = id.header_value().clone();
        request
            .headers_mut()
            .insert(&self.layer.header, value.clone());
        if let Some(record) = Record::of(request.extensions()) {
            record.update(|exchange| exchange.request_id = Some(id.clone()));
        }
        request.extensions_mut().insert(id);
        let mut field = Some((self.layer.header.clone(), value));
        call_into(&mut self.inner, request, |inner| RequestIdFuture {
            inner,
            field: field.take(),
        })
    }
}

pin_project! {
    /// The future of [`RequestIdService`].
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the inner service's future, and nothing else.
    #[derive(Debug)]
    pub struct RequestIdFuture<Fut> {
        #[pin]
        inner: Fut,
        field: Option<(HeaderName, HeaderValue)>,
    }
}

impl<Fut, B, E> Future for RequestIdFuture<Fut>
where
    Fut: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut result = ready!(this.inner.poll(cx));
        if let (Ok(response), Some((name, value))) = (&mut result, this.field.take()) {
            response.headers_mut().insert(name, value);
        }
        Poll::Ready(result)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use gw_core::context::PeerAddr;

    use super::*;

    fn id(layer: &RequestIdLayer, sent: &[&str]) -> String {
        let mut request = Request::new(());
        request
            .extensions_mut()
            .insert(PeerAddr(SocketAddr::from(([10, 0, 0, 1], 80))));
        for value in sent {
            request
                .headers_mut()
                .append("x-request-id", value.parse().unwrap());
        }
        layer.id(&request).as_str().to_owned()
    }

    #[test]
    fn new_ids_are_version_7_uuids() {
        let now = UNIX_EPOCH + Duration::from_millis(0x0123_4567_89ab);
        let id = generate(now, u128::MAX);
        assert_eq!(id.as_str(), "01234567-89ab-7fff-bfff-ffffffffffff");
        assert_eq!(
            generate(now, 0).as_str(),
            "01234567-89ab-7000-8000-000000000000"
        );
    }

    #[test]
    fn an_id_is_taken_over_from_those_who_are_trusted() {
        let accept = |accept| RequestIdLayer::new().accept(accept);
        let trusted = |net: &str| AcceptId::Trusted(TrustedProxies::new([net.parse().unwrap()]));
        assert_eq!(id(&accept(AcceptId::Always), &["mine"]), "mine");
        assert_eq!(id(&accept(trusted("10.0.0.0/8")), &["mine"]), "mine");
        assert_ne!(id(&accept(trusted("192.0.2.0/24")), &["mine"]), "mine");
        assert_ne!(id(&accept(AcceptId::Never), &["mine"]), "mine");
    }

    #[test]
    fn a_malformed_id_is_replaced() {
        let always = RequestIdLayer::new().accept(AcceptId::Always);
        // Story: an id that was logged as it came let a client write lines of its own into the log.
        for sent in [
            &["a b"][..],
            &["{\"level\":\"info\"}"],
            &["a", "a"],
            &[""],
            &[],
        ] {
            assert_eq!(id(&always, sent).len(), 36, "{sent:?}");
        }
    }
}
