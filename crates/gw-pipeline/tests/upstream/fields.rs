//! The duties of an intermediary: which fields go on, which do not, and which are added.

use gw_core::context::{RequestId, UpstreamName};
use gw_core::key::TrustedProxies;
use gw_pipeline::PassErrorBodies;
use gw_pipeline::upstream::{Forward, HostHeader};
use gw_testkit::client::Client;
use gw_testkit::upstream::{At, Framing, Received, Reply, Upstream, always};
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Request, Version};

use crate::support::*;

/// The request as the upstream receives it.
async fn received(
    settings: impl Fn(Forward) -> Forward,
    request: Request<gw_core::Body>,
) -> Received {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let forward = settings(forward(&plain(&upstream)));
    assert_eq!(fetch(&forward, request).await.0, 200);
    assert_eq!(upstream.malformed(), [""; 0]);
    upstream.requests().remove(0)
}

fn add(request: &mut Request<gw_core::Body>, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        let name: HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
}

#[tokio::test]
async fn fields_of_the_clients_connection_end_here() {
    let mut request = get("/");
    add(
        &mut request,
        &[
            ("connection", "Keep-Alive, X-One"),
            ("connection", "x-two,TE"),
            ("x-one", "1"),
            ("x-two", "2"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("http2-settings", "AAMAAABkAAQAoAAAAAIAAAAA"),
            ("proxy-authorization", "Basic secret"),
            ("x-end-to-end", "a"),
            ("x-end-to-end", "b"),
            ("authorization", "Bearer token"),
        ],
    );
    let received = received(|it| it, request).await;
    for name in [
        "connection",
        "x-one",
        "x-two",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
    ] {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert_eq!(
        received.headers.values("x-end-to-end").collect::<Vec<_>>(),
        ["a", "b"]
    );
    assert_eq!(received.header("authorization"), Some("Bearer token"));
    assert_eq!(received.minor_version, 1);
}

#[tokio::test]
async fn a_client_cannot_remove_what_the_gateway_relies_on_or_adds() {
    let mut request = get("/");
    add(
        &mut request,
        &[
            (
                "connection",
                "host, authorization, cookie, traceparent, x-forwarded-for, x-request-id, via, x-user-id, x-scopes",
            ),
            ("authorization", "Bearer token"),
            ("cookie", "session=1"),
            (
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            ),
            ("x-user-id", "7"),
            ("x-scopes", "all"),
        ],
    );
    let id = RequestId::new(HeaderValue::from_static("id-1")).unwrap();
    request.extensions_mut().insert(id);
    let protect = |it: Forward| it.protect([HeaderName::from_static("x-user-id")]);
    let received = received(protect, request).await;
    for name in [
        "host",
        "authorization",
        "cookie",
        "traceparent",
        "x-forwarded-for",
        "x-request-id",
        "via",
        "x-user-id",
    ] {
        assert_eq!(received.headers.count(name), 1, "{name}");
    }
    assert_eq!(received.header("x-scopes"), None);
}

#[tokio::test]
async fn fields_of_the_upstreams_connection_end_here() {
    let reply = Reply::ok()
        .header("connection", "X-Internal-Node")
        .header("x-internal-node", "10.0.0.7")
        .header("keep-alive", "timeout=5")
        .header("proxy-authenticate", "Basic")
        .header("upgrade", "h2c")
        .header("trailer", "x-sum")
        .header("set-cookie", "a=1; Path=/")
        .header("set-cookie", "b=2, c")
        .header("date", "Sun, 06 Nov 1994 08:49:37 GMT")
        .chunks(["a"]);
    let upstream = Upstream::start(always(reply)).await;
    let response = send(&forward(&plain(&upstream)), get("/")).await.unwrap();
    let headers = response.headers();
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["date", "set-cookie", "trailer"]);
    let cookies: Vec<_> = headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1; Path=/", "b=2, c"]);
    assert_eq!(headers["date"], "Sun, 06 Nov 1994 08:49:37 GMT");
    assert_eq!(response.version(), Version::HTTP_11);
}

#[tokio::test]
async fn a_stranger_is_not_believed_about_others() {
    let mut request = get("/");
    add(
        &mut request,
        &[
            ("forwarded", "for=10.0.0.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
            ("x-real-ip", "10.0.0.1"),
        ],
    );
    let received = received(|it| it, request).await;
    assert_eq!(received.header("x-forwarded-for"), Some("192.0.2.44"));
    assert_eq!(received.header("x-forwarded-proto"), Some("http"));
    assert_eq!(received.header("x-forwarded-host"), Some("shop.example"));
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"] {
        assert_eq!(received.headers.count(name), 1, "{name}");
    }
    assert_eq!(received.header("forwarded"), None);
    assert_eq!(received.header("x-real-ip"), None);
}

#[tokio::test]
async fn a_trusted_proxy_is_continued() {
    let mut request = get("/");
    add(
        &mut request,
        &[
            ("forwarded", "for=203.0.113.9"),
            ("x-forwarded-for", "203.0.113.9, 192.0.2.1"),
            ("x-forwarded-proto", "https"),
            ("x-real-ip", "203.0.113.9"),
        ],
    );
    let trusting = |it: Forward| {
        let proxies = TrustedProxies::new(["192.0.2.0/24".parse().unwrap()]);
        it.trusted_proxies(proxies).scheme(&Scheme::HTTPS)
    };
    let received = received(trusting, request).await;
    assert_eq!(
        received.header("x-forwarded-for"),
        Some("203.0.113.9, 192.0.2.1, 192.0.2.44")
    );
    assert_eq!(received.header("x-forwarded-proto"), Some("https"));
    assert_eq!(received.header("x-forwarded-host"), Some("shop.example"));
    // Proxies that append to `X-Forwarded-For` pass this one on as the client has sent it.
    assert_eq!(received.header("forwarded"), None);
    assert_eq!(received.header("x-real-ip"), None);
}

#[tokio::test]
async fn a_trusted_proxy_that_writes_forwarded_is_continued_there_alone() {
    let mut request = get("/");
    add(
        &mut request,
        &[
            ("forwarded", "for=203.0.113.9;proto=https"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", "evil.example"),
        ],
    );
    let trusting = |it: Forward| {
        let proxies = TrustedProxies::new(["192.0.2.0/24".parse().unwrap()]);
        it.trusted_proxies(proxies.writing_forwarded())
    };
    let received = received(trusting, request).await;
    assert_eq!(
        received.header("forwarded"),
        Some("for=203.0.113.9;proto=https, for=192.0.2.44;host=\"shop.example\";proto=http")
    );
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.44"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-host", "shop.example"),
    ] {
        assert_eq!(received.header(name), Some(value), "{name}");
        assert_eq!(received.headers.count(name), 1, "{name}");
    }
}

#[tokio::test]
async fn via_tells_the_version_that_was_received() {
    let mut request = get("/");
    *request.version_mut() = Version::HTTP_2;
    add(&mut request, &[("via", "1.0 fred")]);
    let named = |it: Forward| it.pseudonym("edge").unwrap();
    let received = received(named, request).await;
    assert_eq!(
        received.headers.values("via").collect::<Vec<_>>(),
        ["1.0 fred", "2.0 edge"]
    );
    assert_eq!(received.minor_version, 1);
}

#[tokio::test]
async fn a_request_that_comes_back_is_a_loop() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let upstream_of_both = plain(&upstream);
    let front = Front::start(forward(&upstream_of_both)).await;
    // The gateway's upstream is the gateway itself.
    let endless = builder(front.addr).build().unwrap();
    let looped = forward(&endless).pseudonym("edge").unwrap();
    let mut request = get("/");
    add(
        &mut request,
        &[("via", "1.1 other, 1.1 EDGE"), ("connection", "via")],
    );
    let rejection = send(&looped, request).await.unwrap_err();
    assert_eq!(rejection.code().name(), "LOOP_DETECTED");
    assert_eq!(rejection.code().status(), 508);
    // Two gateways with names of their own are no loop.
    assert_eq!(fetch(&looped, get("/")).await.0, 200);
    assert_eq!(upstream.requests()[0].headers.count("via"), 2);
}

#[tokio::test]
async fn a_gateway_in_front_of_itself_answers_508() {
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = own.local_addr().unwrap();
    drop(own);
    let forward = forward(&builder(addr).build().unwrap());
    let listener = tokio::net::TcpListener::bind(addr).await.unwrap();
    let front = Front::serve(listener, forward, |_| {});
    let mut client = Client::connect(front.addr).await;
    client.get("/").await;
    let answer = client.read_answer().await;
    // The first pass has an upstream that answers 508; it replaces the body, and says the same.
    assert_eq!(answer.status(), 508);
    assert!(
        answer.text().contains(r#""code":"LOOP_DETECTED""#),
        "{}",
        answer.text()
    );
}

#[tokio::test]
async fn path_and_query_go_on_byte_for_byte() {
    let target = "/a%2Fb/%7e;v=1/..%2f?q=%20a+b&&=&x=%C3%A9?/..";
    let received = received(|it| it, get(target)).await;
    assert_eq!(received.target, target);
}

#[tokio::test]
async fn the_host_is_the_clients_or_the_endpoints() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let own = builder(upstream.addr())
        .host_header(HostHeader::Upstream)
        .build()
        .unwrap();
    fetch(&forward(&plain(&upstream)), get("/")).await;
    fetch(&forward(&own), get("/")).await;
    fetch(
        &forward(&plain(&upstream)),
        get("http://target.example:81/x"),
    )
    .await;
    let hosts: Vec<_> = upstream
        .requests()
        .iter()
        .map(|it| it.header("host").unwrap().to_owned())
        .collect();
    let addr = upstream.addr().to_string();
    assert_eq!(hosts, ["shop.example", &addr, "target.example:81"]);
    assert_eq!(upstream.requests()[2].target, "/x");
}

#[tokio::test]
async fn max_forwards_ends_at_zero() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let forward = forward(&plain(&upstream));
    let limited = |method, hops| {
        let mut limited = request(method, "/", "");
        limited
            .headers_mut()
            .insert("max-forwards", HeaderValue::from_static(hops));
        limited
    };
    assert_eq!(fetch(&forward, limited("OPTIONS", "0")).await.0, 204);
    let rejection = send(&forward, limited("OPTIONS", "many"))
        .await
        .unwrap_err();
    assert_eq!(rejection.code().name(), "MALFORMED_REQUEST");
    assert_eq!(upstream.requests().len(), 0);
    fetch(&forward, limited("OPTIONS", "2")).await;
    assert_eq!(upstream.requests()[0].header("max-forwards"), Some("1"));
}

#[tokio::test]
async fn what_cannot_be_forwarded_is_refused_here() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let forward = forward(&plain(&upstream));
    for (method, target) in [("CONNECT", "shop.example:80"), ("TRACE", "/")] {
        let rejection = send(&forward, request(method, target, ""))
            .await
            .unwrap_err();
        assert_eq!(rejection.code().name(), "METHOD_NOT_ALLOWED");
        assert_eq!(rejection.fields()[0].0, "allow");
    }
    let mut nowhere = get("/");
    nowhere.extensions_mut().insert(UpstreamName::new("nobody"));
    let rejection = send(&forward, nowhere).await.unwrap_err();
    assert_eq!(rejection.code().name(), "INTERNAL");
    let cause = std::error::Error::source(&rejection).unwrap();
    assert_eq!(
        cause.source().unwrap().to_string(),
        "there is no upstream `nobody`"
    );
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn the_request_id_goes_on_in_a_field_of_choice() {
    for sent in [
        &[][..],
        &["theirs"],
        &["ours"],
        &["ours", "theirs"],
        &["ours", "ours"],
    ] {
        let mut request = get("/");
        for value in sent {
            add(&mut request, &[("x-correlation-id", value)]);
        }
        let id = RequestId::new(HeaderValue::from_static("ours")).unwrap();
        request.extensions_mut().insert(id);
        let named = |it: Forward| it.request_id_header(HeaderName::from_static("x-correlation-id"));
        let received = received(named, request).await;
        let ids: Vec<_> = received.headers.values("x-correlation-id").collect();
        assert_eq!(ids, ["ours"], "{sent:?}");
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_fields() {
    let etag = |reply: Reply| reply.header("etag", "\"1\"");
    for (method, reply, length) in [
        ("HEAD", etag(Reply::ok().body("hello")), Some("5")),
        (
            "GET",
            etag(Reply::status(304).framing(Framing::Length(5))),
            Some("5"),
        ),
        ("GET", etag(Reply::status(204)), None),
    ] {
        let upstream = Upstream::start(always(reply)).await;
        let gateway = plain(&upstream);
        let forward = forward(&gateway);
        for _ in 0..2 {
            let response = send(&forward, request(method, "/", "")).await.unwrap();
            let field = |name| {
                response
                    .headers()
                    .get(name)
                    .map(|value| value.to_str().unwrap())
            };
            assert_eq!(field("etag"), Some("\"1\""));
            assert_eq!(field("content-length"), length);
            assert!(http_body::Body::is_end_stream(response.body()));
            // Nothing is left to read, so the slot is free although the answer is still there.
            assert_eq!(gateway.snapshot().in_flight, 0);
        }
        assert_eq!(upstream.connections().total, 1);
    }
}

#[tokio::test]
async fn an_upstreams_account_of_its_failure_is_replaced() {
    let reply = |status| {
        Reply::status(status)
            .header("retry-after", "7")
            .body("at db-7:5432")
    };
    let upstream = Upstream::start(move |request| {
        reply(request.path().trim_start_matches('/').parse().unwrap())
    })
    .await;
    let forward = forward(&plain(&upstream));
    let front = Front::start(forward.clone()).await;
    let passing = Front::start_with(forward, |request| {
        request.extensions_mut().insert(PassErrorBodies);
    })
    .await;
    for (status, code) in [
        (500, "INTERNAL"),
        (501, "BAD_GATEWAY"),
        (503, "UPSTREAM_UNAVAILABLE"),
        (504, "GATEWAY_TIMEOUT"),
        (508, "LOOP_DETECTED"),
    ] {
        let mut client = Client::connect(front.addr).await;
        client.get(&format!("/{status}")).await;
        let answer = client.read_answer().await;
        assert_eq!(answer.status(), status);
        assert!(answer.text().contains(code), "{}", answer.text());
        assert!(!answer.text().contains("db-7"));
        assert_eq!(answer.header("retry-after"), Some("7"));
        let mut client = Client::connect(passing.addr).await;
        client.get(&format!("/{status}")).await;
        assert_eq!(client.read_answer().await.text(), "at db-7:5432");
    }
    let mut client = Client::connect(front.addr).await;
    client.get("/404").await;
    assert_eq!(client.read_answer().await.text(), "at db-7:5432");
}

#[tokio::test]
async fn nobody_reads_what_an_upstream_says_of_its_failure() {
    // Without the answer stage, too.
    let upstream = Upstream::start(always(Reply::status(503).body("at db-7:5432"))).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    for _ in 0..3 {
        assert_eq!(fetch(&forward, get("/")).await, (503, String::new()));
        until("the slot to be free", &gateway, |it| {
            it.snapshot().in_flight == 0
        })
        .await;
    }
    // Story: each such answer cost its connection, just when the upstream was in trouble.
    assert_eq!(upstream.connections().total, 1);
}

#[tokio::test]
async fn a_failure_that_is_told_at_length_is_not_listened_to() {
    let large = Reply::status(500).body(vec![b'x'; 1024 * 1024]);
    let endless = Reply::status(500)
        .pieces(["a", "b"])
        .framing(Framing::Chunked);
    for reply in [large, endless.stall(At::LastChunk)] {
        let upstream = Upstream::start(always(reply)).await;
        let gateway = plain(&upstream);
        let answer = fetch(&forward(&gateway), get("/")).await;
        assert_eq!(answer, (500, String::new()));
        until("the slot to be free", &gateway, |it| {
            it.snapshot().in_flight == 0
        })
        .await;
        is_quiet(&gateway).await;
    }
}
