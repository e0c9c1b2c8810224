//! What reaches an upstream, and what comes back.

use gw_testkit::client::Client;
use gw_testkit::upstream::{Reply, Upstream, always, by_path};

use crate::command::run;
use crate::gateway::{Gateway, all_to, config, upstream};
use crate::http::{get, is_dressed, send};

#[tokio::test]
async fn the_upstream_learns_who_asks_and_nothing_that_the_client_made_up() {
    let upstream = Upstream::start(always(Reply::ok().body("hello"))).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let answer = send(
        gateway.traffic,
        "POST /a/../b//%63?x=%2F&y=1 HTTP/1.1\r\nHost: api.example:8080\r\nContent-Length: 4\r\n\
         X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n\
         X-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\n\
         X-Real-IP: 6.6.6.6\r\nTrue-Client-IP: 6.6.6.6\r\nCF-Connecting-IP: 6.6.6.6\r\nX-Client-IP: 6.6.6.6\r\n\
         X-Forwarded-Ssl: on\r\nX-Forwarded-Scheme: https\r\nX-Forwarded-User: admin\r\nFront-End-Https: on\r\n\
         X-Authenticated-User: admin\r\nX-Remote-User: admin\r\nRemote-User: admin\r\n\
         X-Original-URL: /admin\r\nX-Rewrite-URL: /admin\r\nX_Forwarded_For: 6.6.6.6\r\nX-Request-Id: made-up-by-the-client\r\n\
         X-Forwarded-Uri: /admin\r\nX-Original-Method: DELETE\r\nX-Auth-Request-User: admin\r\n\
         X-Consumer-Id: admin\r\nX-User-Id: admin\r\nX-Scopes: all\r\nX_User_Id: admin\r\n\
         Connection: keep-alive, X-Hop, X-Consumer-Id\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
         Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nTE: trailers\r\n\
         X-Kept: yes\r\nCookie: a=1\r\n\r\nbody",
    )
    .await;
    assert_eq!((answer.status(), answer.text()), (200, "hello"));
    is_dressed(&answer);

    let request = upstream.requests().remove(0);
    assert_eq!(request.method, "POST");
    assert_eq!(request.target, "/b/c?x=%2F&y=1");
    assert_eq!(request.body, "body");
    for (name, value) in [
        ("host", "api.example:8080"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "api.example:8080"),
        ("content-length", "4"),
        ("x-kept", "yes"),
        ("cookie", "a=1"),
        ("x-request-id", answer.header("x-request-id").unwrap()),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
        assert_eq!(request.headers.count(name), 1, "{name}");
    }
    assert_ne!(
        request.header("x-request-id"),
        Some("made-up-by-the-client")
    );
    assert!(
        request.header("via").unwrap().starts_with("1.1 gw-"),
        "{request:?}"
    );
    for name in [
        "forwarded",
        "x-real-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-client-ip",
        "x-forwarded-ssl",
        "x-forwarded-scheme",
        "x-forwarded-user",
        "front-end-https",
        "x-authenticated-user",
        "x-remote-user",
        "remote-user",
        "x-original-url",
        "x-rewrite-url",
        "x-forwarded-uri",
        "x-original-method",
        "x-auth-request-user",
        "x-forwarded-port",
        "x-forwarded-prefix",
        "x_forwarded_for",
        "x-consumer-id",
        "x-user-id",
        "x_user_id",
        "x-scopes",
        "x-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "transfer-encoding",
        "upgrade",
    ] {
        assert_eq!(
            request.headers.count(name),
            0,
            "{name} in {:?}",
            request.headers
        );
    }
    gateway.is_idle().await;
}

/// `[auth] forward_credentials = false`, the default: "the Authorization header stops here".
#[tokio::test]
async fn credentials_stop_at_the_gateway() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nauthorization: Bearer secret\r\n\r\n";
    assert_eq!(send(gateway.traffic, request).await.status(), 200);
    assert_eq!(upstream.requests()[0].header("authorization"), None);
}

#[tokio::test]
async fn a_trusted_proxy_is_believed() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let trusted = config(
        "trusted_proxies = [\"127.0.0.0/8\"]",
        &all_to(&upstream.url(), ""),
    );
    let gateway = Gateway::serve(&trusted).await;
    let answer = send(
        gateway.traffic,
        "GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\n\
         forwarded: for=6.6.6.6\r\nx-request-id: 0123456789abcdef-from-the-proxy\r\n\r\n",
    )
    .await;
    assert_eq!(
        answer.header("x-request-id"),
        Some("0123456789abcdef-from-the-proxy")
    );
    let request = &upstream.requests()[0];
    assert_eq!(
        request.header("x-forwarded-for"),
        Some("203.0.113.9, 127.0.0.1")
    );
    assert_eq!(request.header("x-forwarded-proto"), Some("https"));
    // The proxy has passed it on as the client sent it.
    assert_eq!(request.header("forwarded"), None);
    assert_eq!(
        request.header("x-request-id"),
        Some("0123456789abcdef-from-the-proxy")
    );
}

#[tokio::test]
async fn the_answer_comes_back_without_the_machinery() {
    let reply = Reply::status(201)
        .header("server", "orders/1.2 (host db-7)")
        .header("x-powered-by", "secret")
        .header("x-internal-request-id", "7")
        .header("x-upstream-latency", "7")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=1")
        .header("x-kept", "yes")
        .header("set-cookie", "a=1")
        .header("set-cookie", "b=2")
        .body("made");
    let upstream = Upstream::start(always(reply)).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let answer = get(gateway.traffic, "/").await;
    assert_eq!((answer.status(), answer.text()), (201, "made"));
    is_dressed(&answer);
    assert_eq!(answer.header("x-kept"), Some("yes"));
    assert_eq!(
        answer.head.as_ref().unwrap().headers().count("set-cookie"),
        2
    );
    for name in [
        "x-internal-request-id",
        "x-upstream-latency",
        "x-hop",
        "keep-alive",
    ] {
        assert_eq!(answer.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn bodies_pass_unchanged_in_both_directions() {
    let big: String = "0123456789".repeat(40_000);
    let upstream = Upstream::start(by_path(
        [
            ("/length", Reply::ok().body(big.clone())),
            ("/chunks", Reply::ok().chunks(["one", "two", "three"])),
            (
                "/close",
                Reply::ok()
                    .body("until the end")
                    .framing(gw_testkit::upstream::Framing::UntilClose),
            ),
            ("/none", Reply::status(204)),
            ("/same", Reply::status(304).header("etag", "\"a\"")),
        ],
        Reply::ok(),
    ))
    .await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let mut client = Client::connect(gateway.traffic).await;
    for (path, status, body) in [
        ("/length", 200, big.as_str()),
        ("/chunks", 200, "onetwothree"),
        ("/close", 200, "until the end"),
        ("/none", 204, ""),
        ("/same", 304, ""),
    ] {
        client.get(path).await;
        let answer = client.read_answer().await;
        assert!(answer.is_complete(), "{path}: {:?}", answer.ended);
        assert_eq!(answer.status(), status, "{path}");
        assert!(answer.text() == body, "{path}: {} bytes", answer.body.len());
    }
    client
        .send("HEAD /length HTTP/1.1\r\nhost: a\r\n\r\n")
        .await;
    let answer = client.read_answer_to("HEAD").await;
    assert_eq!(answer.header("content-length"), Some("400000"));

    let head = format!(
        "PUT /up HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n",
        big.len()
    );
    client.send(&(head + &big)).await;
    assert_eq!(client.read_answer().await.status(), 200);
    client
        .send("PUT /up HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n")
        .await;
    assert_eq!(client.read_answer().await.status(), 200);
    let uploads: Vec<_> = upstream
        .requests()
        .into_iter()
        .filter(|it| it.method == "PUT")
        .collect();
    assert!(uploads[0].body == big.as_bytes() && uploads[0].complete);
    assert_eq!(
        (&uploads[1].body[..], uploads[1].complete),
        (&b"abcdefg"[..], true)
    );
    gateway.is_idle().await;
}

#[tokio::test]
async fn trailers_pass() {
    let reply = Reply::ok()
        .header("trailer", "x-sum")
        .chunks(["part"])
        .trailer("x-sum", "42");
    let upstream = Upstream::start(always(reply)).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\n\r\n";
    let answer = send(gateway.traffic, request).await;
    assert!(answer.is_complete(), "{answer:?}");
    assert_eq!(
        (answer.text(), answer.trailers.get("x-sum")),
        ("part", Some("42"))
    );
    gateway.is_idle().await;
}

#[tokio::test]
async fn interim_answers_do_not_break_the_answer() {
    let reply = Reply::ok()
        .interims(3, 103, [("link", "</style.css>; rel=preload")])
        .body("final");
    let upstream = Upstream::start(always(reply)).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let mut client = Client::connect(gateway.traffic).await;
    for _ in 0..2 {
        client.get("/").await;
        let answer = client.read_answer().await;
        assert_eq!((answer.status(), answer.text()), (200, "final"));
    }
    gateway.is_idle().await;
}

#[tokio::test]
async fn a_client_that_expects_a_100_gets_it_and_pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start(|request: &gw_testkit::upstream::Received| {
        Reply::ok().body(request.target.clone())
    })
    .await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let mut client = Client::connect(gateway.traffic).await;
    client
        .send("POST /100 HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.status(), 100);
    client.send("body").await;
    assert_eq!(client.read_answer().await.text(), "/100");

    let requests: String = (0..5)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n"))
        .collect();
    client.send(&requests).await;
    for n in 0..5 {
        assert_eq!(client.read_answer().await.text(), format!("/{n}"));
    }
}

#[tokio::test]
async fn what_http_1_0_expects_goes_nowhere() {
    let upstream = Upstream::start(always(Reply::ok().body("ok"))).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let answer = send(
        gateway.traffic,
        "POST / HTTP/1.0\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\nbody",
    )
    .await;
    assert_eq!((answer.status(), answer.text()), (200, "ok"));
    assert_eq!(upstream.requests()[0].header("expect"), None);
}

#[tokio::test]
async fn the_host_is_the_clients_or_the_endpoints_as_configured() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let url = upstream.url();
    let mut tables = self::upstream("up", &url) + "host_header = \"upstream\"\n";
    tables += &crate::gateway::route("all", "/", "up", "");
    let gateway = Gateway::serve(&config("", &tables)).await;
    get(gateway.traffic, "/").await;
    assert_eq!(
        upstream.requests()[0].header("host"),
        Some(url.trim_start_matches("http://"))
    );
}

#[tokio::test]
async fn a_tunnel_after_101_carries_bytes_both_ways() {
    let upstream = Upstream::start(always(Reply::upgrade("websocket"))).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let mut client = Client::connect(gateway.traffic).await;
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
        .await;
    assert_eq!(client.read_head().await.status(), 101);
    client.send("ping").await;
    assert_eq!(client.read_exact(4).await, "ping");
    drop(client);
    gateway.is_idle().await;
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_served() {
    let upstream = Upstream::start(always(Reply::ok().body("hello"))).await;
    let gateway = Gateway::serve(&config("", &all_to(&upstream.url(), ""))).await;
    let url = format!("http://{}/two", gateway.traffic);
    let said = run("curl", &["-sS", "-i", "--http2-prior-knowledge", &url], "").await;
    let text = said.succeeded();
    assert!(
        text.starts_with("HTTP/2 200") && text.ends_with("hello"),
        "{text}"
    );
    assert!(text.contains("x-request-id: "), "{text}");
    assert!(
        upstream.requests()[0]
            .header("via")
            .unwrap()
            .starts_with("2.0 gw-")
    );
}
