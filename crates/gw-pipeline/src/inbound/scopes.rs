use std::sync::Arc;
use std::task::{Context, Poll};

use gw_core::call::call_into;
use gw_core::context::{Identity, RouteMatch};
use gw_core::key::MissingKey;
use gw_core::stage::{FactSet, HasIdentity, HasRoute, Stage};
use gw_core::{ConfigError, OnReject, Rejection, Respond};
use http::{Extensions, Request, Response};
use tower_layer::Layer;
use tower_service::Service;

use super::route::RouteTable;
use crate::codes;
use crate::decided::Decided;
use crate::pipeline::slot;

/// Refuses callers who lack a scope that the route asks for, with 403 `FORBIDDEN`.
///
/// A request without an [`Identity`] has no scopes, and passes only where none is asked for. One without a [`RouteMatch`] never
/// came by the route stage, so that it is not known what is asked for: it is answered 500 `INTERNAL`, with a cause for the log that
/// says so.
///
/// # Examples
///
/// ```
/// use gw_pipeline::inbound::{Route, RouteTable, ScopesLayer};
///
/// let table = RouteTable::builder()
///     .route(Route::path("list", "/orders").methods([http::Method::GET]))
///     .route(Route::path("post", "/orders").methods([http::Method::POST]))
///     .build()?;
/// // Anybody may list.
/// let scopes = ScopesLayer::by_route(&table, [("post", ["orders:write"])])?;
/// # Ok::<(), gw_pipeline::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ScopesLayer<R = Respond> {
    /// Of each route of the table, at its place.
    needed: Arc<[Vec<Box<str>>]>,
    on_reject: R,
}

impl ScopesLayer {
    /// What routes ask for, by their names in `table`: all of the scopes. Routes that are not named, and requests that
    /// match none, ask for nothing.
    ///
    /// `table` must be the one that finds the routes of the requests. A route beyond its end is refused.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] if the table has no route of that name, or a route is named twice.
    pub fn by_route<N, I, T>(
        table: &RouteTable,
        needed: impl IntoIterator<Item = (N, I)>,
    ) -> Result<Self, ConfigError>
    where
        N: AsRef<str>,
        I: IntoIterator<Item = T>,
        T: Into<Box<str>>,
    {
        let mut places: Vec<_> = table.routes().map(|route| (route.name(), None)).collect();
        for (name, scopes) in needed {
            let name = name.as_ref();
            let wrong = |rule: &'static str| ConfigError::new(format!("scopes.{name}"), rule);
            let place = places.iter_mut().find(|(of, _)| *of == name);
            let (_, place) = place.ok_or_else(|| wrong("must be the name of a route"))?;
            if place.is_some() {
                return Err(wrong("must be named once"));
            }
            *place = Some(scopes.into_iter().map(Into::into).collect());
        }
        let needed = places.into_iter().map(|(_, scopes)| scopes);
        Ok(Self {
            needed: needed.map(Option::unwrap_or_default).collect(),
            on_reject: Respond::new(),
        })
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

    fn check(&self, extensions: &Extensions) -> Result<(), Rejection> {
        let route: &RouteMatch = extensions.get().ok_or_else(no_route)?;
        let Some(ordinal) = route.ordinal() else {
            return Ok(());
        };
        // A route that is not there is of another table, and what it asks for is not known.
        let needed = self.needed.get(ordinal);
        match needed.is_some_and(|needed| needed.is_empty() || has_all(extensions.get(), needed)) {
            true => Ok(()),
            false => Err(Rejection::new(&codes::FORBIDDEN)),
        }
    }
}

/// The stages stand in the wrong order, which only the operator can put right.
#[cold]
fn no_route() -> Rejection {
    let missing = MissingKey::new("route", "the route stage must stand before this layer");
    Rejection::new(&codes::INTERNAL).caused_by(missing)
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
        let Err(refused) = self.layer.check(request.extensions()) else {
            return call_into(&mut self.inner, request, Decided::inner);
        };
        let (parts, _) = request.into_parts();
        Decided::refuse::<slot::Authorize>(&self.layer.on_reject, refused, &parts)
    }
}

#[cfg(test)]
mod tests {
    use gw_core::context::IdentityParts;

    use super::*;
    use crate::inbound::Route;

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

    fn table(names: &[&str]) -> RouteTable {
        let routes = names
            .iter()
            .map(|name| Route::prefix(*name, format!("/{name}")));
        RouteTable::builder().routes(routes).build().unwrap()
    }

    #[test]
    fn all_scopes_of_the_route_are_needed() {
        let table = table(&["open", "one", "both", "unnamed"]);
        let needed = [
            ("both", vec!["read", "write"]),
            ("open", vec![]),
            ("one", vec!["read"]),
        ];
        let layer = ScopesLayer::by_route(&table, needed).unwrap();
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
            // Of another table.
            (Some(4), None, false),
            (Some(4), Some(&["read", "write"]), false),
            (None, None, true),
        ] {
            let asked = request(route, scopes);
            let refused = layer.check(&asked).err();
            let expected = (!allowed).then(|| Rejection::new(&codes::FORBIDDEN));
            assert_eq!(refused, expected, "{route:?} {scopes:?}");
        }
    }

    /// Story: with this layer outside of the route stage in a stack of one's own, everybody passed.
    #[test]
    fn without_a_route_stage_before_it_nobody_passes() {
        let layer = ScopesLayer::by_route(&table(&["list"]), [("list", ["read"])]).unwrap();
        let refused = layer.check(&Extensions::new()).unwrap_err();
        assert_eq!(refused.code(), &codes::INTERNAL);
        let cause = std::error::Error::source(&refused).unwrap().to_string();
        assert!(
            cause.contains("the route stage must stand before"),
            "{cause}"
        );
        // That a request has no route is known, and refused later on.
        assert!(layer.check(&request(None, None)).is_ok());
    }

    #[test]
    fn a_route_put_in_front_moves_no_scopes() {
        for names in [&["list", "post"][..], &["new", "list", "post"]] {
            let table = table(names);
            let layer = ScopesLayer::by_route(&table, [("post", ["write"])]).unwrap();
            for route in table.routes() {
                let mut asked = Extensions::new();
                asked.insert(route.clone());
                assert_eq!(
                    layer.check(&asked).is_ok(),
                    route.name() != "post",
                    "{names:?} {route:?}"
                );
            }
        }
    }

    #[test]
    fn names_are_those_of_routes_and_given_once() {
        let table = table(&["list", "post"]);
        for (names, message) in [
            (
                &["post", "pots"][..],
                "scopes.pots: must be the name of a route",
            ),
            (
                &[RouteMatch::UNMATCHED],
                "scopes.unmatched: must be the name of a route",
            ),
            (&["post", "list", "post"], "scopes.post: must be named once"),
        ] {
            let needed = names.iter().map(|name| (name, [""; 0]));
            let error = ScopesLayer::by_route(&table, needed).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
