use std::cell::OnceCell;
use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use gw_core::ConfigError;
use gw_core::context::{Lane, RouteMatch};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, header};

use super::pattern::{End, Step};
use super::{Policy, Route};
use crate::fields::{NO_UNDERSCORE, has_underscore};
use crate::timeouts::Timeouts;

/// All routes of a gateway, found by the request's normalised path. A clone shares the table.
///
/// The most specific match wins, as in the Kubernetes Gateway API: a whole path before a prefix, a literal segment
/// before a parameter, the longer prefix before the shorter; then the route that names a host, then the one that
/// names methods, then the one with more header fields, then the one declared first. A route whose host, method or
/// header fields do not fit is no candidate, so a less specific one may still match.
///
/// Some readers undo escapes, and some cut parameters off (`;`). A path with either is refused unless all of them come to the
/// same route; so no pattern has literals that can be read in two ways.
///
/// A look-up visits each node of the tree of patterns at most once, whatever the path. For one with escapes or parameters there
/// are three at the most.
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
    /// Empty: any.
    methods: Vec<Method>,
    /// In lower case, and without the dot at its end.
    host: Option<String>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// A node of the tree of path segments. The lists hold indices of routes: those of hosts by their host, then those of any. Among
/// these as among those of one host the most specific is the first.
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
    /// Not everybody who reads the path comes to the same route.
    Several,
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

    /// The route of a request, whose path may also be read as one of `others`, if it is one of the lane `only`, where one is
    /// given.
    pub(in crate::inbound) fn find(
        &self,
        parts: &Parts,
        others: &[String],
        only: Option<&Lane>,
    ) -> Found<'_> {
        let mut search = Search {
            table: &self.0,
            parts,
            only,
            host: OnceCell::new(),
            methods: Vec::new(),
        };
        // What has no route goes nowhere, however it is read.
        match search.route(parts.uri.path()) {
            Some(route) if !route.is_in(only) => Found::Nothing,
            Some(route) if !search.all_find(route, others) => Found::Several,
            Some(route) => Found::Route(route),
            None if search.methods.is_empty() => Found::Nothing,
            None => Found::OtherMethods(search.methods),
        }
    }
}

impl Table {
    fn host(&self, route: usize) -> Option<&str> {
        self.routes.get(route)?.host.as_deref()
    }
}

impl RouteEntry {
    fn is_in(&self, only: Option<&Lane>) -> bool {
        only.is_none_or(|lane| self.policy.lane.as_ref() == Some(lane))
    }
}

/// What is left of a path, segment by segment. By hand: segments are short, and to set a search for the slash up takes longer
/// than to find it.
#[derive(Debug, Clone, Copy)]
struct Segments<'p>(Option<&'p str>);

impl<'p> Segments<'p> {
    fn next(&mut self) -> Option<&'p str> {
        let rest = self.0.take()?;
        let slash = rest.bytes().position(|byte| byte == b'/');
        let Some((segment, rest)) = slash.and_then(|slash| rest.split_at_checked(slash)) else {
            return Some(rest);
        };
        self.0 = rest.strip_prefix('/');
        Some(segment)
    }
}

struct Search<'a, 'p> {
    table: &'a Table,
    parts: &'p Parts,
    only: Option<&'p Lane>,
    /// The host that the request names, once some route has asked for it.
    host: OnceCell<Option<&'p str>>,
    /// The methods of routes that fit but for the method.
    methods: Vec<Method>,
}

impl<'a> Search<'a, '_> {
    fn route(&mut self, path: &str) -> Option<&'a RouteEntry> {
        // The target of `OPTIONS *` is the server, not a path of one segment.
        let segments = Segments(Some(path.strip_prefix('/')?));
        let root = &self.table.root;
        let whole = self.whole(root, segments);
        whole.or_else(|| self.prefix(root, segments))
    }

    fn all_find(&mut self, route: &RouteEntry, paths: &[String]) -> bool {
        let is_it = |found: &RouteEntry| ptr::eq(found, route);
        paths.iter().all(|path| self.route(path).is_some_and(is_it))
    }

    /// The first route that matches the path as a whole.
    fn whole(&mut self, node: &'a Node, mut segments: Segments<'_>) -> Option<&'a RouteEntry> {
        let Some(segment) = segments.next() else {
            return self.first(&node.exact);
        };
        let literal = node.literals.get(segment);
        let found = literal.and_then(|next| self.whole(next, segments));
        let any = || node.any.as_deref().filter(|_| !segment.is_empty());
        found.or_else(|| any().and_then(|next| self.whole(next, segments)))
    }

    /// The route with the longest prefix that matches.
    fn prefix(&mut self, node: &'a Node, mut segments: Segments<'_>) -> Option<&'a RouteEntry> {
        let Some(segment) = segments.next() else {
            return self.first(&node.prefix);
        };
        let literal = node.literals.get(segment);
        let found = literal.and_then(|next| self.prefix(next, segments));
        let any = || node.any.as_deref().filter(|_| !segment.is_empty());
        found
            .or_else(|| any().and_then(|next| self.prefix(next, segments)))
            .or_else(|| {
                // Asked first: a route that does not match must not name its methods either.
                let goes_on = !segment.is_empty() || segments.next().is_some();
                goes_on.then(|| self.first(&node.rest)).flatten()
            })
            .or_else(|| self.first(&node.prefix))
    }

    /// A node may have routes of very many hosts, so they are found in steps that halve the list.
    fn first(&mut self, routes: &'a [usize]) -> Option<&'a RouteEntry> {
        let table = self.table;
        let hosted = routes.partition_point(|&index| table.host(index).is_some());
        let (of_hosts, of_any) = routes.split_at(hosted);
        let candidates = self.of_host(of_hosts).iter().chain(of_any);
        candidates
            .filter_map(|&index| table.routes.get(index))
            .find(|route| self.fits(route))
    }

    /// Of routes that name hosts those that name the request's.
    fn of_host(&self, routes: &'a [usize]) -> &'a [usize] {
        if routes.is_empty() {
            return routes;
        }
        let Some(host) = *self.host.get_or_init(|| host(self.parts)) else {
            return &[];
        };
        let compared = |&index: &usize| {
            let name = self.table.host(index).unwrap_or_default();
            let host = host.bytes().map(|byte| byte.to_ascii_lowercase());
            name.bytes().cmp(host)
        };
        let begin = routes.partition_point(|index| compared(index).is_lt());
        let end = routes.partition_point(|index| compared(index).is_le());
        routes.get(begin..end).unwrap_or_default()
    }

    fn fits(&mut self, route: &RouteEntry) -> bool {
        let header_fits = |(name, value): &(HeaderName, HeaderValue)| {
            self.parts
                .headers
                .get_all(name)
                .iter()
                .any(|found| found == value)
        };
        if !route.headers.iter().all(header_fits) {
            return false;
        }
        let method_fits = route.methods.is_empty() || route.methods.contains(&self.parts.method);
        if !method_fits && route.is_in(self.only) {
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

/// The host that a request names.
fn host(parts: &Parts) -> Option<&str> {
    let host = parts.headers.get(header::HOST)?.to_str().ok()?;
    Some(without_dot(without_port(host)))
}

/// A host that can be compared with those of requests: one that has passed `head`, without its port.
fn is_host(text: &str) -> bool {
    super::super::head::is_host(text) && without_port(text) == text
}

/// Whether an exchange with such timers is over before it has begun.
fn has_zero(timeouts: Timeouts) -> bool {
    let Timeouts {
        attempt,
        first_byte,
        idle,
    } = timeouts;
    [attempt, first_byte, idle].iter().any(Duration::is_zero)
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
    /// If two routes have the same name, a name is empty or [`RouteMatch::UNMATCHED`], a pattern or a host is malformed, a pattern
    /// has a `;` or an escape that it does not need, a list of methods is empty, a deadline or a timer is zero, or a header field
    /// has an underscore in its name, since such fields are dropped before a route is found.
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
            if route.headers.iter().any(|(name, _)| has_underscore(name)) {
                return Err(ConfigError::new(field("header"), NO_UNDERSCORE));
            }
            if route.methods.as_ref().is_some_and(Vec::is_empty) {
                let rule = "must name at least one, or be left out, which matches any";
                return Err(ConfigError::new(field("methods"), rule));
            }
            if route.policy.deadline.is_some_and(|limit| limit.is_zero()) {
                return Err(ConfigError::new(
                    field("deadline"),
                    "must be longer than zero",
                ));
            }
            for (part, timeouts) in [
                ("timeouts", route.policy.timeouts),
                ("grpc_streams", route.policy.grpc_streams),
            ] {
                if timeouts.is_some_and(has_zero) {
                    let rule = "must be longer than zero, each of them";
                    return Err(ConfigError::new(field(part), rule));
                }
            }
            let (steps, end) = route
                .pattern
                .parse()
                .map_err(|rule| ConfigError::new(field("match"), rule))?;
            root.insert(&steps, end, ordinal);
            let route_match = RouteMatch::new(ordinal, route.name, route.pattern.as_str());
            routes.push(RouteEntry {
                route_match,
                policy: route.policy,
                methods: route.methods.unwrap_or_default(),
                host: route
                    .host
                    .map(|host| without_dot(&host).to_ascii_lowercase()),
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
            let route = routes.get(index)?;
            let host = route.host.as_deref();
            let finer = (!route.methods.is_empty(), route.headers.len());
            Some((host.is_none(), host, Reverse(finer)))
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
mod tests;
