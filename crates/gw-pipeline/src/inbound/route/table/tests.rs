use http::Request;

use super::*;

fn table(routes: Vec<Route>) -> RouteTable {
    RouteTable::builder().routes(routes).build().unwrap()
}

fn find(table: &RouteTable, request: http::request::Builder) -> String {
    let (parts, ()) = request.body(()).unwrap().into_parts();
    found(table.find(&parts, None))
}

fn found(found: Found<'_>) -> String {
    match found {
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
    ]);
    for (path, everywhere, in_lane) in [
        ("/logs/x", "logs", "logs"),
        ("/logs/upload", "logs", "logs"),
        ("/logs/admin/users", "admin", "404"),
        ("/other", "405 [POST]", "404"),
        ("/both", "405 [POST, PUT]", "405 [POST]"),
        ("/none", "none", "404"),
    ] {
        let (parts, ()) = Request::get(path).body(()).unwrap().into_parts();
        assert_eq!(found(table.find(&parts, None)), everywhere, "{path}");
        assert_eq!(found(table.find(&parts, Some(&logs))), in_lane, "{path}");
    }
}
