use gw_core::context::{SpanId, TraceId};
use http::Request;

use super::*;

fn head(
    build: impl FnOnce(http::request::Builder) -> http::request::Builder,
) -> Result<Parts, Rejection> {
    let (mut parts, ()) = build(Request::builder()).body(()).unwrap().into_parts();
    normalize_head(&mut parts, HeadLimits::default(), EncodedSlash::Reject).map(|_| parts)
}

fn code(result: Result<Parts, Rejection>) -> &'static str {
    result.map_or_else(|refused| refused.code().name(), |_| "ok")
}

/// A field's content as the observer writes it.
const PARENT: &str = "00-01010101010101010101010101010101-0101010101010101-00";

fn trace() -> TraceContext {
    TraceContext {
        trace_id: TraceId::new([1; 16]).unwrap(),
        span_id: SpanId::new([1; 8]).unwrap(),
        sampled: false,
    }
}

#[test]
fn exactly_one_valid_host() {
    for host in [
        "example.com",
        "example.com:80",
        "a_b.c-d",
        "192.0.2.1",
        "[2001:db8::1]:8080",
        "[::1]",
    ] {
        assert_eq!(
            code(head(|r| r.uri("/").header(HOST, host))),
            "ok",
            "{host}"
        );
    }
    for host in [
        "", "a b", "a,b", "user@a", "a/b", ":", "a::", "a:80:", "a:80:90", "a:x", "a:99999",
        "[::1", "[zz]", "::1", "a?b", "a#b",
    ] {
        assert_eq!(
            code(head(|r| r.uri("/").header(HOST, host))),
            "MALFORMED_REQUEST",
            "{host}"
        );
    }
    assert_eq!(code(head(|r| r.uri("/"))), "MALFORMED_REQUEST");
    let twice = head(|r| r.uri("/").header(HOST, "a").header(HOST, "a"));
    assert_eq!(code(twice), "MALFORMED_REQUEST");
    assert_eq!(code(head(|r| r.uri("/").version(Version::HTTP_10))), "ok");
}

/// RFC 9110 section 4.2.3: an empty port is the usual one, and is left out in the normal form, which all behind here see.
#[test]
fn an_empty_port_is_none() {
    for (host, normal) in [("shop.example:", "shop.example"), ("[::1]:", "[::1]")] {
        let field = head(|r| r.uri("/").header(HOST, host)).unwrap();
        assert_eq!(field.headers[HOST], normal);
        let target = head(|r| r.uri(format!("http://{host}/a")).header(HOST, "a")).unwrap();
        assert_eq!(target.headers[HOST], normal);
        assert_eq!(target.uri, "/a");
        for (authority, field) in [(host, normal), (normal, host)] {
            let http2 = head(|r| {
                r.uri(format!("http://{authority}/"))
                    .version(Version::HTTP_2)
                    .header(HOST, field)
            });
            assert_eq!(http2.unwrap().headers[HOST], normal);
        }
    }
}

/// RFC 9113 section 8.3.1: the two are compared as the scheme has it. Story: a proxy in front that wrote the port into one of
/// them alone got 400 for all its requests.
#[test]
fn the_port_of_the_scheme_is_none_where_hosts_are_compared() {
    let compared = |scheme: &str, authority: &str, field: &str| {
        head(|r| {
            r.uri(format!("{scheme}://{authority}/"))
                .version(Version::HTTP_2)
                .header(HOST, field)
        })
    };
    for (scheme, port, other) in [("http", "80", "443"), ("https", "443", "80")] {
        for name in ["shop.example", "[::1]"] {
            let (usual, unusual) = (format!("{name}:{port}"), format!("{name}:{other}"));
            for (authority, field) in [(name, &*usual), (&*usual, name)] {
                // What the authority says stays as it is.
                let host = &compared(scheme, authority, field).unwrap().headers[HOST];
                assert_eq!(host, authority);
            }
            for (authority, field) in [(name, &*unusual), (&*unusual, name), (&*usual, &*unusual)] {
                let refused = code(compared(scheme, authority, field));
                assert_eq!(refused, "MALFORMED_REQUEST", "{authority} {field}");
            }
        }
    }
}

/// RFC 9113 section 8.2.1: such a message must not go on. HTTP/1 does not count white space there as part of the value, and its
/// parser has taken it away.
#[test]
fn values_over_http2_neither_begin_nor_end_with_white_space() {
    let with = |version, value| {
        let value = HeaderValue::from_str(value).unwrap();
        code(head(|r| {
            r.uri("/")
                .version(version)
                .header(HOST, "a")
                .header("x", value)
        }))
    };
    for value in [" a", "a ", "\ta", "a\t", " ", "\t"] {
        let refused = with(Version::HTTP_2, value);
        assert_eq!(refused, "MALFORMED_REQUEST", "{value:?}");
        assert_eq!(with(Version::HTTP_11, value), "ok", "{value:?}");
    }
    for value in ["", "a", "a b", "a\tb"] {
        assert_eq!(with(Version::HTTP_2, value), "ok", "{value:?}");
    }
}

#[test]
fn an_absolute_target_replaces_host() {
    let parts = head(|r| {
        r.uri("http://target.example/a?b")
            .header(HOST, "field.example")
    })
    .unwrap();
    assert_eq!(parts.headers[HOST], "target.example");
    assert_eq!(parts.uri, "/a?b");
    // RFC 9112 section 3.2: on HTTP/1.1 there is a field, and it is a host, whatever the target is.
    let absolute = |version, hosts: &[&'static str]| {
        let hosts = hosts.to_vec();
        code(head(move |r| {
            let r = r.uri("http://target.example/").version(version);
            hosts.iter().fold(r, |r, host| r.header(HOST, *host))
        }))
    };
    for (version, hosts, expected) in [
        (Version::HTTP_11, &[][..], "MALFORMED_REQUEST"),
        (Version::HTTP_11, &["a b"], "MALFORMED_REQUEST"),
        (Version::HTTP_11, &["a", "a"], "MALFORMED_REQUEST"),
        (Version::HTTP_10, &["a b"], "MALFORMED_REQUEST"),
        (Version::HTTP_10, &[], "ok"),
        (Version::HTTP_2, &[], "ok"),
    ] {
        assert_eq!(absolute(version, hosts), expected, "{version:?} {hosts:?}");
    }
    let h2 = |host| {
        head(move |r| {
            r.uri("http://a.example/")
                .version(Version::HTTP_2)
                .header(HOST, host)
        })
    };
    assert_eq!(code(h2("A.example")), "ok");
    assert_eq!(code(h2("b.example")), "MALFORMED_REQUEST");
}

#[test]
fn targets_have_one_form() {
    let parts = head(|r| r.uri("/a/../%62?x=%2F").header(HOST, "a")).unwrap();
    assert_eq!(parts.uri, "/b?x=%2F");
    assert_eq!(
        code(head(|r| r.uri("/%00").header(HOST, "a"))),
        "MALFORMED_REQUEST"
    );
    assert_eq!(
        code(head(|r| r.uri("*").header(HOST, "a"))),
        "MALFORMED_REQUEST"
    );
    assert_eq!(
        code(head(|r| r.method("OPTIONS").uri("*").header(HOST, "a"))),
        "ok"
    );
    for (target, expected) in [
        ("https://a/b", "ok"),
        ("HTTP://a/b", "ok"),
        ("ftp://a/b", "MALFORMED_REQUEST"),
    ] {
        assert_eq!(
            code(head(|r| r.uri(target).header(HOST, "a"))),
            expected,
            "{target}"
        );
    }
    for (length, expected) in [(32, "ok"), (33, "MALFORMED_REQUEST")] {
        let method = "M".repeat(length);
        let refused = head(|r| r.method(method.as_str()).uri("/").header(HOST, "a"));
        assert_eq!(code(refused), expected, "{length}");
    }
    for method in ["CONNECT", "TRACE"] {
        let refused = head(|r| r.method(method).uri("/").header(HOST, "a")).unwrap_err();
        assert_eq!(refused.code(), &codes::METHOD_NOT_ALLOWED);
        assert_eq!(refused.fields()[0].0, ALLOW);
    }
}

#[test]
fn chunked_alone_is_understood() {
    let coded = |lines: &[&'static str]| {
        let lines = lines.to_vec();
        code(head(move |r| {
            let r = r.uri("/").header(HOST, "a");
            lines
                .iter()
                .fold(r, |r, line| r.header(TRANSFER_ENCODING, *line))
        }))
    };
    assert_eq!(coded(&["Chunked"]), "ok");
    let twice = head(|r| {
        r.uri("/")
            .header(HOST, "a")
            .header(TRANSFER_ENCODING, "gzip, chunked")
    });
    assert_eq!(twice.unwrap_err().fields()[0].0, CONNECTION);
    for lines in [
        &["gzip, chunked"][..],
        &["chunked", "chunked"],
        &["identity"],
        &["chunked, chunked"],
    ] {
        assert_eq!(coded(lines), "MALFORMED_REQUEST", "{lines:?}");
    }
}

#[test]
fn only_the_usual_is_expected() {
    let expect = |version, lines: &[&'static str]| {
        let lines = lines.to_vec();
        head(move |r| {
            let r = r.uri("/").version(version).header(HOST, "a");
            lines.into_iter().fold(r, |r, line| r.header(EXPECT, line))
        })
    };
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let parts = expect(version, &["100-Continue"]).unwrap();
        assert!(parts.headers.contains_key(EXPECT));
        for lines in [
            &["200-ok"][..],
            &["100-continue, 200-ok"],
            &["100-continue", "200-ok"],
            &["100-continue;now"],
            &[""],
        ] {
            assert_eq!(
                code(expect(version, lines)),
                "EXPECTATION_FAILED",
                "{lines:?}"
            );
        }
    }
    for line in ["100-continue", "200-ok"] {
        let parts = expect(Version::HTTP_10, &[line]).unwrap();
        assert!(!parts.headers.contains_key(EXPECT));
    }
}

#[test]
fn what_was_meant_for_a_tunnel_is_not_read() {
    for (method, version, closes) in [
        (Method::CONNECT, Version::HTTP_11, true),
        (Method::CONNECT, Version::HTTP_2, false),
        (Method::TRACE, Version::HTTP_11, false),
    ] {
        let refused = head(|r| {
            r.method(&method)
                .version(version)
                .uri("/")
                .header(HOST, "a")
        });
        let refused = refused.unwrap_err();
        assert_eq!(refused.code().name(), "METHOD_NOT_ALLOWED");
        let names: Vec<_> = refused.fields().iter().map(|(name, _)| name).collect();
        assert_eq!(names.contains(&&CONNECTION), closes, "{method} {version:?}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = format!("/{}", "a".repeat(8 * 1024));
    assert_eq!(
        code(head(|r| r.uri(long).header(HOST, "a"))),
        "URI_TOO_LONG"
    );
    let many_of = |n: usize, and: fn(http::request::Builder) -> http::request::Builder| {
        head(move |r| {
            (1..n).fold(and(r.uri("/").header(HOST, "a")), |r, i| {
                r.header(format!("x-{i}"), "1")
            })
        })
    };
    let many = |n| many_of(n, |r| r);
    assert_eq!(code(many(100)), "ok");
    assert_eq!(code(many(101)), "HEADERS_TOO_LARGE");
    // Story: the id and the trace that earlier stages add were counted, and a client had two fields fewer.
    let with_ours = |n: usize| {
        many_of(n, |r| {
            r.extension(trace())
                .extension(RequestId::from_u128(1))
                .header("traceparent", "1")
                .header("x-request-id", "1")
        })
    };
    assert_eq!(code(with_ours(100)), "ok");
    assert_eq!(code(with_ours(101)), "HEADERS_TOO_LARGE");
    let large = head(|r| {
        r.uri("/")
            .header(HOST, "a")
            .header("x", "y".repeat(32 * 1024))
    });
    assert_eq!(code(large), "HEADERS_TOO_LARGE");
}

/// Story: the same two were counted in bytes, so that of 1 KiB a client had 910 bytes.
#[test]
fn what_earlier_stages_add_is_no_part_of_the_size() {
    let (id, trace) = (RequestId::from_u128(1), trace());
    let sent = |bytes: usize, others: &[(&'static str, &HeaderValue)]| {
        let padding = "y".repeat(bytes - "hosta".len() - "x".len());
        head(|r| {
            let r = r.extension(trace).extension(id.clone());
            let r = r.uri("/").header(HOST, "a").header("x", padding);
            others
                .iter()
                .fold(r, |r, (name, value)| r.header(*name, *value))
        })
    };
    let most = 32 * 1024;
    let (parent, value) = (HeaderValue::from_static(PARENT), id.header_value());
    let ours = [("traceparent", &parent), ("x-request-id", value)];
    assert_eq!(code(sent(most, &ours)), "ok");
    assert_eq!(code(sent(most + 1, &ours)), "HEADERS_TOO_LARGE");
    // Where clients may choose their ids, a longer field with the same value gains them nothing.
    let twin = ("x-another-name-with-the-id", value);
    let with_twin = most - twin.0.len() - value.len();
    for others in [[ours[0], ours[1], twin], [twin, ours[1], ours[0]]] {
        assert_eq!(code(sent(with_twin, &others)), "ok");
        assert_eq!(code(sent(with_twin + 1, &others)), "HEADERS_TOO_LARGE");
    }
}

#[test]
fn underscore_twins_are_gone() {
    let parts = head(|r| {
        r.uri("/")
            .header(HOST, "a")
            .header("x_forwarded_for", "1.1.1.1")
    })
    .unwrap();
    assert_eq!(parts.headers.len(), 1);
}
