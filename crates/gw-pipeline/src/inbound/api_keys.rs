//! Who calls, by a key that the caller sends.

mod digest;
mod keys;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::call::call_into;
use gw_core::context::Identity;
use gw_core::record::Record;
use gw_core::stage::{FactSet, Stage};
use gw_core::{OnReject, Rejection, Respond};
use http::request::Parts;
use http::{HeaderMap, Request, Response, header};
use tower_layer::Layer;
use tower_service::Service;

pub use self::digest::KeyDigest;
use self::keys::Credential;
pub use self::keys::{ApiKey, ApiKeys, ApiKeysBuilder};
use crate::codes;
use crate::decided::Decided;
use crate::pipeline::slot;

/// Establishes who calls by the API key that a request carries, as [`Identity`].
///
/// Every request must carry a key, but for those that [`public`](ApiKeysLayer::public) names: they pass unasked and
/// without an identity. A request without a key is refused with 401 `AUTH_REQUIRED`, one whose keys are nobody's with 401
/// `AUTH_INVALID`; both answers have a `WWW-Authenticate` line for each set of keys that was asked. So does a request that
/// no set is asked about: what is not known to be public is shut.
///
/// The fields with keys are removed from every request that passes, also from public ones, until
/// [`forward_credentials`](ApiKeysLayer::forward_credentials) says otherwise.
///
/// There is no mode that lets requests pass unauthenticated: what stands behind relies on the identity.
///
/// # Examples
///
/// ```
/// use gw_pipeline::inbound::{ApiKey, ApiKeys, ApiKeysLayer, KeyDigest};
///
/// let digest: KeyDigest = "d7df536ec407db84e48314b59082b4a7f1d52d5804492ef616758e769109026c".parse()?;
/// let keys = ApiKeys::builder()
///     .key(ApiKey::new("partner-acme", digest).scopes(["orders:read"]))
///     .build()?;
/// let layer = ApiKeysLayer::new(keys).public(|head| head.uri.path() == "/");
/// # Ok::<(), gw_pipeline::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct ApiKeysLayer<R = Respond> {
    rules: Arc<Rules>,
    on_reject: R,
}

#[derive(Clone)]
struct Rules {
    sets: Vec<ApiKeys>,
    public: Option<Predicate>,
    forward_credentials: bool,
}

pub(crate) type Predicate = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

impl ApiKeysLayer {
    /// Accepts the keys of one set.
    pub fn new(keys: ApiKeys) -> Self {
        Self::any_of([keys])
    }

    /// Accepts the keys of several sets, which are asked in this order. The first that knows the caller decides.
    pub fn any_of(sets: impl IntoIterator<Item = ApiKeys>) -> Self {
        let rules = Rules {
            sets: sets.into_iter().collect(),
            public: None,
            forward_credentials: false,
        };
        Self {
            rules: Arc::new(rules),
            on_reject: Respond::new(),
        }
    }
}

impl<R> ApiKeysLayer<R> {
    /// Lets the requests pass for which `predicate` holds, whatever they carry. It runs for each request, and must not
    /// allocate or block.
    #[must_use]
    pub fn public(mut self, predicate: impl Fn(&Parts) -> bool + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.rules).public = Some(Arc::new(predicate));
        self
    }

    /// Whether the fields with keys go on to what stands behind; they do not until this is set. Their values are marked
    /// as sensitive then, so that they are not printed or indexed.
    #[must_use]
    pub fn forward_credentials(mut self, forward: bool) -> Self {
        Arc::make_mut(&mut self.rules).forward_credentials = forward;
        self
    }

    /// Renders refusals with `on_reject`.
    #[must_use]
    pub fn on_reject<R2>(self, on_reject: R2) -> ApiKeysLayer<R2> {
        ApiKeysLayer {
            rules: self.rules,
            on_reject,
        }
    }
}

impl Rules {
    /// Who calls; nobody, where everybody may.
    fn caller(&self, parts: &Parts) -> Result<Option<Identity>, Rejection> {
        if self.public.as_ref().is_some_and(|public| public(parts)) {
            return Ok(None);
        }
        let mut code = &codes::AUTH_REQUIRED;
        for set in self.asked(parts) {
            match set.credential(&parts.headers) {
                Credential::Of(identity) => return Ok(Some(identity.clone())),
                Credential::Nobodys => code = &codes::AUTH_INVALID,
                Credential::Missing => {}
            }
        }
        Err(self.challenged(Rejection::new(code), parts))
    }

    fn asked(&self, parts: &Parts) -> impl Iterator<Item = &ApiKeys> {
        self.sets.iter().filter(|set| set.is_asked(parts))
    }

    /// RFC 9110 section 15.5.2: a 401 names at least one way to authenticate.
    fn challenged(&self, refused: Rejection, parts: &Parts) -> Rejection {
        let mut challenges: Vec<_> = self.asked(parts).map(ApiKeys::challenge).collect();
        if challenges.is_empty() {
            challenges = self.sets.iter().map(ApiKeys::challenge).collect();
        }
        challenges.dedup();
        challenges.into_iter().fold(refused, |refused, challenge| {
            refused.field(header::WWW_AUTHENTICATE, challenge.clone())
        })
    }

    fn settle_credentials(&self, headers: &mut HeaderMap) {
        for set in &self.sets {
            if !self.forward_credentials {
                headers.remove(set.header());
            } else if let header::Entry::Occupied(mut lines) = headers.entry(set.header()) {
                lines.iter_mut().for_each(|value| value.set_sensitive(true));
            }
        }
    }
}

impl<R> fmt::Debug for ApiKeysLayer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeysLayer")
            .field("sets", &self.rules.sets)
            .field("forward_credentials", &self.rules.forward_credentials)
            .finish_non_exhaustive()
    }
}

impl<F: FactSet, R> Stage<F> for ApiKeysLayer<R> {
    type Facts = F::WithIdentity;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl<S, R: Clone> Layer<S> for ApiKeysLayer<R> {
    type Service = ApiKeysService<S, R>;

    fn layer(&self, inner: S) -> ApiKeysService<S, R> {
        ApiKeysService {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`ApiKeysLayer`].
#[derive(Debug, Clone)]
pub struct ApiKeysService<S, R = Respond> {
    inner: S,
    layer: ApiKeysLayer<R>,
}

impl<S, R, B, ResB> Service<Request<B>> for ApiKeysService<S, R>
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

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let rules = &self.layer.rules;
        let caller = match rules.caller(&parts) {
            Ok(caller) => caller,
            Err(refused) => {
                let on_reject = &self.layer.on_reject;
                return Decided::refuse::<slot::Authenticate>(on_reject, refused, &parts);
            }
        };
        rules.settle_credentials(&mut parts.headers);
        if let Some(identity) = caller {
            if let Some(record) = Record::of(&parts.extensions) {
                record.update(|exchange| exchange.identity = Some(identity.clone()));
            }
            parts.extensions.insert(identity);
        }
        let request = Request::from_parts(parts, body);
        call_into(&mut self.inner, request, Decided::inner)
    }
}
