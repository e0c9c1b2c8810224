use super::*;

const SAID: [(&str, &str); 10] = [
    ("forwarded", "for=192.0.2.1"),
    ("x-forwarded-for", "192.0.2.1"),
    ("x-forwarded-for", "192.0.2.2"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "first.example"),
    ("x-forwarded-port", "443"),
    ("x-forwarded-prefix", "/x"),
    ("x-real-ip", "192.0.2.1"),
    ("true-client-ip", "192.0.2.1"),
    ("x-original-url", "/admin"),
];

fn are_always_dropped(names: &[&'static str]) {
    for name in names {
        assert!(UNCHECKED.contains(&HeaderName::from_static(name)), "{name}");
    }
}

fn are_taken_from_proxies(names: &[&'static str]) {
    for name in names {
        assert!(OTHERS.contains(name), "{name}");
    }
}

fn pass(hop: &Hop<'_>, said: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in said {
        headers.append(*name, value.parse().unwrap());
    }
    hop.forget_others(&mut headers, &[]);
    hop.add_to(&mut headers, &mut LastFrom::default());
    headers
}

#[test]
fn a_stranger_says_nothing_of_others() {
    let host = HeaderValue::from_static("shop.example");
    let headers = pass(
        &Hop {
            from: Some("::ffff:203.0.113.9".parse().unwrap()),
            believed: Believed::Nothing,
            scheme: "http",
            host: Some(&host),
        },
        &SAID,
    );
    assert_eq!(headers.len(), 3);
    assert_eq!(headers["x-forwarded-for"], "203.0.113.9");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "shop.example");
}

#[test]
fn a_trusted_proxy_is_continued() {
    let host = HeaderValue::from_static("shop.example:8080");
    let hop = Hop {
        from: Some("2001:db8::1".parse().unwrap()),
        believed: Believed::XForwarded,
        scheme: "http",
        host: Some(&host),
    };
    let headers = pass(&hop, &SAID);
    assert_eq!(
        headers["x-forwarded-for"],
        "192.0.2.1, 192.0.2.2, 2001:db8::1"
    );
    assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
    // They do not write it, so it is the client's.
    assert!(!headers.contains_key("forwarded"));
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert_eq!(headers["x-forwarded-host"], "first.example");
    for name in UNCHECKED.iter() {
        assert!(!headers.contains_key(name), "{name}");
    }
    assert!(!pass(&hop, &[]).contains_key("forwarded"));
}

/// Story: a proxy that appends to one of the fields passes the client's copy of the other on, and so did we, with ourselves
/// appended: to an upstream it looked like what trusted proxies had said.
#[test]
fn who_writes_forwarded_writes_nothing_else() {
    let host = HeaderValue::from_static("shop.example:8080");
    let hop = Hop {
        from: Some("2001:db8::1".parse().unwrap()),
        believed: Believed::Forwarded,
        scheme: "http",
        host: Some(&host),
    };
    let headers = pass(&hop, &SAID);
    assert_eq!(headers.len(), 4);
    let element = r#"for="[2001:db8::1]";host="shop.example:8080";proto=http"#;
    assert_eq!(headers["forwarded"], format!("for=192.0.2.1, {element}"));
    assert_eq!(headers["x-forwarded-for"], "2001:db8::1");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-forwarded-host"], "shop.example:8080");
    assert!(!pass(&hop, &[]).contains_key("forwarded"));
}

/// Story: these went on as the client had sent them. Several frameworks take `X-Forwarded-Ssl: on` for TLS.
#[test]
fn less_usual_fields_of_proxies_are_theirs_alone() {
    let hop = |believed| Hop {
        from: None,
        believed,
        scheme: "http",
        host: None,
    };
    for name in OTHERS {
        let said = [(name, "x")];
        assert!(
            !pass(&hop(Believed::Nothing), &said).contains_key(name),
            "{name}"
        );
        assert!(
            pass(&hop(Believed::XForwarded), &said).contains_key(name),
            "{name}"
        );
    }
    for name in UNCHECKED.iter() {
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_static("x"));
        hop(Believed::XForwarded).forget_others(&mut headers, &[]);
        assert!(headers.is_empty(), "{name}");
        assert!(SAID_BY_PROXIES.contains(name), "{name}");
    }
}

/// Story: upstreams at home in one of these clouds read its field for the client's address, and the client had written it.
#[test]
fn fields_of_clouds_and_networks_are_known() {
    are_always_dropped(&[
        "cf-pseudo-ipv4",
        "fly-client-ip",
        "do-connecting-ip",
        "x-appengine-user-ip",
        "x-original-forwarded-for",
        "x-vercel-forwarded-for",
    ]);
    are_taken_from_proxies(&[
        "cf-ipcountry",
        "cf-visitor",
        "cf-access-authenticated-user-email",
    ]);
    // Those who read it verify its signature.
    let signed = HeaderName::from_static("cf-access-jwt-assertion");
    assert!(!SAID_BY_PROXIES.contains(&signed));
}

/// Story: an upstream that serves proxies as their authorizer, or stands behind a login proxy, read from the client what it had
/// asked for, and who it was.
#[test]
fn what_authorizing_proxies_say_is_known() {
    are_always_dropped(&[
        "x-forwarded-uri",
        "x-forwarded-path",
        "x-forwarded-method",
        "x-original-uri",
        "x-original-method",
    ]);
    are_taken_from_proxies(&[
        "x-forwarded-access-token",
        "x-auth-request-user",
        "x-auth-request-email",
        "x-auth-request-groups",
        "x-auth-request-preferred-username",
        "x-auth-request-access-token",
        "x-auth-request-redirect",
    ]);
    let is_theirs = |name| is_said_by_proxies(&HeaderName::from_static(name));
    assert!(is_theirs("x-auth-request-user") && is_theirs("x-original-uri"));
    assert!(!is_theirs("x-beta"));
}

/// Story: an upstream that knows its callers by the certificates that Envoy has checked believed whoever wrote the field.
#[test]
fn a_stranger_has_no_certificate_by_its_own_word() {
    let said = [
        ("x-forwarded-client-cert", "Subject=\"CN=admin\""),
        ("client-cert", ":MIIBqA==:"),
        ("client-cert-chain", ":MIIBqA==:"),
    ];
    for (believed, stays) in [
        (Believed::Nothing, false),
        (Believed::XForwarded, true),
        (Believed::Forwarded, false),
    ] {
        let hop = Hop {
            from: None,
            believed,
            scheme: "http",
            host: None,
        };
        let headers = pass(&hop, &said);
        for (name, _) in said {
            assert_eq!(headers.contains_key(name), stays, "{name} {believed:?}");
        }
    }
}

/// Story: identity headers with such a name were set by their stage, and dropped here.
#[test]
fn what_stages_say_stays_and_what_is_said_here_is_no_stages() {
    for believed in [Believed::Nothing, Believed::XForwarded, Believed::Forwarded] {
        let hop = Hop {
            from: None,
            believed,
            scheme: "http",
            host: None,
        };
        for name in OTHERS.iter().copied().chain(["x-real-ip"]) {
            let mut headers = HeaderMap::new();
            headers.insert(name, HeaderValue::from_static("7"));
            hop.forget_others(&mut headers, &[HeaderName::from_static(name)]);
            assert_eq!(headers.len(), 1, "{name}");
        }
    }
    let headers = SAID.map(|(name, _)| HeaderName::from_static(name));
    let stranger = Hop {
        from: None,
        believed: Believed::Nothing,
        scheme: "http",
        host: None,
    };
    for name in OURS {
        let mut said = HeaderMap::new();
        said.insert(name, HeaderValue::from_static("192.0.2.1"));
        stranger.forget_others(&mut said, &headers);
        assert!(said.is_empty());
    }
}

#[test]
fn the_line_is_that_of_who_called_now() {
    let mut last = LastFrom::default();
    for from in ["203.0.113.9", "203.0.113.9", "2001:db8::1", "203.0.113.9"] {
        let hop = Hop {
            from: Some(from.parse().unwrap()),
            believed: Believed::Nothing,
            scheme: "http",
            host: None,
        };
        let mut headers = HeaderMap::new();
        hop.add_to(&mut headers, &mut last);
        assert_eq!(headers["x-forwarded-for"], from);
    }
}

#[test]
fn a_strange_host_cannot_break_out_of_its_quotes() {
    let host = HeaderValue::from_static("a\";for=10.0.0.1");
    let hop = Hop {
        from: None,
        believed: Believed::Forwarded,
        scheme: "http",
        host: Some(&host),
    };
    let headers = pass(&hop, &[("forwarded", "for=192.0.2.1")]);
    assert_eq!(
        headers["forwarded"],
        "for=192.0.2.1, for=unknown;proto=http"
    );
}
