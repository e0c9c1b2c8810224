//! Routes of many hosts against the rule as it is told: one candidate after the other, the most specific first.

use super::*;

const HOSTS: [&str; 6] = [
    "a.example",
    "A.Example.",
    "a.example.org",
    "b.example",
    "B.EXAMPLE",
    "[::A]",
];
const ASKED: [&str; 8] = [
    "a.example:80",
    "A.EXAMPLE.",
    "a.example.org",
    "b.Example.:81",
    "a.exampl",
    "[::a]:80",
    "z",
    "a.example..",
];

const BETA: HeaderName = HeaderName::from_static("x-beta");
const STAGING: HeaderName = HeaderName::from_static("x-staging");

/// A route for `/`, or for all below it.
#[derive(Debug, Clone)]
struct Declared {
    exact: bool,
    host: Option<&'static str>,
    method: Option<Method>,
    headers: Vec<HeaderName>,
}

impl Declared {
    fn route(&self, name: usize) -> Route {
        let mut route = match self.exact {
            true => Route::path(name.to_string(), "/"),
            false => Route::prefix(name.to_string(), "/"),
        };
        if let Some(host) = self.host {
            route = route.host(host);
        }
        if let Some(method) = &self.method {
            route = route.methods([method.clone()]);
        }
        let headers = self.headers.iter().cloned();
        headers.fold(route, |route, name| {
            route.header(name, HeaderValue::from_static("1"))
        })
    }
}

fn declared() -> impl Strategy<Value = Declared> {
    let host = prop::option::weighted(0.7, prop::sample::select(&HOSTS[..]));
    let methods = vec![Method::GET, Method::PUT, Method::POST];
    let method = prop::option::of(prop::sample::select(methods));
    let headers = prop::sample::subsequence(vec![BETA, STAGING], 0..=2);
    (any::<bool>(), host, method, headers).prop_map(|(exact, host, method, headers)| Declared {
        exact,
        host,
        method,
        headers,
    })
}

/// The rule: every route is looked at, in order.
fn walked(routes: &[Declared], request: &Parts) -> String {
    let asked = request.headers.get("host");
    let asked = asked.map(|host| without_dot(without_port(host.to_str().unwrap())));
    let mut methods = Vec::new();
    for exact in [true, false] {
        let level = routes
            .iter()
            .enumerate()
            .filter(|(_, it)| it.exact == exact);
        let mut level: Vec<_> = level.collect();
        let rank = |it: &Declared| (it.host.is_some(), it.method.is_some(), it.headers.len());
        level.sort_by_key(|(_, it)| Reverse(rank(it)));
        for (name, it) in level {
            let is_asked =
                |name: &str| asked.is_some_and(|it| without_dot(name).eq_ignore_ascii_case(it));
            let has = |name: &HeaderName| request.headers.contains_key(name);
            if !it.host.is_none_or(is_asked) || !it.headers.iter().all(has) {
                continue;
            }
            match &it.method {
                Some(method) if *method != request.method => {
                    if !methods.contains(method) {
                        methods.push(method.clone());
                    }
                }
                _ => return name.to_string(),
            }
        }
    }
    found(match methods.is_empty() {
        true => Found::Nothing,
        false => Found::OtherMethods(methods),
    })
}

proptest! {
    #[test]
    fn of_many_hosts_the_same_route_is_found_as_by_looking_at_each(
        routes in prop::collection::vec(declared(), 0..24),
        host in prop::option::of(prop::sample::select(&ASKED[..])),
        method in prop::sample::select(vec![Method::GET, Method::PUT]),
        headers in prop::sample::subsequence(vec![BETA, STAGING], 0..=2),
    ) {
        let named = routes.iter().enumerate();
        let table = table(named.map(|(name, it)| it.route(name)).collect());
        let mut request = Request::builder().method(method).uri("/");
        if let Some(host) = host {
            request = request.header("host", host);
        }
        for name in headers {
            request = request.header(name, "1");
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        prop_assert_eq!(found(table.find(&parts, &[], None)), walked(&routes, &parts));
    }
}
