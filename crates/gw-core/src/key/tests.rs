use std::hash::DefaultHasher;
use std::net::{Ipv4Addr, SocketAddr};

use http::{HeaderMap, HeaderValue, Request, header};
use proptest::prelude::*;

use super::*;

/// Story: axum's own extractor believed it, and a router with rate limits could not be tested without a server.
#[cfg(feature = "axum")]
#[test]
fn axums_mock_stands_in_for_a_peer_that_is_missing() {
    use axum::extract::ConnectInfo;
    use axum::extract::connect_info::MockConnectInfo;

    let [mocked, real]: [SocketAddr; 2] =
        ["192.0.2.1:1", "192.0.2.2:2"].map(|a| a.parse().unwrap());
    let mut extensions = http::Extensions::new();
    extensions.insert(MockConnectInfo(mocked));
    assert_eq!(peer_addr(&extensions).unwrap(), mocked);
    extensions.insert(ConnectInfo(real));
    assert_eq!(peer_addr(&extensions).unwrap(), real);
}
use crate::context::{IdentityParts, PeerAddr};

fn proxies(networks: &[&str]) -> TrustedProxies {
    TrustedProxies::new(networks.iter().map(|n| n.parse().unwrap()))
}

fn headers(name: &'static str, lines: &[&str]) -> HeaderMap {
    lines
        .iter()
        .map(|line| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(line).unwrap(),
            )
        })
        .collect()
}

fn client(trusted: &[&str], peer: &str, headers: &HeaderMap) -> String {
    proxies(trusted)
        .client(peer.parse().unwrap(), headers)
        .ip()
        .to_string()
}

#[test]
fn nobody_is_trusted_by_default() {
    let spoofed = headers("x-forwarded-for", &["203.0.113.9"]);
    assert_eq!(client(&[], "198.51.100.1", &spoofed), "198.51.100.1");
}

#[test]
fn a_client_cannot_choose_its_address() {
    // Story: a limiter that took the leftmost entry gave each request of an attacker a fresh bucket, since the
    // attacker wrote that entry. The load balancer appends on the right, so the walk starts there.
    let spoofed = headers("x-forwarded-for", &["1.1.1.1, 2.2.2.2, 198.51.100.7"]);
    assert_eq!(
        client(&["10.0.0.0/8"], "10.0.0.1", &spoofed),
        "198.51.100.7"
    );
    // The same over several lines, which are one list.
    let split = headers("x-forwarded-for", &["1.1.1.1", "198.51.100.7, 10.0.0.2"]);
    assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &split), "198.51.100.7");
}

#[test]
fn garbage_ends_the_walk_at_the_proxy_that_sent_it() {
    for garbage in [
        "unknown",
        "",
        "_hidden",
        "1.2.3",
        "1.2.3.4:99999",
        "[::1",
        "10.0.0.9 evil",
    ] {
        let field = headers(
            "x-forwarded-for",
            &[&format!("9.9.9.9, {garbage}, 10.0.0.2")],
        );
        assert_eq!(
            client(&["10.0.0.0/8"], "10.0.0.1", &field),
            "10.0.0.2",
            "{garbage:?}"
        );
    }
    let mut binary = HeaderMap::new();
    binary.insert(
        "x-forwarded-for",
        HeaderValue::from_bytes(b"9.9.9.9, \xff").unwrap(),
    );
    assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &binary), "10.0.0.1");
}

fn forwarded_client(element: &str) -> String {
    let proxies = proxies(&["10.0.0.0/8"]).writing_forwarded();
    let field = headers("forwarded", &[element]);
    proxies
        .client("10.0.0.1".parse().unwrap(), &field)
        .ip()
        .to_string()
}

#[test]
fn forwarded_is_read_as_rfc_7239_writes_it() {
    for (element, client) in [
        ("for=192.0.2.43", "192.0.2.43"),
        (
            "For=\"[2001:db8:cafe::17]:4711\";proto=https;by=203.0.113.43",
            "2001:db8:cafe::17",
        ),
        ("for=192.0.2.43, for=198.51.100.17", "198.51.100.17"),
        ("for=\"192.0.2.43:80\" , for=10.1.1.1", "192.0.2.43"),
        // Story: each of these is what the RFC allows, and ended the walk at the proxy that wrote it: all of its clients were
        // one, with one quota.
        ("for=192.0.2.43;", "192.0.2.43"),
        (";; for=192.0.2.43 ;;proto=https;", "192.0.2.43"),
        ("for=\"192.0.2.43:_web\"", "192.0.2.43"),
        (
            "for=\"[2001:db8:cafe::17]:_a.B-9_\";by=_c",
            "2001:db8:cafe::17",
        ),
        ("for=192.0.2.43,", "192.0.2.43"),
        ("for=192.0.2.43, ,,for=10.1.1.1 , ", "192.0.2.43"),
    ] {
        assert_eq!(forwarded_client(element), client, "{element:?}");
    }
    for malformed in [
        "for=_hidden",
        "for=unknown",
        "proto=https",
        "for=1.1.1.1;for=2.2.2.2",
        "for=::1",
        "for=\"1.1.1.1",
        "",
        // What is not what the RFC allows, though it looks like it.
        ";",
        ", ,",
        "for=1.1.1.1;for",
        "for=1.1.1.1;;for=2.2.2.2",
        "for=1.1.1.1:_web",
        "for=\"1.1.1.1:_\"",
        "for=\"1.1.1.1:_a b\"",
        "for=\"1.1.1.1:_a:_b\"",
        "for=\"1.1.1.1:web\"",
        "for=\"::1:_web\"",
        "for=\"[1.1.1.1]:_web\"",
        "for=\"_hidden:_web\"",
    ] {
        assert_eq!(forwarded_client(malformed), "10.0.0.1", "{malformed:?}");
    }
}

#[test]
fn what_a_proxy_quotes_is_not_read() {
    // Story: a proxy copied the Host field into `host="…"`, and a client put a whole element in there. The walk then ended
    // at the proxy, which was on an allow list.
    for host in [
        "a,for=9.9.9.9;b=",
        ";for=9.9.9.9",
        r#"a\", for=9.9.9.9;b=\""#,
        r"a\\",
        "\u{e9}",
    ] {
        let copied = format!("for=9.9.9.9;a=\", for=198.51.100.7;host=\"{host}\"");
        assert_eq!(forwarded_client(&copied), "198.51.100.7", "{host:?}");
    }
}

#[test]
fn what_a_client_wrote_does_not_end_the_walk_before_it_is_reached() {
    // Story: a client sent a field with a byte above 127, the proxy appended the client's address to that line, and the
    // whole line counted as unreadable: the client had become the proxy, which was on an allow list.
    for forged in [&b"\xff"[..], b"\xc3\x28, ,", b"\"", b"\\", b"for=\"1.1.1.1"] {
        for (name, element) in [
            ("x-forwarded-for", &b"198.51.100.7"[..]),
            ("forwarded", b"for=198.51.100.7"),
        ] {
            let value = HeaderValue::from_bytes(&[forged, b", ", element].concat()).unwrap();
            let field = HeaderMap::from_iter([(HeaderName::from_static(name), value)]);
            let mut proxies = proxies(&["10.0.0.0/8"]);
            if name == "forwarded" {
                proxies = proxies.writing_forwarded();
            }
            let client = proxies.client("10.0.0.1".parse().unwrap(), &field);
            assert_eq!(client.ip().to_string(), "198.51.100.7", "{forged:?}");
        }
    }
}

#[test]
fn the_field_that_the_proxies_do_not_write_is_the_clients() {
    // Story: the balancer appended to X-Forwarded-For and passed `Forwarded` on as the client had sent it; a walk that
    // preferred `Forwarded` let each client choose its address.
    let mut both = headers("forwarded", &["for=203.0.113.9"]);
    both.insert("x-forwarded-for", HeaderValue::from_static("198.51.100.7"));
    assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &both), "198.51.100.7");
    let writing = proxies(&["10.0.0.0/8"]).writing_forwarded();
    let peer = "10.0.0.1".parse().unwrap();
    assert_eq!(writing.client(peer, &both).ip().to_string(), "203.0.113.9");
}

fn nearest(count: usize, line: &str) -> String {
    let peer = "203.0.113.1".parse().unwrap();
    let proxies = TrustedProxies::nearest_hops(count).unwrap();
    assert!(proxies.contains(peer));
    let client = proxies.client(peer, &headers("x-forwarded-for", &[line]));
    client.ip().to_string()
}

#[test]
fn so_many_proxies_are_trusted_wherever_they_are() {
    let line = "9.9.9.9, 192.0.2.7, 198.51.100.2, 198.51.100.1";
    let clients = [
        "198.51.100.1",
        "198.51.100.2",
        "192.0.2.7",
        "9.9.9.9",
        "9.9.9.9",
    ];
    for (count, client) in (1..).zip(clients) {
        assert_eq!(nearest(count, line), client, "{count}");
    }
    // Fewer than so many have written something: the last of them is as far as it goes.
    assert_eq!(nearest(3, ""), "203.0.113.1");
    assert_eq!(nearest(3, "192.0.2.7"), "192.0.2.7");
    assert_eq!(nearest(3, "9.9.9.9, unknown, 198.51.100.1"), "198.51.100.1");
}

#[test]
fn a_number_of_proxies_is_bounded() {
    for count in [0, TrustedProxies::MAX_NEAREST_HOPS + 1, usize::MAX] {
        let error = TrustedProxies::nearest_hops(count).unwrap_err();
        assert_eq!(error.to_string(), "nearest_hops: must be 1 to 8");
    }
    assert!(TrustedProxies::nearest_hops(TrustedProxies::MAX_NEAREST_HOPS).is_ok());
}

#[test]
fn mapped_addresses_are_recognised() {
    // A dual-stack listener shows IPv4 peers as ::ffff:a.b.c.d; a rule for 10.0.0.0/8 must still hold.
    let field = headers("x-forwarded-for", &["::ffff:192.0.2.5"]);
    assert_eq!(
        client(&["10.0.0.0/8"], "::ffff:10.0.0.1", &field),
        "192.0.2.5"
    );
}

#[test]
fn a_chain_of_trusted_hops_is_bounded() {
    let endless = headers(
        "x-forwarded-for",
        &[&format!("9.9.9.9, {}", ["10.0.0.7"; 1000].join(", "))],
    );
    assert_eq!(client(&["10.0.0.0/8"], "10.0.0.1", &endless), "10.0.0.7");
    // Empty members are looked at as well, one by one.
    let empty = format!("for=9.9.9.9{}", ",".repeat(1000));
    assert_eq!(forwarded_client(&empty), "10.0.0.1");
}

proptest! {
    /// Whatever a client writes to the left of what the proxies append, the result is the same.
    #[test]
    fn what_clients_write_changes_nothing(forged in "[ -~]{0,200}", client_bits: u32, hops in 0usize..5) {
        let real = Ipv4Addr::from(client_bits);
        prop_assume!(real.octets()[0] != 10);
        let mut line = format!("{forged},{real}");
        for hop in 0..hops {
            line.push_str(&format!(", 10.0.0.{hop}"));
        }
        let field = headers("x-forwarded-for", &[&line]);
        prop_assert_eq!(client(&["10.0.0.0/8"], "10.9.9.9", &field), real.to_string());
    }

    /// The same where proxies are trusted by their number; and it is what trusting their addresses says, in either field.
    #[test]
    fn what_clients_write_changes_nothing_behind_so_many_proxies(
        forged in "[ -~]{0,200}",
        client_bits: u32,
        hops in prop::collection::vec(any::<u32>(), 1..=TrustedProxies::MAX_NEAREST_HOPS),
        write_forwarded: bool,
    ) {
        let real = Ipv4Addr::from(client_bits);
        let mut hops: Vec<_> = hops.into_iter().map(Ipv4Addr::from).collect();
        prop_assume!(!hops.contains(&real));
        let mut by_number = TrustedProxies::nearest_hops(hops.len()).unwrap();
        let mut by_address = TrustedProxies::new(hops.iter().map(|hop| IpAddr::V4(*hop).into()));
        // Each of them has added whom it was called by; the last one calls.
        let peer = IpAddr::V4(hops.pop().unwrap());
        let added = std::iter::once(real).chain(hops);
        let field = if write_forwarded {
            by_number = by_number.writing_forwarded();
            by_address = by_address.writing_forwarded();
            let line = added.fold(forged, |line, from| format!("{line}, for={from}"));
            headers("forwarded", &[&line])
        } else {
            let line = added.fold(forged, |line, from| format!("{line}, {from}"));
            headers("x-forwarded-for", &[&line])
        };
        let client = by_number.client(peer, &field);
        prop_assert_eq!(client.ip(), IpAddr::V4(real));
        prop_assert_eq!(client, by_address.client(peer, &field));
    }

    /// The same for `Forwarded`, with what proxies quote.
    #[test]
    fn what_clients_write_and_proxies_quote_changes_nothing(
        forged in "[ -~]{0,100}",
        host in "[ -~]{0,50}",
        client_bits: u32,
    ) {
        let real = Ipv4Addr::from(client_bits);
        prop_assume!(real.octets()[0] != 10);
        let host = host.replace('\\', r"\\").replace('"', r#"\""#);
        let line = format!("{forged}, for={real};host=\"{host}\", for=\"10.0.0.2:80\";host=\"{host}\"");
        prop_assert_eq!(forwarded_client(&line), real.to_string());
    }

    /// No bytes make the walk panic, and an untrusted peer is always itself.
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), name in 0..2usize) {
        let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
        let mut field = HeaderMap::new();
        field.insert(["forwarded", "x-forwarded-for"][name], value);
        proxies(&["0.0.0.0/0", "::/0"]).client(IpAddr::from([10, 0, 0, 1]), &field);
        prop_assert_eq!(client(&["10.0.0.0/8"], "192.0.2.1", &field), "192.0.2.1");
    }
}

fn parts(build: impl FnOnce(&mut Request<()>)) -> Parts {
    let mut request = Request::new(());
    build(&mut request);
    request.into_parts().0
}

#[test]
fn keys_are_read_from_the_head() {
    let parts = parts(|request| {
        request
            .headers_mut()
            .insert(header::HOST, HeaderValue::from_static("example.com"));
        let extensions = request.extensions_mut();
        extensions.insert(ClientAddr::new("2001:db8::1:2:3:4:5".parse().unwrap()));
        extensions.insert(RouteMatch::new(0, "orders", "/orders"));
        let consumer = Some("acme".into());
        extensions.insert(Identity::new(IdentityParts {
            consumer,
            ..IdentityParts::default()
        }));
    });
    assert_eq!(
        ClientIp::new().extract(&parts).unwrap().to_string(),
        "2001:db8:0:1::"
    );
    assert_eq!(&*Consumer.extract(&parts).unwrap(), "acme");
    assert_eq!(Route.extract(&parts).unwrap().name(), "orders");
    let host = Header::new(header::HOST);
    assert_eq!(
        (host, Global).extract(&parts).unwrap(),
        (HeaderValue::from_static("example.com"), ())
    );
    assert!(
        User.extract(&parts)
            .unwrap_err()
            .to_string()
            .starts_with("request has no user: ")
    );
    let method = key_fn(|parts: &Parts| Ok(parts.method.clone()));
    assert_eq!(method.extract(&parts).unwrap(), http::Method::GET);
}

/// Layers keep hashes, and handles look keys up by value: both ways must come to the same.
#[test]
fn a_key_hashed_in_place_is_the_key() {
    let parts = parts(|request| {
        let value = HeaderValue::from_static("example.com");
        request.headers_mut().insert(header::HOST, value);
        let extensions = request.extensions_mut();
        extensions.insert(ClientAddr::new([192, 0, 2, 1].into()));
        extensions.insert(RouteMatch::new(3, "orders", "/orders"));
        extensions.insert(Identity::new(IdentityParts {
            consumer: Some("acme".into()),
            user: Some("ann".into()),
            ..IdentityParts::default()
        }));
    });
    fn check<K: KeyExtractor>(key: &K, parts: &Parts) {
        let (mut in_place, mut by_value) = (DefaultHasher::new(), DefaultHasher::new());
        key.hash_into(parts, &mut in_place).unwrap();
        key.extract(parts).ok().unwrap().hash(&mut by_value);
        assert_eq!(in_place.finish(), by_value.finish());
    }
    check(&ClientIp::new(), &parts);
    check(&Header::new(header::HOST), &parts);
    check(&Consumer, &parts);
    check(&User, &parts);
    check(&Route, &parts);
    check(
        &(Consumer, Route, Global, Header::new(header::HOST)),
        &parts,
    );
    let (missing, mut state) = (Header::new(header::COOKIE), DefaultHasher::new());
    assert_eq!(
        missing.hash_into(&parts, &mut state).unwrap_err(),
        missing.extract(&parts).unwrap_err()
    );
}

#[test]
fn the_peer_stands_in_and_its_absence_is_explained() {
    let peer = SocketAddr::from(([192, 0, 2, 1], 80));
    let with_peer = parts(|request| _ = request.extensions_mut().insert(PeerAddr(peer)));
    assert_eq!(ClientIp::new().extract(&with_peer).unwrap(), peer.ip());
    let error = ClientIp::new().extract(&parts(|_| ())).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("into_make_service_with_connect_info"),
        "{error}"
    );
}
