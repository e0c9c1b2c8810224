use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::context::Identity;
use gw_core::stage::{FactSet, Stage};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use tower_layer::Layer;
use tower_service::Service;

use crate::fields::{Names, remove_where};

/// Tells the upstream who calls, and makes sure that nobody else can.
///
/// The client's copies of the fields are removed from every request, whether there is an [`Identity`] or not; then the
/// fields are set from the identity. A name that cannot stand in a field is left out. Fields by which upstreams are usually told
/// of a user go, too, where these here have other names: `X-Consumer-Id`, `X-User-Id`, `X-Scopes`, `X-Authenticated-User`,
/// `X-Remote-User`, `Remote-User`.
#[derive(Debug, Clone)]
pub struct IdentityHeadersLayer {
    shared: Arc<Shared>,
}

/// What upstreams read that trust whoever stands in front of them. Unless these are the names in use, nothing here sets them, so
/// whoever sent them made them up.
const USUAL: [&str; 6] = [
    "x-consumer-id",
    "x-user-id",
    "x-scopes",
    "x-authenticated-user",
    "x-remote-user",
    "remote-user",
];

#[derive(Debug)]
struct Shared {
    names: IdentityHeaders,
    all: Names,
}

impl Shared {
    fn apply(&self, headers: &mut HeaderMap, identity: Option<&Identity>) {
        remove_where(headers, |name| self.all.contains(name));
        if let Some(identity) = identity {
            self.names.set(headers, identity);
        }
    }
}

/// The header fields that carry an identity upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IdentityHeaders {
    /// The application that calls.
    pub consumer: HeaderName,
    /// The person on whose behalf it calls.
    pub user: HeaderName,
    /// What the credential allows, separated by spaces.
    pub scopes: HeaderName,
}

impl Default for IdentityHeaders {
    fn default() -> Self {
        Self {
            consumer: HeaderName::from_static("x-consumer-id"),
            user: HeaderName::from_static("x-user-id"),
            scopes: HeaderName::from_static("x-scopes"),
        }
    }
}

impl IdentityHeaders {
    /// These fields.
    pub const fn new(consumer: HeaderName, user: HeaderName, scopes: HeaderName) -> Self {
        Self {
            consumer,
            user,
            scopes,
        }
    }

    fn set(&self, headers: &mut HeaderMap, identity: &Identity) {
        let mut set = |name: &HeaderName, value: Option<&str>| {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(value).ok()) {
                headers.insert(name, value);
            }
        };
        set(&self.consumer, identity.consumer());
        set(&self.user, identity.user());
        let scopes = identity.scopes().collect::<Vec<_>>().join(" ");
        set(
            &self.scopes,
            Some(scopes.as_str()).filter(|scopes| !scopes.is_empty()),
        );
    }
}

impl IdentityHeadersLayer {
    /// Uses the fields `names`.
    pub fn new(names: IdentityHeaders) -> Self {
        let ours = [&names.consumer, &names.user, &names.scopes];
        let usual = USUAL.map(HeaderName::from_static);
        let all = ours.into_iter().cloned().chain(usual).collect();
        Self {
            shared: Arc::new(Shared { names, all }),
        }
    }

    /// Whether the client's copy of a field is removed.
    ///
    /// In front of the layer it is still there: no [`Route`](super::Route) should be found by it.
    pub fn removes(&self, name: &HeaderName) -> bool {
        self.shared.all.contains(name)
    }
}

impl<F: FactSet> Stage<F> for IdentityHeadersLayer {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl<S> Layer<S> for IdentityHeadersLayer {
    type Service = IdentityHeadersService<S>;

    fn layer(&self, inner: S) -> IdentityHeadersService<S> {
        IdentityHeadersService {
            inner,
            shared: Arc::clone(&self.shared),
        }
    }
}

/// The service of [`IdentityHeadersLayer`].
#[derive(Debug, Clone)]
pub struct IdentityHeadersService<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<B>> for IdentityHeadersService<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        let identity = request.extensions().get::<Identity>().cloned();
        self.shared.apply(request.headers_mut(), identity.as_ref());
        self.inner.call(request)
    }
}

#[cfg(test)]
mod tests {
    use gw_core::context::IdentityParts;
    use http::header;

    use super::*;

    #[test]
    fn a_client_cannot_say_who_it_is() {
        let names = IdentityHeaders::default();
        let mut headers = HeaderMap::new();
        headers.append(&names.user, HeaderValue::from_static("admin"));
        headers.append(&names.user, HeaderValue::from_static("root"));
        for name in USUAL {
            headers.append(name, HeaderValue::from_static("root"));
        }
        let layer = IdentityHeadersLayer::new(names);
        assert!(headers.keys().all(|name| layer.removes(name)));
        assert!(!layer.removes(&header::COOKIE));
        layer.shared.apply(&mut headers, None);
        assert!(headers.is_empty());
    }

    /// Story: with names of its own, the usual ones passed, and an upstream took a client at its word.
    #[test]
    fn nor_by_the_usual_names_where_others_are_in_use() {
        let other = |name| HeaderName::from_static(name);
        let names = IdentityHeaders::new(other("x-app"), other("x-person"), other("x-permissions"));
        let layer = IdentityHeadersLayer::new(names);
        for name in ["x-consumer-id", "x-user-id", "x-scopes"] {
            assert!(layer.removes(&other(name)), "{name}");
        }
    }

    #[test]
    fn an_identity_is_passed_on() {
        let names = IdentityHeaders::default();
        let mut headers = HeaderMap::new();
        headers.append(&names.scopes, HeaderValue::from_static("admin:all"));
        let identity = Identity::new(IdentityParts {
            consumer: Some("acme".into()),
            user: Some("line\nbreak".into()),
            scopes: vec!["orders:read".into(), "orders:write".into()],
            roles: Vec::new(),
        });
        let shared = IdentityHeadersLayer::new(names.clone()).shared;
        shared.apply(&mut headers, Some(&identity));
        assert_eq!(headers[&names.consumer], "acme");
        assert_eq!(headers[&names.scopes], "orders:read orders:write");
        assert!(!headers.contains_key(&names.user));
    }
}
