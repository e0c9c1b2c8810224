use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gw_core::context::RouteMatch;
use http::request::Parts;
use http::{Extensions, HeaderName, HeaderValue, Method, header};

use super::pattern::{End, Step};
use super::{Policy, Route};
use crate::config_error::ConfigError;
use crate::timeouts::PassErrorBodies;

/// All routes of a gateway, found by the request's normalised path. A clone shares the table.
///
/// The most specific match wins, as in the Kubernetes Gateway API: a whole path before a prefix, a literal segment
/// before a parameter, the longer prefix before the shorter; then the route that names a host, then the one that
/// names methods, then the one with more header fields, then the one declared first. A route whose host, method or
/// header fields do not fit is no candidate, so a less specific one may still match.
///
/// A look-up visits each node of the tree of patterns at most once, whatever the path.
#[derive(Debug, Clone)]
pub struct RouteTable(Arc<Table>);

#[derive(Debug)]
struct Table {
    root: Node,
    routes: Vec<RouteEntry>,
    unmatched: RouteMatch,
}

/// A route as it is found.
#[derive(Debug)]
pub(in crate::inbound) struct RouteEntry {
    pub(in crate::inbound) route_match: RouteMatch,
    pub(in crate::inbound) policy: Policy,
    /// What goes into each request's extensions: with room for what other stages put there, so that a clone of it does
    /// not grow.
    pub(in crate::inbound) facts: Extensions,
    methods: Vec<Method>,
    host: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A node of the tree of path segments. The lists hold indices of routes, the most specific first.
#[derive(Debug, Default)]
struct Node {
    literals: HashMap<String, Node>,
    any: Option<Box<Node>>,
    exact: Vec<usize>,
    prefix: Vec<usize>,
    rest: Vec<usize>,
}

/// The outcome of a look-up.
#[derive(Debug)]
pub(in crate::inbound) enum Found<'a> {
    Route(&'a RouteEntry),
    /// The path is known, for these methods.
    OtherMethods(Vec<Method>),
    Nothing,
}

impl RouteTable {
    /// A table without routes.
    pub fn builder() -> RouteTableBuilder {
        RouteTableBuilder { routes: Vec::new() }
    }

    /// The routes, in the order they were declared; a route's place is its ordinal.
    pub fn routes(&self) -> impl Iterator<Item = &RouteMatch> {
        self.0.routes.iter().map(|route| &route.route_match)
    }

    /// What stands for requests that match no route.
    pub fn unmatched(&self) -> &RouteMatch {
        &self.0.unmatched
    }

    pub(in crate::inbound) fn find(&self, parts: &Parts) -> Found<'_> {
        let mut search = Search {
            table: &self.0,
            parts,
            methods: Vec::new(),
        };
        let path = parts.uri.path();
        // The target of `OPTIONS *` is the server, not a path of one segment.
        if !path.starts_with('/') {
            return Found::Nothing;
        }
        let segments = path.strip_prefix('/').unwrap_or(path).split('/');
        let whole = search.whole(&self.0.root, segments.clone());
        match whole.or_else(|| search.prefix(&self.0.root, segments)) {
            Some(route) => Found::Route(route),
            None if search.methods.is_empty() => Found::Nothing,
            None => Found::OtherMethods(search.methods),
        }
    }
}

struct Search<'a, 'p> {
    table: &'a Table,
    parts: &'p Parts,
    /// The methods of routes that fit but for the method.
    methods: Vec<Method>,
}

impl<'a> Search<'a, '_> {
    /// The first route that matches the path as a whole.
    fn whole(
        &mut self,
        node: &'a Node,
        mut segments: std::str::Split<'_, char>,
    ) -> Option<&'a RouteEntry> {
        let Some(segment) = segments.next() else {
            return self.first(&node.exact);
        };
        let literal = node.literals.get(segment);
        let found = literal.and_then(|next| self.whole(next, segments.clone()));
        let any = || node.any.as_deref().filter(|_| !segment.is_empty());
        found.or_else(|| any().and_then(|next| self.whole(next, segments)))
    }

    /// The route with the longest prefix that matches.
    fn prefix(
        &mut self,
        node: &'a Node,
        mut segments: std::str::Split<'_, char>,
    ) -> Option<&'a RouteEntry> {
        let Some(segment) = segments.next() else {
            return self.first(&node.prefix);
        };
        let literal = node.literals.get(segment);
        let found = literal.and_then(|next| self.prefix(next, segments.clone()));
        let any = || node.any.as_deref().filter(|_| !segment.is_empty());
        found
            .or_else(|| any().and_then(|next| self.prefix(next, segments.clone())))
            .or_else(|| {
                // Asked first: a route that does not match must not name its methods either.
                let goes_on = !segment.is_empty() || segments.next().is_some();
                goes_on.then(|| self.first(&node.rest)).flatten()
            })
            .or_else(|| self.first(&node.prefix))
    }

    fn first(&mut self, routes: &[usize]) -> Option<&'a RouteEntry> {
        let table = self.table;
        routes
            .iter()
            .filter_map(|&index| table.routes.get(index))
            .find(|route| self.fits(route))
    }

    fn fits(&mut self, route: &RouteEntry) -> bool {
        let host = || {
            self.parts
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
        };
        let host_fits = route.host.as_deref().is_none_or(|name| {
            host().is_some_and(|host| {
                without_dot(without_port(host)).eq_ignore_ascii_case(without_dot(name))
            })
        });
        let header_fits = |(name, value): &(HeaderName, HeaderValue)| {
            self.parts
                .headers
                .get_all(name)
                .iter()
                .any(|found| found == value)
        };
        if !host_fits || !route.headers.iter().all(header_fits) {
            return false;
        }
        let method_fits = route.methods.is_empty() || route.methods.contains(&self.parts.method);
        if !method_fits {
            let unknown = route
                .methods
                .iter()
                .filter(|method| !self.methods.contains(method));
            let unknown: Vec<_> = unknown.cloned().collect();
            self.methods.extend(unknown);
        }
        method_fits
    }
}

/// A host that can be compared with those of requests: one that has passed `head`, without its port.
fn is_host(text: &str) -> bool {
    super::super::head::is_host(text) && without_port(text) == text
}

/// A name that is fully qualified names the same host (RFC 3986 section 3.2.2).
fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// A host that `head` found valid, without its port.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if !host.ends_with(']') => host.split_at(colon).0,
        _ => host,
    }
}

/// Collects routes for a [`RouteTable`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct RouteTableBuilder {
    routes: Vec<Route>,
}

impl RouteTableBuilder {
    /// Adds a route.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Adds routes.
    pub fn routes(mut self, routes: impl IntoIterator<Item = Route>) -> Self {
        self.routes.extend(routes);
        self
    }

    /// The table.
    ///
    /// # Errors
    ///
    /// If two routes have the same name, a name is empty or [`RouteMatch::UNMATCHED`], or a pattern or a host is
    /// malformed.
    pub fn build(self) -> Result<RouteTable, ConfigError> {
        let mut root = Node::default();
        let mut routes = Vec::with_capacity(self.routes.len());
        let mut names = HashSet::new();
        for (ordinal, route) in self.routes.into_iter().enumerate() {
            let field = |part: &str| format!("routes.{}.{part}", route.name);
            if route.name.is_empty() || route.name == RouteMatch::UNMATCHED {
                return Err(ConfigError::new(
                    "routes.name",
                    "must not be empty or `unmatched`",
                ));
            }
            if !names.insert(route.name.clone()) {
                return Err(ConfigError::new(
                    field("name"),
                    "must be the name of one route only",
                ));
            }
            if route.host.as_deref().is_some_and(|host| !is_host(host)) {
                return Err(ConfigError::new(
                    field("host"),
                    "must be a host, without a port",
                ));
            }
            let (steps, end) = route
                .pattern
                .parse()
                .map_err(|rule| ConfigError::new(field("match"), rule))?;
            root.insert(&steps, end, ordinal);
            let route_match = RouteMatch::new(ordinal, route.name, route.pattern.as_str());
            routes.push(RouteEntry {
                facts: facts(&route_match, &route.policy),
                route_match,
                policy: route.policy,
                methods: route.methods,
                host: route.host,
                headers: route.headers,
            });
        }
        root.sort(&routes);
        Ok(RouteTable(Arc::new(Table {
            root,
            routes,
            unmatched: RouteMatch::unmatched(),
        })))
    }
}

/// What holds for each request of a route.
fn facts(route_match: &RouteMatch, policy: &Policy) -> Extensions {
    let mut facts = Extensions::new();
    roomy(&mut facts);
    facts.insert(route_match.clone());
    if let Some(lane) = &policy.lane {
        facts.insert(lane.clone());
    }
    if let Some(criticality) = policy.criticality {
        facts.insert(criticality);
    }
    if let Some(upstream) = &policy.upstream {
        facts.insert(upstream.clone());
    }
    if let Some(timeouts) = policy.timeouts {
        facts.insert(timeouts);
    }
    if policy.pass_error_bodies {
        facts.insert(PassErrorBodies);
    }
    facts
}

/// Makes room for eight entries more: what is removed leaves its room behind, and a clone has as much.
fn roomy(extensions: &mut Extensions) {
    #[derive(Clone)]
    struct Room<const N: u8>;
    macro_rules! with {
        ($method:ident, $($n:literal)*) => { $( extensions.$method(Room::<$n>); )* };
    }
    with!(insert, 0 1 2 3 4 5 6 7);
    extensions.clear();
}

impl Node {
    fn insert(&mut self, steps: &[Step], end: End, route: usize) {
        match (steps.split_first(), end) {
            (Some((Step::Literal(text), rest)), _) => {
                self.literals
                    .entry(text.clone())
                    .or_default()
                    .insert(rest, end, route);
            }
            (Some((Step::Any, rest)), _) => {
                self.any.get_or_insert_default().insert(rest, end, route)
            }
            (None, End::Exact) => self.exact.push(route),
            (None, End::Prefix) => self.prefix.push(route),
            (None, End::Rest) => self.rest.push(route),
        }
    }

    fn sort(&mut self, routes: &[RouteEntry]) {
        // The sort is stable: among equals the one declared first stays first.
        let rank = |&index: &usize| {
            let route = routes.get(index);
            std::cmp::Reverse(
                route.map(|r| (r.host.is_some(), !r.methods.is_empty(), r.headers.len())),
            )
        };
        for list in [&mut self.exact, &mut self.prefix, &mut self.rest] {
            list.sort_by_key(rank);
        }
        self.literals
            .values_mut()
            .chain(self.any.as_deref_mut())
            .for_each(|node| node.sort(routes));
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn table(routes: Vec<Route>) -> RouteTable {
        RouteTable::builder().routes(routes).build().unwrap()
    }

    fn find(table: &RouteTable, request: http::request::Builder) -> String {
        let (parts, ()) = request.body(()).unwrap().into_parts();
        match table.find(&parts) {
            Found::Route(route) => route.route_match.name().to_owned(),
            Found::OtherMethods(methods) => format!("405 {methods:?}"),
            Found::Nothing => "404".to_owned(),
        }
    }

    fn get(table: &RouteTable, path: &str) -> String {
        find(table, Request::get(path))
    }

    #[test]
    fn the_most_specific_path_wins() {
        let table = table(vec![
            Route::prefix("all", "/"),
            Route::prefix("api", "/api/"),
            Route::path("order", "/api/orders/{id}"),
            Route::path("new", "/api/orders/new"),
            Route::path("files", "/files/{*rest}"),
            Route::path("slash", "/dir/"),
        ]);
        for (path, route) in [
            ("/", "all"),
            ("/x", "all"),
            ("/api", "api"),
            ("/api/", "api"),
            ("/api/x/y", "api"),
            ("/apiary", "all"),
            ("/api/orders/7", "order"),
            ("/api/orders/new", "new"),
            ("/api/orders/", "api"),
            ("/api/orders/7/items", "api"),
            ("/files/a/b", "files"),
            ("/files", "all"),
            ("/files/", "all"),
            ("/dir/", "slash"),
            ("/dir", "all"),
        ] {
            assert_eq!(get(&table, path), route, "{path}");
        }
    }

    #[test]
    fn a_route_that_does_not_fit_is_no_candidate() {
        let table = table(vec![
            Route::prefix("api", "/api"),
            Route::path("create", "/api/orders").methods([Method::POST]),
            Route::path("beta", "/api/orders")
                .methods([Method::POST])
                .header(
                    HeaderName::from_static("x-beta"),
                    HeaderValue::from_static("1"),
                ),
            Route::path("hosted", "/api/orders").host("b.example"),
        ]);
        let post = || Request::post("/api/orders");
        assert_eq!(get(&table, "/api/orders"), "api");
        assert_eq!(find(&table, post()), "create");
        assert_eq!(find(&table, post().header("x-beta", "1")), "beta");
        assert_eq!(find(&table, post().header("x-beta", "2")), "create");
        assert_eq!(
            find(&table, post().header("host", "B.example:80")),
            "hosted"
        );
    }

    #[test]
    fn a_known_path_with_another_method_is_405() {
        let table = table(vec![
            Route::path("read", "/a/{id}").methods([Method::GET, Method::HEAD]),
            Route::path("write", "/a/{id}").methods([Method::PUT, Method::GET]),
        ]);
        assert_eq!(
            find(&table, Request::delete("/a/1")),
            "405 [GET, HEAD, PUT]"
        );
        assert_eq!(find(&table, Request::delete("/b")), "404");
        assert_eq!(find(&table, Request::delete("/a/")), "404");
    }

    #[test]
    fn a_rest_that_is_missing_names_no_methods() {
        let table = table(vec![
            Route::path("files", "/files/{*rest}").methods([Method::GET]),
        ]);
        assert_eq!(find(&table, Request::delete("/files/")), "404");
        assert_eq!(find(&table, Request::delete("/files/a")), "405 [GET]");
    }

    #[test]
    fn the_asterisk_is_no_path() {
        let table = table(vec![Route::path("any", "/{x}"), Route::prefix("all", "/")]);
        assert_eq!(find(&table, Request::options("*")), "404");
    }

    #[test]
    fn declaration_order_decides_last() {
        let table = table(vec![Route::path("a", "/{x}"), Route::path("b", "/{y}")]);
        assert_eq!(get(&table, "/1"), "a");
    }

    #[test]
    fn malformed_tables_cannot_be_built() {
        let message = |routes: Vec<Route>| {
            RouteTable::builder()
                .routes(routes)
                .build()
                .unwrap_err()
                .to_string()
        };
        let twice = vec![Route::prefix("a", "/"), Route::prefix("a", "/b")];
        assert_eq!(
            message(twice),
            "routes.a.name: must be the name of one route only"
        );
        for pattern in [
            "a",
            "/a/../b",
            "/a//b",
            "/%61",
            "/{a}x",
            "/{*rest}/b",
            "/{}",
            "/{*}",
            "/{a-b}",
        ] {
            let error = message(vec![Route::path("r", pattern)]);
            assert!(error.starts_with("routes.r.match: "), "{pattern}: {error}");
        }
        for prefix in ["", "a", "//", "/a//", "/{id}", "/a|b"] {
            let error = message(vec![Route::prefix("r", prefix)]);
            assert!(error.starts_with("routes.r.match: "), "{prefix}: {error}");
        }
        for host in ["", "a b", "shop.example:81", "[::1", "http://shop.example"] {
            let error = message(vec![Route::prefix("r", "/").host(host)]);
            assert!(error.starts_with("routes.r.host: "), "{host}: {error}");
        }
        assert!(message(vec![Route::prefix("unmatched", "/")]).contains("routes.name"));
    }

    #[test]
    fn a_dot_at_the_end_of_a_host_changes_nothing() {
        let table = table(vec![Route::prefix("shop", "/").host("Shop.example.")]);
        for host in ["shop.example", "shop.example.:81", "SHOP.EXAMPLE."] {
            let request = Request::get("/").header("host", host);
            assert_eq!(find(&table, request), "shop", "{host}");
        }
        let request = Request::get("/").header("host", "shop.example..");
        assert_eq!(find(&table, request), "404");
    }
}
