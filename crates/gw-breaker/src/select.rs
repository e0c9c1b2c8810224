//! Which breaker a request belongs to.

use std::hash::{Hash, Hasher};
use std::mem;
use std::ops::Deref;
use std::sync::Arc;

use gw_core::context::UpstreamName;
use gw_core::key::{AvailableIn, KeyExtractor, MissingKey};
use http::Request;
use http::request::Parts;

use crate::breaker::Breaker;
use crate::registry::SharedRegistry;

/// Finds the breaker of a request. Sealed: [`Single`] and [`Keyed`].
pub trait Select: Clone + sealed::Sealed {
    #[doc(hidden)]
    fn find<B>(&self, request: &mut Request<B>) -> Found<'_>;

    /// Whether all requests pass, as far as is known before there is one. Catches up with a new configuration.
    #[doc(hidden)]
    fn passes(&mut self) -> bool;

    #[doc(hidden)]
    fn refresh(&mut self);
}

mod sealed {
    pub trait Sealed {}
}

/// A breaker that was found.
#[doc(hidden)]
#[derive(Debug)]
pub enum Found<'a> {
    One(&'a Breaker),
    OfMany(Breaker),
}

impl Deref for Found<'_> {
    type Target = Breaker;

    #[inline]
    fn deref(&self) -> &Breaker {
        match self {
            Self::One(breaker) => breaker,
            Self::OfMany(breaker) => breaker,
        }
    }
}

/// All requests of the layer have one breaker.
#[derive(Debug, Clone)]
pub struct Single(pub(crate) Breaker);

impl sealed::Sealed for Single {}

impl Select for Single {
    #[inline]
    fn find<B>(&self, _: &mut Request<B>) -> Found<'_> {
        Found::One(&self.0)
    }

    #[inline]
    fn passes(&mut self) -> bool {
        self.0.is_simply_closed() || self.passes_otherwise()
    }

    fn refresh(&mut self) {
        self.0.refresh();
    }
}

/// Each key has a breaker of its own.
#[derive(Debug)]
pub struct Keyed<E> {
    pub(crate) registry: SharedRegistry,
    pub(crate) extractor: Arc<E>,
    /// The name of a request's own breaker in metrics.
    pub(crate) name: fn(&Parts) -> Option<UpstreamName>,
}

// By hand: a derive would ask for `E: Clone`.
impl<E> Clone for Keyed<E> {
    fn clone(&self) -> Self {
        Self {
            registry: Arc::clone(&self.registry),
            extractor: Arc::clone(&self.extractor),
            name: self.name,
        }
    }
}

impl<E> sealed::Sealed for Keyed<E> {}

impl Single {
    #[cold]
    fn passes_otherwise(&mut self) -> bool {
        // Here and not in the call: a service that is asked again and again must not look it up each time.
        self.0.refresh();
        self.0.is_closed() || self.0.core().hub.is_shadow()
    }
}

impl<E: KeyExtractor> Select for Keyed<E> {
    fn find<B>(&self, request: &mut Request<B>) -> Found<'_> {
        let parts = taken(request);
        let mut hasher = self.registry.hasher();
        let found = match self.extractor.hash_into(&parts, &mut hasher) {
            Ok(()) => {
                let key = hasher.finish();
                let make = || self.registry.make(key, (self.name)(&parts));
                self.registry.find(key).unwrap_or_else(make)
            }
            Err(missing) => self.registry.without_key(&missing),
        };
        put_back(parts, request);
        Found::OfMany(found)
    }

    /// The inner service is asked: it serves more upstreams than one, and is not dead because one of them is.
    #[inline]
    fn passes(&mut self) -> bool {
        true
    }

    fn refresh(&mut self) {}
}

/// The head of a request whose body stays where it is.
fn taken<B>(request: &mut Request<B>) -> Parts {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = mem::take(request.method_mut());
    parts.uri = mem::take(request.uri_mut());
    parts.version = *request.version_mut();
    parts.headers = mem::take(request.headers_mut());
    parts.extensions = mem::take(request.extensions_mut());
    parts
}

fn put_back<B>(parts: Parts, request: &mut Request<B>) {
    *request.method_mut() = parts.method;
    *request.uri_mut() = parts.uri;
    *request.headers_mut() = parts.headers;
    *request.extensions_mut() = parts.extensions;
}

/// The key that [`BreakerBuilder::per_upstream`](crate::BreakerBuilder::per_upstream) reads: the [`UpstreamName`] in the
/// request's extensions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ByUpstream;

impl ByUpstream {
    const fn missing() -> MissingKey {
        MissingKey::new(
            "upstream",
            "a stage further out must set its name, as gw-pipeline's routes do",
        )
    }

    pub(crate) fn name(parts: &Parts) -> Option<UpstreamName> {
        parts.extensions.get().cloned()
    }
}

impl KeyExtractor for ByUpstream {
    type Key = UpstreamName;

    fn extract(&self, parts: &Parts) -> Result<UpstreamName, MissingKey> {
        Self::name(parts).ok_or_else(Self::missing)
    }

    fn hash_into<H: Hasher>(&self, parts: &Parts, state: &mut H) -> Result<(), MissingKey> {
        let name = parts.extensions.get::<UpstreamName>();
        name.ok_or_else(Self::missing)?.hash(state);
        Ok(())
    }
}

/// Where no name is known, requests share the layer's own breaker.
impl<F> AvailableIn<F> for ByUpstream {}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;
    use crate::config::BreakerConfig;

    /// Story: a service that was made before a new configuration looked it up under a lock with each request, for good.
    #[test]
    fn a_service_catches_up_when_it_is_asked_whether_it_is_ready() {
        let breaker = Breaker::new("orders", &BreakerConfig::new()).unwrap();
        let mut single = Single(breaker.clone());
        let config = BreakerConfig::new().consecutive_failures(1);
        breaker
            .reconfigure(&config, tokio::time::Instant::now())
            .unwrap();
        assert!(single.0.is_replaced());
        assert!(single.passes());
        assert!(!single.0.is_replaced());
    }
}
