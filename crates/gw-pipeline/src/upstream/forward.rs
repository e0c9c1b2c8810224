use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};

use bytes::Bytes;
use gw_core::context::{ClientAddr, RequestId, UpstreamName};
use gw_core::key::{TrustedProxies, peer_addr};
use gw_core::on_reject::Caller;
use gw_core::{Body, BoxError, ConfigError, Rejection};
use http::header::{TE, VIA};
use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Version};
use tower_service::Service;

use super::Upstream;
use super::after::After;
use super::error::{Error, ErrorKind};
use super::forwarded::{self, Believed, Hop, LastFrom};
use super::future::ResponseFuture;
use super::hop_by_hop::{self, accepts_trailers, strip};
use super::permit::UpstreamPermit;
use super::target::requested_host;
use super::transport::{Transport, erase};
use super::upgrade::{Allowed, Wanted};
use super::via::{Pseudonym, Reach, count_down};
use crate::codes;
use crate::fields::Names;
use crate::inbound::not_passed_on;
use crate::pipeline::UpstreamDescription;
use crate::timeouts::PassErrorBodies;

/// The end of a pipeline: sends each request on to the upstream that its [`UpstreamName`] names, and does what an HTTP
/// intermediary must (RFC 9110 section 7.6).
///
/// On the way in it removes what was for the client's connection, then adds what is its own: `Via`,
/// `X-Forwarded-For`, `-Proto` and `-Host`, the request's id, and `TE: trailers` for gRPC callers over HTTP/2. What
/// clients say in forwarding fields is dropped unless they are [trusted proxies](Self::trusted_proxies). Fields that hold
/// one address (`X-Real-IP`, `True-Client-IP` and their like) or another target (`X-Original-URL`, `X-Rewrite-URL`) are
/// dropped whoever sent them; another method (`X-HTTP-Method-Override`) passes. What stages have set themselves can be
/// [protected](Self::protect). A request that has passed here before is refused with `LOOP_DETECTED`, CONNECT and TRACE with
/// `METHOD_NOT_ALLOWED`; `Max-Forwards` is heeded.
///
/// On the way out it removes the same kind of fields; a 426 keeps those protocols in `Upgrade` that are allowed. A 5xx answer
/// loses its body and what describes it, unless the request carries [`PassErrorBodies`] or the answer is gRPC; the answer stage
/// puts the envelope in its place.
///
/// A client may switch to one of the [allowed protocols](Self::upgrades) if the server can switch, that is if the
/// request carries hyper's `OnUpgrade`. The tunnel holds the request's slot, its connection and the request's
/// extensions until it ends; how many there may be, for how long and how silent, is set at the
/// [upstream](super::UpstreamBuilder::max_tunnels).
///
/// Each request is sent to one upstream, once, unless a layer in front of that upstream tries again; but see
/// [`Upstream::send`](super::Upstream::send) for one that a connection has lost.
///
/// # Examples
///
/// ```
/// use gw_pipeline::upstream::{Forward, Upstream};
/// use http::Uri;
///
/// # fn main() -> Result<(), gw_pipeline::ConfigError> {
/// let orders = Upstream::builder("orders")
///     .endpoint(Uri::from_static("http://127.0.0.1:9001"))
///     .build()?;
/// let forward = Forward::new([orders.clone()])?.pseudonym("edge")?;
/// // `forward` goes to the end of a pipeline; `orders` tells how it is used.
/// assert_eq!(orders.snapshot().in_flight, 0);
/// # drop(forward);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Forward<S = Transport> {
    shared: Arc<Shared<S>>,
    last: Last<S>,
}

/// What an instance keeps of its last request. An instance serves the requests of one connection, which are much alike.
#[derive(Debug)]
struct Last<S> {
    /// The way through the layers in front of the upstream with this number.
    stack: Option<(usize, S)>,
    from: LastFrom,
}

#[derive(Debug, Clone)]
struct Shared<S> {
    /// In the order of their names.
    upstreams: Vec<Upstream<S>>,
    trusted: TrustedProxies,
    scheme: &'static str,
    pseudonym: Pseudonym,
    request_id: HeaderName,
    protected: Vec<HeaderName>,
    upgrades: Allowed,
}

// By hand: a clone is for other requests than those before.
impl<S> Clone for Forward<S> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            last: Last::default(),
        }
    }
}

// By hand: a derive would ask for a default of the layers.
impl<S> Default for Last<S> {
    fn default() -> Self {
        Self {
            stack: None,
            from: LastFrom::default(),
        }
    }
}

impl<S: Clone> Forward<S> {
    /// Sends on to `upstreams`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if two of them have one name.
    pub fn new(upstreams: impl IntoIterator<Item = Upstream<S>>) -> Result<Self, ConfigError> {
        let mut by_name = BTreeMap::new();
        for upstream in upstreams {
            if let Some(twice) = by_name.insert(upstream.name().clone(), upstream) {
                let field = format!("upstreams.{}", twice.name());
                return Err(ConfigError::new(field, "must be named once"));
            }
        }
        Ok(Self {
            last: Last::default(),
            shared: Arc::new(Shared {
                upstreams: by_name.into_values().collect(),
                trusted: TrustedProxies::none(),
                scheme: "http",
                pseudonym: Pseudonym::random(),
                request_id: HeaderName::from_static("x-request-id"),
                protected: Vec::new(),
                upgrades: Allowed::WebSocket,
            }),
        })
    }

    /// What the upstreams are made of, for [`Builder::upstreams`](crate::pipeline::Builder::upstreams).
    pub fn describe(&self) -> Vec<UpstreamDescription> {
        self.shared
            .upstreams
            .iter()
            .map(Upstream::describe)
            .collect()
    }

    /// Believes what these proxies say about the client. Without it: nobody is believed.
    #[must_use]
    pub fn trusted_proxies(mut self, trusted: TrustedProxies) -> Self {
        self.settings().trusted = trusted;
        self
    }

    /// Says that clients reach the gateway over this scheme. Without it: `http`.
    ///
    /// It becomes `X-Forwarded-Proto`. The scheme in a request's own target is not believed: over HTTP/2 the client
    /// chooses it.
    #[must_use]
    pub fn scheme(mut self, scheme: &Scheme) -> Self {
        let https = *scheme == Scheme::HTTPS;
        self.settings().scheme = if https { "https" } else { "http" };
        self
    }

    /// Sets the name in `Via`, by which loops are found. Without it: `gw-` and a random number, new in each process.
    ///
    /// Give instances that share their load one name: a loop is then found at the first instance that the request
    /// returns to. Give gateways that stand one behind the other different names.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `name` is not a token (letters, digits and some punctuation).
    pub fn pseudonym(mut self, name: impl Into<String>) -> Result<Self, ConfigError> {
        let error = || ConfigError::new("pseudonym", "must be a token, without white space");
        self.settings().pseudonym = Pseudonym::new(name.into()).ok_or_else(error)?;
        Ok(self)
    }

    /// Sends the request's id in the field `name`. Without it: `x-request-id`.
    #[must_use]
    pub fn request_id_header(mut self, name: HeaderName) -> Self {
        self.settings().request_id = name;
        self
    }

    /// Keeps the fields `names` even if a client's `Connection` field names them, or if they are among those that only proxies
    /// may say, such as `X-Forwarded-User`, or nobody.
    ///
    /// List the fields in which earlier stages tell the upstream who calls: a client could make the gateway remove
    /// them. Whoever sets them must have dropped the client's own, as
    /// [`IdentityHeadersLayer`](crate::inbound::IdentityHeadersLayer) does. `Forwarded`, `X-Forwarded-For`, `-Host` and `-Proto`
    /// cannot be protected: they are set here.
    #[must_use]
    pub fn protect(mut self, names: impl IntoIterator<Item = HeaderName>) -> Self {
        self.settings().protected.extend(names);
        self
    }

    /// Sets the protocols that clients may switch to. Without it: `websocket`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if `h2c` is among them: it would carry requests past all stages.
    pub fn upgrades<T: Into<Box<str>>>(
        mut self,
        protocols: impl IntoIterator<Item = T>,
    ) -> Result<Self, ConfigError> {
        let protocols: Arc<[Box<str>]> = protocols.into_iter().map(Into::into).collect();
        if protocols.iter().any(|it| it.eq_ignore_ascii_case("h2c")) {
            return Err(ConfigError::new("upgrades", "h2c is not allowed"));
        }
        self.settings().upgrades = Allowed::These(protocols);
        Ok(self)
    }

    fn settings(&mut self) -> &mut Shared<S> {
        Arc::make_mut(&mut self.shared)
    }
}

impl<S, B, ResB> Service<Request<B>> for Forward<S>
where
    S: Service<Request<Body>, Response = Response<ResB>, Error: Into<Rejection>> + Clone,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    ResB: http_body::Body<Data = Bytes> + From<Bytes> + Send + 'static,
{
    type Response = Response<ResB>;
    type Error = Rejection;
    type Future = ResponseFuture<S, ResB>;

    /// Always ready: who may be in flight is decided when the request is there.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Rejection>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let Self { shared, last } = self;
        match shared.prepare(&mut parts, body.is_end_stream(), &mut last.from) {
            Ok(Step::Send {
                number,
                upstream,
                mut after,
            }) => {
                let request = Request::from_parts(parts, erase(body));
                let same = last.stack.take().filter(|(of, _)| *of == number);
                let mut stack = same.map(|(_, stack)| stack);
                let answer = send(upstream, &mut stack, request, &mut after);
                last.stack = stack.map(|stack| (number, stack));
                answer
            }
            Ok(Step::Confirm) => ResponseFuture::decided(Ok(no_content())),
            Err(rejection) => ResponseFuture::decided(Err(rejection)),
        }
    }
}

/// The answer of `upstream`, to be finished by `after`.
// Apart for the reason of `gw_core::call`.
#[inline(never)]
fn send<S, ResB>(
    upstream: &Upstream<S>,
    stack: &mut Option<S>,
    request: Request<Body>,
    after: &mut After,
) -> ResponseFuture<S, ResB>
where
    S: Service<Request<Body>, Response = Response<ResB>, Error: Into<Rejection>> + Clone,
{
    let sending = upstream.send_erased(UpstreamPermit::new(), stack, request);
    ResponseFuture::sending(sending, after.take())
}

/// The fields that a request must be treated for before it goes on: what is for the client's connection (an upgrade that
/// is asked for, and whether trailers are taken, among it), what proxies on the way have said, and where it has passed.
static SPECIAL: LazyLock<Names> = LazyLock::new(|| {
    let names = hop_by_hop::ALWAYS.iter();
    let names = names.chain(forwarded::SAID_BY_PROXIES.iter()).cloned();
    names.chain([VIA]).collect()
});

enum Step<'a, S> {
    Send {
        number: usize,
        upstream: &'a Upstream<S>,
        after: After,
    },
    /// The request has come as far as it may, and learns that the gateway is here.
    Confirm,
}

fn no_content<B: From<Bytes>>() -> Response<B> {
    let mut response = Response::new(B::from(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

impl<S> Shared<S> {
    /// Makes a client's request one of the gateway's own, or answers it.
    fn prepare(
        &self,
        parts: &mut Parts,
        bodiless: bool,
        last: &mut LastFrom,
    ) -> Result<Step<'_, S>, Rejection> {
        let (number, upstream) = self.upstream(parts)?;
        // TRACE would be reflected, with all credentials in it.
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(not_passed_on(parts));
        }
        // One look at all names tells that most requests have no field that anything of what follows is about.
        let special = parts.headers.keys().any(|name| SPECIAL.contains(name));
        // Before fields are removed: `Connection: via` must not hide a loop.
        if special && self.pseudonym.is_in(&parts.headers) {
            return Err(Rejection::new(&codes::LOOP_DETECTED));
        }
        match count_down(&parts.method, &mut parts.headers) {
            Some(Reach::Onward) => {}
            Some(Reach::Here) => return Ok(Step::Confirm),
            None => return Err(Rejection::new(&codes::MALFORMED_REQUEST)),
        }
        let http2 = upstream.is_http2();
        let wanted = match special && !http2 {
            false => None,
            true => Wanted::of(parts, bodiless, &self.upgrades, || upstream.tunnel())
                .map_err(|full| full.refuse(None))?,
        };
        let trailers = special && http2 && accepts_trailers(&parts.headers);
        if special {
            let named = strip(&mut parts.headers, &self.protected);
            if !bodiless && !named.is_empty() {
                parts.extensions.insert(named);
            }
        }
        self.add_own_fields(parts, special, last)?;
        let caller = Caller::of(&parts.method, &parts.headers);
        if trailers && caller == Caller::Grpc {
            let trailers = HeaderValue::from_static("trailers");
            parts.headers.insert(TE, trailers);
        }
        if let Some(wanted) = &wanted {
            wanted.ask(parts);
        }
        // Nobody else can switch.
        let allowed = match parts.version == Version::HTTP_11 && !http2 {
            true => self.upgrades.clone(),
            false => Allowed::None,
        };
        let pass_error_bodies = parts.extensions.get::<PassErrorBodies>().is_some();
        let after = After {
            pass_error_bodies,
            caller,
            wanted: wanted.map(Box::new),
            allowed,
        };
        Ok(Step::Send {
            number,
            upstream,
            after,
        })
    }

    fn upstream(&self, parts: &Parts) -> Result<(usize, &Upstream<S>), Rejection> {
        let name = parts.extensions.get::<UpstreamName>();
        let numbered = name.and_then(|name| {
            let number = self.upstreams.binary_search_by(|it| it.name().cmp(name));
            let number = number.ok()?;
            Some((number, self.upstreams.get(number)?))
        });
        numbered.ok_or_else(|| {
            let cause = match name {
                Some(name) => format!("there is no upstream `{name}`"),
                None => "no stage has named an upstream".to_owned(),
            };
            Error::because(ErrorKind::Setup, cause).refuse(None)
        })
    }

    /// `special` is false if no proxy on the way has said anything.
    fn add_own_fields(
        &self,
        parts: &mut Parts,
        special: bool,
        last: &mut LastFrom,
    ) -> Result<(), Rejection> {
        self.pseudonym.add_to(&mut parts.headers, parts.version);
        let host = requested_host(parts).map_err(|_| Rejection::new(&codes::MALFORMED_REQUEST))?;
        let peer = peer_addr(&parts.extensions).ok().map(|peer| peer.ip());
        let client = parts.extensions.get::<ClientAddr>();
        let hop = Hop {
            from: peer.or_else(|| client.map(|client| client.ip())),
            believed: match peer {
                Some(peer) if self.trusted.contains(peer) => match self.trusted.write_forwarded() {
                    true => Believed::Forwarded,
                    false => Believed::XForwarded,
                },
                _ => Believed::Nothing,
            },
            scheme: self.scheme,
            host: host.as_ref(),
        };
        if special {
            hop.forget_others(&mut parts.headers, &self.protected);
        }
        hop.add_to(&mut parts.headers, last);
        if let Some(id) = parts.extensions.get::<RequestId>() {
            let id = id.header_value();
            let mut sent = parts.headers.get_all(&self.request_id).iter();
            // It is there already if the stage that made it uses the same field.
            if sent.next() != Some(id) || sent.next().is_some() {
                parts.headers.insert(&self.request_id, id.clone());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::UpstreamBody;
    use crate::upstream::future::{SendFuture, TransportFuture};

    const fn is_shared<T: Clone + Send + Sync + Unpin + 'static>() {}
    const fn is_sent<T: Send + 'static>() {}

    const _: () = {
        is_shared::<Forward>();
        is_shared::<Upstream>();
        is_sent::<UpstreamBody>();
        is_sent::<TransportFuture>();
        is_sent::<SendFuture<Transport>>();
        is_sent::<ResponseFuture<Transport, UpstreamBody>>();
    };

    #[test]
    fn names_are_given_once() {
        let upstream = || {
            Upstream::builder(UpstreamName::new("orders"))
                .endpoint("http://127.0.0.1:1".parse().unwrap())
                .build()
                .unwrap()
        };
        let error = Forward::new([upstream(), upstream()]).unwrap_err();
        assert_eq!(error.to_string(), "upstreams.orders: must be named once");
    }

    #[test]
    fn settings_that_break_rules_are_refused() {
        let forward = Forward::<Transport>::new([]).unwrap();
        assert_eq!(
            forward.clone().pseudonym("a b").unwrap_err().field(),
            "pseudonym"
        );
        assert_eq!(
            forward.clone().upgrades(["H2C"]).unwrap_err().field(),
            "upgrades"
        );
        assert!(forward.upgrades(["websocket", "irc"]).is_ok());
    }
}
