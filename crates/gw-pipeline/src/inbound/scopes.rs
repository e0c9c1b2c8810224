use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::call::call_into;
use gw_core::context::{Identity, RouteMatch};
use gw_core::stage::{FactSet, HasIdentity, HasRoute, Stage};
use gw_core::{OnReject, Rejection, Respond};
use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use crate::codes;
use crate::decided::Decided;
use crate::pipeline::slot;

/// Refuses callers who lack a scope that the route asks for, with 403 `FORBIDDEN`.
///
/// A request without an [`Identity`] has no scopes, and passes only where none is asked for.
#[derive(Debug, Clone)]
pub struct ScopesLayer<R = Respond> {
    /// By the routes' places in their table.
    needed: Arc<[Vec<Box<str>>]>,
    on_reject: R,
}

impl ScopesLayer {
    /// What each route asks for, in the order of the route table: all of the scopes. Routes that are not in the list, and
    /// requests that match none, ask for nothing.
    pub fn by_route<I, T>(needed: impl IntoIterator<Item = I>) -> Self
    where
        I: IntoIterator<Item = T>,
        T: Into<Box<str>>,
    {
        let needed = needed.into_iter();
        Self {
            needed: needed
                .map(|scopes| scopes.into_iter().map(Into::into).collect())
                .collect(),
            on_reject: Respond::new(),
        }
    }
}

impl<R> ScopesLayer<R> {
    /// Renders refusals with `on_reject`.
    #[must_use]
    pub fn on_reject<R2>(self, on_reject: R2) -> ScopesLayer<R2> {
        ScopesLayer {
            needed: self.needed,
            on_reject,
        }
    }

    fn allows(&self, extensions: &Extensions) -> bool {
        let route = extensions.get().and_then(RouteMatch::ordinal);
        let needed = route.and_then(|ordinal| self.needed.get(ordinal));
        needed.is_none_or(|needed| needed.is_empty() || has_all(extensions.get(), needed))
    }
}

fn has_all(caller: Option<&Identity>, needed: &[Box<str>]) -> bool {
    let has = |scope: &str| caller.is_some_and(|caller| caller.scopes().any(|has| has == scope));
    needed.iter().all(|scope| has(scope))
}

impl<F: FactSet + HasRoute + HasIdentity, R> Stage<F> for ScopesLayer<R> {
    type Facts = F;
    type Layer = Self;

    fn into_layer(self) -> Self {
        self
    }
}

impl<S, R: Clone> Layer<S> for ScopesLayer<R> {
    type Service = Scopes<S, R>;

    fn layer(&self, inner: S) -> Scopes<S, R> {
        Scopes {
            inner,
            layer: self.clone(),
        }
    }
}

/// The service of [`ScopesLayer`].
#[derive(Debug, Clone)]
pub struct Scopes<S, R = Respond> {
    inner: S,
    layer: ScopesLayer<R>,
}

impl<S, R, B, ResB> Service<Request<B>> for Scopes<S, R>
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
        if self.layer.allows(request.extensions()) {
            return call_into(&mut self.inner, request, Decided::inner);
        }
        let refused = Rejection::new(&codes::FORBIDDEN);
        let (parts, _) = request.into_parts();
        Decided::refuse::<slot::Authorize>(&self.layer.on_reject, refused, &parts)
    }
}

#[cfg(test)]
mod tests {
    use gw_core::context::IdentityParts;

    use super::*;

    fn request(route: Option<usize>, scopes: Option<&[&str]>) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(match route {
            Some(ordinal) => RouteMatch::new(ordinal, "r", "/"),
            None => RouteMatch::unmatched(),
        });
        if let Some(scopes) = scopes {
            let scopes = scopes.iter().map(|scope| Box::from(*scope)).collect();
            extensions.insert(Identity::new(IdentityParts {
                scopes,
                ..IdentityParts::default()
            }));
        }
        extensions
    }

    #[test]
    fn all_scopes_of_the_route_are_needed() {
        let layer = ScopesLayer::by_route([vec![], vec!["read"], vec!["read", "write"]]);
        for (route, scopes, allowed) in [
            (Some(0), None, true),
            (Some(1), None, false),
            (Some(1), Some(&[][..]), false),
            (Some(1), Some(&["rea"]), false),
            (Some(1), Some(&["reader"]), false),
            (Some(1), Some(&["Read"]), false),
            (Some(1), Some(&["write", "read"]), true),
            (Some(2), Some(&["read"]), false),
            (Some(2), Some(&["read", "write"]), true),
            (Some(3), None, true),
            (None, None, true),
        ] {
            let asked = request(route, scopes);
            assert_eq!(layer.allows(&asked), allowed, "{route:?} {scopes:?}");
        }
    }
}
