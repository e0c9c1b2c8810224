use http::Request;
use proptest::prelude::*;

use super::*;
use crate::inbound::path::{EncodedSlash, normalize};

fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::builder().routes(routes).build().unwrap()
}

fn find(table: &RouteTable, request: http::request::Builder) -> String {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    found(table.find(&parts, &others(&parts), None))
}

fn others(parts: &Parts) -> Vec<String> {
    let normal = normalize(parts.uri.path(), EncodedSlash::Reject);
    normal.map_or_else(|_| Vec::new(), |normal| normal.others)
}

fn found(found: Found<'_>) -> String {
    match found {
        Found::Route(route) => route.route_match.name().to_owned(),
        Found::OtherMethods(methods) => format!("405 {methods:?}"),
        Found::Several => "400".to_owned(),
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
        "/a;v=1",
        "/a%3Ab",
        "/a%5B",
        "/{a}/b%3B",
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
    // Story: it never matched, since no stage behind the head sees such a field.
    let beta = HeaderName::from_static("x_beta");
    let beta = Route::prefix("r", "/").header(beta, HeaderValue::from_static("1"));
    let rule = "must have no underscore: such fields are dropped";
    assert_eq!(message(vec![beta]), format!("routes.r.header: {rule}"));
    // Story: a route with an empty list of methods matched all of them.
    let none = message(vec![Route::prefix("r", "/").methods([])]);
    assert!(none.starts_with("routes.r.methods: must name"), "{none}");
    let hasty = message(vec![Route::prefix("r", "/").deadline(Duration::ZERO)]);
    assert_eq!(hasty, "routes.r.deadline: must be longer than zero");
    let (usual, zero) = (Timeouts::default(), Duration::ZERO);
    for timeouts in [
        usual.attempt(zero),
        usual.first_byte(zero),
        usual.idle(zero),
    ] {
        let hasty = message(vec![Route::prefix("r", "/").timeouts(timeouts)]);
        assert!(hasty.starts_with("routes.r.timeouts: must"), "{hasty}");
        let hasty = message(vec![Route::prefix("r", "/").grpc_streams(timeouts)]);
        assert!(hasty.starts_with("routes.r.grpc_streams: must"), "{hasty}");
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

#[test]
fn only_the_routes_of_one_lane() {
    let logs = Lane::new("logs");
    let table = table(vec![
        Route::prefix("logs", "/logs").lane(logs.clone()),
        Route::path("upload", "/logs/upload")
            .methods([Method::POST])
            .lane(logs.clone()),
        // More specific than the first one, which must not take its place.
        Route::prefix("admin", "/logs/admin").lane("core"),
        Route::path("other", "/other")
            .methods([Method::POST])
            .lane("core"),
        Route::path("both", "/both")
            .methods([Method::POST])
            .lane(logs.clone()),
        Route::path("both-put", "/both").methods([Method::PUT]),
        Route::prefix("none", "/none"),
        Route::prefix("inner", "/none/logs").lane(logs.clone()),
    ]);
    for (path, everywhere, in_lane) in [
        ("/logs/x", "logs", "logs"),
        ("/logs/upload", "logs", "logs"),
        ("/logs/admin/users", "admin", "404"),
        ("/other", "405 [POST]", "404"),
        ("/both", "405 [POST, PUT]", "405 [POST]"),
        ("/none", "none", "404"),
        ("/logs/admin;x", "400", "400"),
        // By itself it is none of the lane's, so it goes nowhere.
        ("/none/logs;x", "400", "404"),
    ] {
        let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
        let find = |only| found(table.find(&parts, &others(&parts), only));
        assert_eq!(find(None), everywhere, "{path}");
        assert_eq!(find(Some(&logs)), in_lane, "{path}");
    }
}

/// Story: `POST /v1/orders%3Apurge` and `/admin;x/users` missed the strict routes and went on as they were, by the weaker ones
/// around them; upstreams that match decoded paths, or know parameters, served what the strict routes were to guard.
#[test]
fn no_spelling_leads_around_a_route() {
    let table = table(vec![
        Route::prefix("all", "/"),
        Route::prefix("v1", "/v1"),
        Route::path("purge", "/v1/orders:purge").methods([Method::POST]),
        Route::prefix("odd", "/v1/!$&'()*+,=@"),
        Route::path("first", "/v1/items[0]"),
        Route::prefix("admin", "/admin"),
        Route::path("user", "/users/{id}"),
    ]);
    for path in [
        "/v1/orders%3Apurge",
        "/v1/orders:purge;x",
        "/v1/orders:purge;",
        "/v1/orders%3Apurge%3Bx",
        "/v1;x/orders:purge",
        "/v1/%21$&'()*+,=@",
        "/v1/%21%24%26%27%28%29%2A%2B%2C%3D%40/a",
        "/v1/items%5B0%5D",
        "/admin;x/users",
        "/admin%3Bx/users",
        "/admin;",
        // Without its parameters the segment is empty, and no `{id}`.
        "/users/;x",
        "/users/%3Bx",
    ] {
        assert_eq!(find(&table, Request::post(path)), "400", "{path}");
    }
    // By another method it is for nobody the strict route's.
    assert_eq!(get(&table, "/v1/orders%3Apurge"), "v1");
}

/// The other way round: an upstream that neither decodes nor cuts serves `/public;x/secret` as something of its own, which is not
/// public.
#[test]
fn no_spelling_leads_into_a_route() {
    let table = table(vec![
        Route::prefix("all", "/"),
        Route::prefix("public", "/public"),
        Route::prefix("docs", "/docs:open"),
    ]);
    for path in ["/public;x/secret", "/public%3Bx", "/docs%3Aopen/secret"] {
        assert_eq!(get(&table, path), "400", "{path}");
    }
}

#[test]
fn what_changes_no_route_passes() {
    let table = table(vec![
        Route::prefix("api", "/api"),
        Route::path("order", "/api/orders/{id}"),
        Route::path("purge", "/api/orders/{id}/items:purge"),
        Route::path("file", "/files/{*name}"),
        Route::path("cafe", "/caf%C3%A9"),
    ]);
    for (path, route) in [
        ("/api/orders/a%3Ab%2Cc%20d", "order"),
        ("/api/orders/7;v=1", "order"),
        ("/api/orders/urn%3Ax;v=1/items:purge", "purge"),
        ("/api/x;v=1/y%3Bz/%40me", "api"),
        ("/api/;v=1", "api"),
        ("/api/%3Bsmile", "api"),
        ("/files/a%2Bb;v=1/c", "file"),
        ("/caf%C3%A9", "cafe"),
        // These go nowhere.
        ("/a%3Ab", "404"),
        ("/a;v=1", "404"),
    ] {
        assert_eq!(get(&table, path), route, "{path}");
    }
}

/// A piece of a path, in each way in which somebody may read it.
fn readings(piece: &str) -> [String; 5] {
    let undone = |piece: &str| piece.replace("%3A", ":").replace("%3B", ";");
    let cut = |piece: &str| piece.split(';').next().unwrap().to_owned();
    [
        piece.to_owned(),
        undone(piece),
        cut(piece),
        undone(&cut(piece)),
        cut(&undone(piece)),
    ]
}

fn pattern() -> impl Strategy<Value = Route> {
    let step = prop_oneof![Just("a"), Just("a:b"), Just("c"), Just("{p}")];
    let end = prop_oneof![Just(""), Just("/"), Just("/{*rest}")];
    let prefix = prop::collection::vec(prop_oneof![Just("a"), Just("a:b"), Just("c")], 0..3)
        .prop_map(|steps| Route::prefix("", format!("/{}", steps.join("/"))));
    let template = (prop::collection::vec(step, 1..4), end)
        .prop_map(|(steps, end)| Route::path("", format!("/{}{end}", steps.join("/"))));
    let route = prop_oneof![prefix, template];
    let method = prop_oneof![Just(Method::GET), Just(Method::PUT)];
    (route, prop::option::weighted(0.3, method)).prop_map(|(route, method)| match method {
        Some(method) => route.methods([method]),
        None => route,
    })
}

proptest! {
    /// All combinations are tried here, of which the table looks at three.
    #[test]
    fn a_route_that_is_found_is_everybodys(
        patterns in prop::collection::vec(pattern(), 1..8),
        path in "(/(a|c|a:b|(a|c|a%3Ab|a:b|%20)?(;x|%3Bx)?)){1,3}",
    ) {
        let mut patterns = patterns;
        for (number, route) in patterns.iter_mut().enumerate() {
            route.name = number.to_string();
        }
        let table = table(patterns);
        let Ok(normal) = normalize(&path, EncodedSlash::Reject) else {
            return Ok(());
        };
        let (parts, ()) = Request::get(&*normal.text).body(()).unwrap().into_parts();
        let Found::Route(route) = table.find(&parts, &normal.others, None) else {
            return Ok(());
        };
        let mut all = vec![String::new()];
        for piece in normal.text.split('/').skip(1) {
            let longer = |path: &String| readings(piece).map(|read| format!("{path}/{read}"));
            all = all.iter().flat_map(longer).collect();
        }
        for read in all {
            let (read, ()) = Request::get(read).body(()).unwrap().into_parts();
            let other = table.find(&read, &[], None);
            prop_assert_eq!(found(other), route.route_match.name(), "{}", read.uri);
        }
    }
}

mod hosts;
