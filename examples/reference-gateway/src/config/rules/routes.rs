//! Routes.

use std::collections::{BTreeSet, HashMap};

use gw_core::context::RouteMatch;
use gw_pipeline::upstream::is_said_by_proxies;
use http::{HeaderValue, Method};

use super::names::Names;
use crate::config::finding::{Findings, KeyPath};
use crate::config::table::{File, Host, Match, PathMatch, Retry, RouteTable};

const SAID_BY_OTHERS: &str = "must not be a field that only proxies or the gateway may say: routes are found before a client's own is \
                              dropped, so any client could choose this one";

pub(super) fn check(file: &File, findings: &mut Findings) {
    let at = KeyPath::of("routes");
    let rule = "no route is defined: add a [[routes]] table with `name`, `match` and `upstream`";
    findings.check(file.routes.is_empty(), at.clone(), rule);

    check_twins(&file.routes, &at, findings);
    let identity = file.auth.identity_headers.layer();
    for (i, route) in file.routes.iter().enumerate() {
        let at = at.index(i);
        findings.check(
            route.name == RouteMatch::UNMATCHED,
            at.key("name"),
            "must be another name: in metrics it is that of all requests without a route",
        );
        for (name, _) in &route.matching.headers {
            if is_said_by_proxies(name) || identity.removes(name) {
                let at = at.key("match").key("headers").key(name.as_str());
                findings.at_key(at, SAID_BY_OTHERS);
            }
        }
        check_names(route, &Names::of(file), &at, findings);
        if let Some(retry) = &route.retry {
            check_retry(retry, &at.key("retry"), findings);
        }
    }
}

/// Whether what the route names exists.
fn check_names(route: &RouteTable, names: &Names<'_>, at: &KeyPath, findings: &mut Findings) {
    if let Some(upstream) = &route.upstream {
        names.upstream(upstream, at.key("upstream"), findings);
    }
    if let Some(lane) = &route.lane {
        names.lane(lane, at.key("lane"), findings);
    }
    names.early_limits(&route.limits, &at.key("limits"), findings);
    names.late_limits(&route.consumer_limits, &at.key("consumer_limits"), findings);
    names.authenticators(route.auth(), &at.key("auth"), findings);

    let others = [
        (
            "canary",
            route.canary.as_ref().map(|canary| &canary.upstream),
        ),
        (
            "shadow",
            route.shadow.as_ref().map(|shadow| &shadow.upstream),
        ),
    ];
    for (key, upstream) in others {
        let Some(upstream) = upstream else { continue };
        let at = at.key(key).key("upstream");
        findings.check(
            route.upstream.as_ref() == Some(upstream),
            at.clone(),
            "must be another one than the route's",
        );
        names.upstream(upstream, at, findings);
    }
    for (i, scope) in route.scopes.iter().enumerate() {
        let word = !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic());
        findings.check(
            !word,
            at.key("scopes").index(i),
            "must be one word: a token's scopes are separated by spaces",
        );
    }
}

/// Whether an earlier route takes a route's name, or earlier ones all its requests.
fn check_twins(routes: &[RouteTable], at: &KeyPath, findings: &mut Findings) {
    let mut names = HashMap::new();
    let mut taken: HashMap<Form<'_>, Taken<'_>> = HashMap::new();
    for (i, route) in routes.iter().enumerate() {
        let at = at.index(i);
        let first = *names.entry(&route.name).or_insert(i);
        if first != i {
            let rule = format!("is the name of routes[{first}] already: each route needs its own");
            findings.at(at.key("name"), rule);
        }
        let taken = taken.entry(Form::of(&route.matching)).or_default();
        if let Some(by) = taken.take(&route.matching.methods, i) {
            let by: Vec<_> = by.iter().map(|i| format!("routes[{i}]")).collect();
            let by = by.join(" and ");
            let rule = format!("gets nothing behind {by}: this route is never reached");
            findings.at(at.key("match"), rule);
        }
    }
}

/// What a route takes but for the methods, in one form for all ways to write it. Of routes with one form that have methods, or
/// that have none, the first one is asked first.
#[derive(PartialEq, Eq, Hash)]
struct Form<'r> {
    is_prefix: bool,
    path: String,
    host: Option<&'r Host>,
    headers: BTreeSet<(&'r str, &'r HeaderValue)>,
    any_method: bool,
}

impl<'r> Form<'r> {
    fn of(written: &'r Match) -> Self {
        let (is_prefix, path) = match &written.path {
            PathMatch::Prefix(prefix) => (true, prefix.as_str().to_owned()),
            PathMatch::Template(template) => (false, unnamed(template.as_str())),
        };
        let headers = written.headers.iter();
        Self {
            is_prefix,
            path,
            host: written.host.as_ref(),
            headers: headers
                .map(|(name, value)| (name.as_str(), value))
                .collect(),
            any_method: written.methods.is_empty(),
        }
    }
}

/// The template without the names of its parameters.
fn unnamed(template: &str) -> String {
    let segments = template.split('/').map(|segment| match segment {
        rest if rest.starts_with("{*") => "{*}",
        parameter if parameter.starts_with('{') => "{}",
        literal => literal,
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Which of the routes with one form takes a method: the first one that names it, or the first one.
#[derive(Default)]
struct Taken<'r>(HashMap<Option<&'r Method>, usize>);

impl<'r> Taken<'r> {
    /// Those that leave nothing to this route, if there are any.
    fn take(&mut self, methods: &'r [Method], route: usize) -> Option<BTreeSet<usize>> {
        let any = methods.is_empty().then_some(None);
        let asked = methods.iter().map(Some).chain(any);
        let by: BTreeSet<usize> = asked
            .map(|method| *self.0.entry(method).or_insert(route))
            .collect();
        (!by.contains(&route)).then_some(by)
    }
}

fn check_retry(retry: &Retry, at: &KeyPath, findings: &mut Findings) {
    let methods = at.key("methods");
    findings.check(
        retry.methods.is_empty(),
        methods.clone(),
        "must hold at least one, or leave `retry` out",
    );
    for (i, method) in retry.methods.iter().enumerate() {
        let repeats =
            matches!(*method, Method::POST | Method::PATCH) && !retry.require_idempotency_key;
        let rule =
            "would do things twice: add `require_idempotency_key = true`, or leave the method out";
        findings.check(repeats, methods.index(i), rule);
    }
    findings.check(
        retry.replay_max > Retry::MOST_KEPT,
        at.key("replay_max"),
        "must be at most \"64MiB\": all requests together have so much",
    );
    let backoff = &retry.backoff;
    findings.check(
        backoff.base > backoff.max,
        at.key("backoff").key("base"),
        "must not be longer than `max`",
    );
}
