//! Requests that the gateway answers itself.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always};

use crate::api_keys::{ask, partners, serve, shut};
use crate::gateway::{Gateway, config, route, upstream};
use crate::http::{get, is_refusal, send};

/// Small limits, an upstream that answers 200, and routes: `/open` for all, `/items/{id}` for GET and HEAD, `/closed`
/// for who is authenticated, `/small` for 16 bytes.
async fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::start(always(Reply::ok().body("reached"))).await;
    let mut tables = self::upstream("up", &upstream.url());
    tables += "[auth.api_keys.partners]\nfile = \"keys.toml\"\nheader = \"x-api-key\"\n";
    tables += &route("open", "/open", "up", "");
    tables += &route("small", "/small", "up", "max_body_bytes = \"16B\"");
    tables += "[[routes]]\nname = \"items\"\nmatch = { path = \"/items/{id}\", methods = [\"GET\", \"HEAD\"] }\n\
               upstream = \"up\"\npublic = true\n";
    tables += "[[routes]]\nname = \"closed\"\nmatch = { prefix = \"/closed\" }\nupstream = \"up\"\nauth = [\"partners\"]\n";
    let server = "max_uri_bytes = \"512B\"\nmax_headers = 20\nmax_header_bytes = \"32KiB\"";
    (Gateway::serve(&config(server, &tables)).await, upstream)
}

#[tokio::test]
async fn each_refusal_is_the_envelope_with_its_code() {
    let (gateway, upstream) = start().await;
    let long = format!("/open/{}", "a".repeat(600));
    let cases: &[(&str, String, u16, &str)] = &[
        (
            "no route",
            line("GET", "/nothing/here"),
            404,
            "ROUTE_NOT_FOUND",
        ),
        (
            "no route for the root",
            line("GET", "/"),
            404,
            "ROUTE_NOT_FOUND",
        ),
        (
            "a prefix ends at a segment",
            line("GET", "/opener"),
            404,
            "ROUTE_NOT_FOUND",
        ),
        (
            "a method of another route",
            line("DELETE", "/items/7"),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            "a method nobody knows",
            line("FROBNICATE", "/items/7"),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        (
            "authentication",
            line("GET", "/closed/a"),
            401,
            "AUTH_REQUIRED",
        ),
        (
            "authentication, with a key",
            with("GET", "/closed", "x-api-key: k\r\n"),
            401,
            "AUTH_INVALID",
        ),
        (
            "a long length",
            with("POST", "/small", "content-length: 17\r\n"),
            413,
            "BODY_TOO_LARGE",
        ),
        (
            "a huge length",
            with("POST", "/small", "content-length: 9223372036854775807\r\n"),
            413,
            "BODY_TOO_LARGE",
        ),
        (
            "a chunked body that grows",
            with("POST", "/small", "transfer-encoding: chunked\r\n")
                + "a\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
            413,
            "BODY_TOO_LARGE",
        ),
        ("a long target", line("GET", &long), 414, "URI_TOO_LONG"),
        (
            "no host",
            "GET /open HTTP/1.1\r\n\r\n".to_owned(),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "an absolute target without a host",
            "GET http://a/open HTTP/1.1\r\n\r\n".to_owned(),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "an absolute target beside what is no host",
            "GET http://a/open HTTP/1.1\r\nhost: a b\r\n\r\n".to_owned(),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "two hosts",
            with("GET", "/open", "host: b\r\n"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "the same host twice",
            with("GET", "/open", "host: a\r\n"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "an encoded slash",
            line("GET", "/open/a%2Fb"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "an encoded slash that climbs",
            line("GET", "/..%2f"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "dots that climb",
            line("GET", "/open/../../etc/passwd"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "encoded dots that climb",
            line("GET", "/%2e%2e/a"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "a dot segment with a parameter",
            line("GET", "/open/..;a=b/c"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "an encoded NUL",
            line("GET", "/open/%00"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "an encoded line feed",
            line("GET", "/open/%0a"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "an encoded backslash",
            line("GET", "/open/..%5c"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "a backslash",
            line("GET", "/open/..\\a"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "a broken escape",
            line("GET", "/open/%zz"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "half an escape",
            line("GET", "/open/%2"),
            400,
            "MALFORMED_REQUEST",
        ),
        (
            "escapes that are no text",
            line("GET", "/open/%ff"),
            400,
            "MALFORMED_REQUEST",
        ),
        ("an asterisk", line("GET", "*"), 400, "MALFORMED_REQUEST"),
        (
            "CONNECT",
            line("CONNECT", "example.com:443"),
            405,
            "METHOD_NOT_ALLOWED",
        ),
        ("TRACE", line("TRACE", "/open"), 405, "METHOD_NOT_ALLOWED"),
        (
            "an odd expectation",
            with("POST", "/open", "expect: 200-ok\r\ncontent-length: 0\r\n"),
            417,
            "EXPECTATION_FAILED",
        ),
    ];
    for (what, request, status, code) in cases {
        let answer = send(gateway.traffic, request).await;
        let error = is_refusal(what, &answer, *status, code);
        match status {
            401 => assert!(
                answer.header("www-authenticate").is_some(),
                "{what}: {answer:?}"
            ),
            405 => assert!(answer.header("allow").is_some(), "{what}: {answer:?}"),
            413 => assert_eq!(error["details"]["limit_bytes"], 16, "{what}"),
            _ => {}
        }
        assert!(
            !error.to_string().contains(&upstream.addr().to_string()),
            "{what}: {error}"
        );
    }
    // Of them all, only the body that grew may have reached the upstream, and not to its end.
    let reached = upstream.requests();
    assert!(
        reached.len() <= 1 && reached.iter().all(|it| !it.complete),
        "{reached:?}"
    );
    gateway.is_idle().await;
}

/// Story: `/v1/orders%3Apurge` was no `/v1/orders:purge`, and `/admin;x` was no `/admin`: the weaker routes around them sent both on,
/// to upstreams that decode, or cut off what stands behind `;`. The other way round, upstreams that do neither were not to serve
/// `/public;x` as if it was public.
#[tokio::test]
async fn a_path_that_is_another_routes_to_others_is_refused() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let tables = partners(&upstream.url())
        + &shut("admin", "/admin", "")
        + &shut("purge", "/v1/orders:purge", "")
        + &route("v1", "/v1", "up", "")
        + &shut("all", "/", "")
        + &route("public", "/public", "up", "");
    let gateway = serve(&config("", &tables)).await;
    for path in [
        "/v1/orders%3Apurge",
        "/v1/orders%3apurge;x",
        "/v1;x/orders:purge",
        "/admin;x/users",
        "/admin%3bx/users",
        "/;x/admin",
        "/public;x/secret",
    ] {
        let answer = ask(&gateway, path, "").await;
        is_refusal(path, &answer, 400, "MALFORMED_REQUEST");
    }
    assert_eq!(upstream.requests().len(), 0);
    // What leads everybody to one route goes on as it is.
    let path = "/v1/orders/urn%3Ax;v=1/%40me?a=%3A;b";
    assert_eq!(ask(&gateway, path, "").await.status(), 200);
    assert_eq!(upstream.requests().remove(0).target, path);

    // A scanner learns no route by it: it meets what other unmatched paths meet.
    let gateway = serve(&config("default_auth = [\"partners\"]", &tables)).await;
    let answer = ask(&gateway, "/admin;x/users", "").await;
    is_refusal("not authenticated", &answer, 401, "AUTH_REQUIRED");
}

/// Story: the first bytes for the tunnel were taken for the next request.
#[tokio::test]
async fn a_refused_tunnel_is_not_read_as_requests() {
    let (gateway, upstream) = start().await;
    // Story: the size of the fields was found first, which does not end the connection.
    let large = format!("x: {}\r\n", "a".repeat(33 * 1024));
    // Story: a refused call of gRPC is answered 200, and 200 says that the tunnel stands.
    let grpc = "content-type: application/grpc\r\n";
    for (early, fields) in [
        (true, ""),
        (false, ""),
        (true, &*large),
        (true, grpc),
        (false, grpc),
    ] {
        let mut client = Client::connect(gateway.traffic).await;
        let connect = format!("CONNECT b:443 HTTP/1.1\r\nhost: b:443\r\n{fields}\r\n");
        let inside = "GET /open HTTP/1.1\r\nhost: b\r\n\r\n";
        if early {
            client.send(&format!("{connect}{inside}")).await;
        } else {
            client.send(&connect).await;
        }
        let answer = client.read_answer().await;
        is_refusal("CONNECT", &answer, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(answer.header("connection"), Some("close"));
        if !early {
            client.send(inside).await;
        }
        let rest = client.read_rest().await;
        assert!(rest.bytes.is_empty() && !rest.reset, "{rest:?}");
    }
    assert_eq!(upstream.requests().len(), 0);
    gateway.is_idle().await;
}

#[tokio::test]
async fn a_host_must_be_one_host() {
    let (gateway, upstream) = start().await;
    for host in [
        "",
        "a,b",
        "a, b",
        "a b",
        "user@a",
        "user:pass@a",
        "a/b",
        "http://a",
        "a:x",
        "a:99999",
        "a:-1",
        "a:80:80",
        "a?b",
        "a#b",
        "[::1",
        "[zz]",
        "::1",
        "a\\b",
        "\u{e4}",
    ] {
        let request = format!("GET /open HTTP/1.1\r\nhost: {host}\r\n\r\n");
        let answer = send(gateway.traffic, request).await;
        is_refusal(host, &answer, 400, "MALFORMED_REQUEST");
    }
    assert_eq!(upstream.requests().len(), 0);
    for host in [
        "a",
        "a.example",
        "a.example:8080",
        "127.0.0.1",
        "[::1]",
        "[::1]:8080",
    ] {
        let request = format!("GET /open HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(send(gateway.traffic, request).await.status(), 200, "{host}");
        assert_eq!(
            upstream.requests().last().unwrap().header("host"),
            Some(host)
        );
    }
    // An empty port is none.
    for (host, normal) in [("a:", "a"), ("[::1]:", "[::1]")] {
        let request = format!("GET /open HTTP/1.1\r\nhost: {host}\r\n\r\n");
        assert_eq!(send(gateway.traffic, request).await.status(), 200, "{host}");
        let received = upstream.requests().pop().unwrap();
        assert_eq!(received.header("host"), Some(normal));
    }
}

/// The manual: "Every refusal is the same envelope, whichever layer refused."
#[tokio::test]
async fn a_head_over_the_limit_is_refused_with_431_and_the_envelope() {
    let (gateway, upstream) = start().await;
    let large = format!("x-large: {}\r\n", "a".repeat(32 * 1024));
    let answer = send(gateway.traffic, with("GET", "/open", &large)).await;
    is_refusal("a byte too many", &answer, 431, "HEADERS_TOO_LARGE");
    assert_eq!(upstream.requests().len(), 0);
}

/// Story: the fields that the gateway adds were counted as the client's, which so had two fewer than `max_headers`.
#[tokio::test]
async fn as_many_fields_pass_as_the_configuration_says() {
    let (gateway, _upstream) = start().await;
    for (fields, status) in [(20, 200), (21, 431)] {
        let beside_host: String = (1..fields).map(|n| format!("x-{n}: 1\r\n")).collect();
        let answer = send(gateway.traffic, with("GET", "/open", &beside_host)).await;
        assert_eq!(answer.status(), status, "{fields}: {answer:?}");
    }
}

/// Story: the parser was let take twice `max_header_bytes`, and counts the target, too. A target that the configuration allows, and one
/// that it does not, were 431 without the envelope.
#[tokio::test]
async fn targets_have_the_size_that_the_configuration_says() {
    let small = "max_header_bytes = \"2KiB\"";
    let large = "max_uri_bytes = \"65534B\"";
    let cases = [
        (small, 5 << 10, 404, "ROUTE_NOT_FOUND"),
        (small, 9 << 10, 414, "URI_TOO_LONG"),
        (large, 65_534, 404, "ROUTE_NOT_FOUND"),
    ];
    let upstream = Upstream::start(always(Reply::ok())).await;
    let tables = self::upstream("up", &upstream.url()) + &route("open", "/open", "up", "");
    for (server, length, status, code) in cases {
        let gateway = Gateway::serve(&config(server, &tables)).await;
        let target = format!("/{}", "a".repeat(length - 1));
        let answer = send(gateway.traffic, line("GET", &target)).await;
        is_refusal(&format!("{server}: {length}"), &answer, status, code);
    }
}

/// What the parser itself does not take has no envelope.
#[tokio::test]
async fn a_head_far_over_the_limit_is_refused_with_431() {
    let (gateway, upstream) = start().await;
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "a".repeat(128 * 1024));
    for fields in [many, large] {
        let mut client = Client::connect(gateway.traffic).await;
        // The gateway need not take all of it.
        _ = client.try_send(&with("GET", "/open", &fields)).await;
        assert_eq!(client.read_answer().await.status(), 431);
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn allow_names_the_methods_of_the_path() {
    let (gateway, _upstream) = start().await;
    let answer = send(gateway.traffic, line("DELETE", "/items/7")).await;
    let mut allowed: Vec<_> = answer.header("allow").unwrap().split(", ").collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD"]);
}

#[tokio::test]
async fn an_absolute_target_is_the_target() {
    let (gateway, upstream) = start().await;
    let request = "GET http://target.example/open/a?b HTTP/1.1\r\nhost: field.example\r\n\r\n";
    assert_eq!(send(gateway.traffic, request).await.status(), 200);
    let request = upstream.requests().remove(0);
    assert_eq!(request.target, "/open/a?b");
    assert_eq!(request.header("host"), Some("target.example"));

    let userinfo = "GET http://user@target.example/open HTTP/1.1\r\nhost: a\r\n\r\n";
    is_refusal(
        "userinfo",
        &send(gateway.traffic, userinfo).await,
        400,
        "MALFORMED_REQUEST",
    );
}

#[tokio::test]
async fn a_refusal_to_head_has_no_body_and_a_grpc_caller_gets_a_grpc_status() {
    let (gateway, _upstream) = start().await;
    let mut client = Client::connect(gateway.traffic).await;
    client.send(&line("HEAD", "/nothing")).await;
    let answer = client.read_answer_to("HEAD").await;
    assert_eq!((answer.status(), answer.is_complete()), (404, true));
    // The connection is still good: no body came after the head.
    client.get("/open").await;
    assert_eq!(client.read_answer().await.text(), "reached");

    let grpc = with(
        "POST",
        "/nothing",
        "content-type: application/grpc\r\ncontent-length: 0\r\n",
    );
    let answer = send(gateway.traffic, grpc).await;
    assert_eq!(
        (answer.status(), answer.header("grpc-status")),
        (200, Some("12"))
    );
}

#[tokio::test]
async fn a_refused_body_is_not_taken_for_a_request() {
    let (gateway, upstream) = start().await;
    let smuggled = line("GET", "/open/smuggled");
    let length = format!("content-length: {}\r\n", smuggled.len());
    let mut client = Client::connect(gateway.traffic).await;
    client
        .send(&(with("POST", "/small", &length) + &smuggled))
        .await;
    is_refusal(
        "too large",
        &client.read_answer().await,
        413,
        "BODY_TOO_LARGE",
    );
    // The connection goes on behind the body, or it ends.
    if client.try_send(&line("GET", "/open/next")).await.is_ok() {
        let answer = client.read_answer().await;
        assert!(
            answer.head.is_none() || answer.text() == "reached",
            "{answer:?}"
        );
    }
    let reached = upstream.requests();
    assert!(
        reached.iter().all(|request| request.target == "/open/next"),
        "{reached:?}"
    );
}

#[tokio::test]
async fn a_client_that_asks_before_it_sends_is_refused_without_a_100() {
    let (gateway, _upstream) = start().await;
    let request = with(
        "POST",
        "/small",
        "content-length: 17\r\nexpect: 100-continue\r\n",
    );
    let answer = send(gateway.traffic, request).await;
    is_refusal("too large", &answer, 413, "BODY_TOO_LARGE");
    assert!(answer.interims.is_empty(), "{answer:?}");
}

#[tokio::test]
async fn a_request_that_comes_back_to_the_gateway_is_a_loop() {
    // By way of another one: its own listener it does not take for an upstream.
    let port = gw_testkit::redis::free_port();
    let to = |port: u16| crate::gateway::all_to(&format!("http://127.0.0.1:{port}"), "");
    let gateway = Gateway::serve(&config("", &to(port))).await;
    let back = config("", &to(gateway.traffic.port()));
    let back = back.replacen("127.0.0.1:0", &format!("127.0.0.1:{port}"), 1);
    let other = Gateway::serve(&back).await;
    let answer = get(gateway.traffic, "/").await;
    // The one who says so is the gateway as the upstream of the other, and the client is told the same.
    is_refusal("a loop", &answer, 508, "LOOP_DETECTED");
    gateway.is_idle().await;
    other.is_idle().await;
}

#[tokio::test]
async fn two_lengths_never_reach_the_upstream() {
    let (gateway, upstream) = start().await;
    for fields in [
        "content-length: 4\r\ncontent-length: 5\r\n",
        "content-length: 4\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked, gzip\r\n",
        "transfer-encoding: xchunked\r\n",
        "content-length: +4\r\n",
    ] {
        let request = with("POST", "/open", fields) + "0\r\n\r\n";
        let answer = send(gateway.traffic, request).await;
        let refused = answer.head.is_none() || answer.status() == 400;
        let reached = upstream.requests();
        // RFC 9112 section 6.3 lets a length beside chunked be ignored, if it is not passed on.
        let cleaned = reached
            .iter()
            .all(|it| it.headers.count("content-length") == 0);
        assert!(refused || cleaned, "{fields}: {answer:?} {reached:?}");
    }
}

#[tokio::test]
async fn an_address_that_is_denied_gets_403() {
    let mut tables = "[ip]\ndeny = [\"127.0.0.0/8\"]\n".to_owned();
    tables += &crate::gateway::all_to("http://127.0.0.1:1", "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    let answer = get(gateway.traffic, "/").await;
    let error = is_refusal("denied", &answer, 403, "ADDRESS_DENIED");
    assert!(!error.to_string().contains("127.0.0"), "{error}");
    // The health page is not the traffic.
    assert_eq!(get(gateway.health, "/healthz").await.status(), 200);
}

fn line(method: &str, target: &str) -> String {
    with(method, target, "")
}

fn with(method: &str, target: &str, fields: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: a\r\n{fields}\r\n")
}
