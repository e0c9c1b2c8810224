//! Values that are written as strings: what is taken and what is refused.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, Method};
use ipnet::IpNet;

use crate::config::value::*;

fn read<T: FromText>(text: &str) -> Result<T, &'static str> {
    T::from_text(text)
}

fn refused<T: FromText>(texts: &[&str]) {
    for text in texts {
        let Err(rule) = read::<T>(text) else {
            panic!("{text:?} must be refused")
        };
        assert!(
            rule.starts_with("must ") || rule.starts_with("has "),
            "{rule:?} is no rule"
        );
    }
}

#[test]
fn durations() {
    for (text, ms) in [
        ("250ms", 250),
        ("5s", 5000),
        ("2m", 120_000),
        ("1h", 3_600_000),
        ("8760h", 31_536_000_000),
    ] {
        assert_eq!(read(text), Ok(Duration::from_millis(ms)), "{text}");
    }
    refused::<Duration>(&[
        "",
        "5",
        "s",
        "5 s",
        " 5s",
        "5S",
        "1.5s",
        "-5s",
        "+5s",
        "5sec",
        "5d",
        "1h30m",
        "0s",
        "0ms",
        "8761h",
        "5µs",
        "99999999999999999999s",
        "18446744073709551615h",
    ]);
}

#[test]
fn rates() {
    for (text, number, per) in [
        ("100/s", 100, 1),
        ("6000/m", 6000, 60),
        ("10000/h", 10_000, 3600),
    ] {
        assert_eq!(
            read(text),
            Ok(Rate {
                count: count(number),
                per: Duration::from_secs(per)
            }),
            "{text}"
        );
    }
    refused::<Rate>(&[
        "",
        "100",
        "0/s",
        "100/d",
        "100 /s",
        "100/sec",
        "-1/s",
        "1.5/s",
        "4294967296/s",
        "/s",
    ]);
}

#[test]
fn addresses() {
    assert_eq!(
        read("[::1]:8080"),
        Ok(SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 8080)))
    );
    assert_eq!(read("0.0.0.0:0"), Ok(SocketAddr::from(([0, 0, 0, 0], 0))));
    refused::<SocketAddr>(&[
        "",
        "localhost:80",
        "127.0.0.1",
        ":8080",
        "::1:8080",
        "127.0.0.1:65536",
        "*:80",
    ]);
}

#[test]
fn networks() {
    for (text, net) in [
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::1", "::1/128"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        assert_eq!(read::<IpNet>(text).unwrap().to_string(), net);
    }
    refused::<IpNet>(&[
        "",
        "10.0.0.0/33",
        "10.0.0/8",
        "10.0.0.1/8",
        "example.com",
        "2001:db8::1/32",
        "::/129",
    ]);
}

#[test]
fn endpoints() {
    let endpoint = |tls, host: &str, port| {
        Ok(Endpoint {
            tls,
            host: host.to_owned(),
            port,
        })
    };
    assert_eq!(
        read("http://127.0.0.1:9001"),
        endpoint(false, "127.0.0.1", 9001)
    );
    assert_eq!(
        read("https://Orders.Internal"),
        endpoint(true, "orders.internal", 443)
    );
    assert_eq!(read("http://orders/"), endpoint(false, "orders", 80));
    assert_eq!(read("http://[0::1]:9001"), endpoint(false, "::1", 9001));
    assert_eq!(
        read::<Endpoint>("http://[::1]:9001").unwrap().to_string(),
        "http://[::1]:9001"
    );
    assert_eq!(
        read::<Endpoint>("https://orders").unwrap().to_string(),
        "https://orders:443"
    );
    refused::<Endpoint>(&[
        "",
        "orders:9001",
        "127.0.0.1",
        "ftp://orders",
        "http://",
        "http://:80",
        "http://orders/api",
        "http://orders?x=1",
        "http://orders/?x=1",
        "http://orders/#x",
        "http://user@orders",
        "http://user:pw@orders:80",
        "http://orders:0",
        "http://orders:65536",
        "http://orders:",
        "http://orders:80:80",
        "unix:/run/orders.sock",
        "http://or ders",
        "http://*:80",
        "http://[1]:80",
    ]);
}

#[test]
fn urls() {
    assert_eq!(
        read::<HttpUrl>("http://127.0.0.1:7000/jwks.json")
            .unwrap()
            .uri()
            .path(),
        "/jwks.json"
    );
    refused::<HttpUrl>(&[
        "",
        "/jwks.json",
        "file:///jwks.json",
        "http://u:p@h/",
        "http://h/#f",
        "http://h:x/",
    ]);

    let url = read::<ServiceUrl>("redis://:hunter2@127.0.0.1:6379").unwrap();
    assert_eq!(
        (url.scheme(), url.expose()),
        ("redis", "redis://:hunter2@127.0.0.1:6379")
    );
    assert_eq!(format!("{url:?}"), "ServiceUrl(redis://…)");
    refused::<ServiceUrl>(&[
        "",
        "127.0.0.1:6379",
        "redis:",
        "redis://",
        "://h",
        "redis://a b",
    ]);
}

#[test]
fn keys() {
    let client = Key::Header(HeaderName::from_static("x-client"));
    for (text, key) in [
        ("ip", Key::Ip),
        ("header:X-Client", client),
        ("consumer", Key::Consumer),
        ("user", Key::User),
        ("route", Key::Route),
        ("global", Key::Global),
    ] {
        assert_eq!(read(text), Ok(key.clone()));
        assert_eq!(key.needs_identity(), matches!(text, "consumer" | "user"));
    }
    refused::<Key>(&["", "IP", "header", "header:", "header:x y", "path"]);
}

#[test]
fn balances() {
    let client = Balance::HashHeader(HeaderName::from_static("x-client"));
    for (text, balance) in [
        ("least-request", Balance::LeastRequest),
        ("p2c-ewma", Balance::P2cEwma),
        ("round-robin", Balance::RoundRobin),
        ("hash:header:x-client", client),
        ("hash:ip", Balance::HashIp),
    ] {
        assert_eq!(read(text), Ok(balance));
    }
    refused::<Balance>(&[
        "",
        "random",
        "hash",
        "hash:",
        "hash:header",
        "hash:header:",
        "hash:x-client",
    ]);
}

#[test]
fn prefixes() {
    for text in ["/", "/api", "/api/auth", "/~user/a.b-c", "/a:b@c"] {
        assert_eq!(read::<Prefix>(text).unwrap().as_str(), text);
    }
    refused::<Prefix>(&[
        "", "api", "/api/", "//", "/a//b", "/a/./b", "/a/../b", "/a b", "/a?x", "/a#x", "/{id}",
        "/a%2Fb", "/ü", "/a;b",
    ]);
}

#[test]
fn templates() {
    for text in [
        "/",
        "/api/orders",
        "/orders/{id}",
        "/a/{id}/{*rest}",
        "/{_x1}/b",
        "/{*all}",
    ] {
        assert_eq!(read::<PathTemplate>(text).unwrap().as_str(), text);
    }
    refused::<PathTemplate>(&[
        "",
        "orders",
        "/orders/",
        "/a//b",
        "/a/..",
        "/{}",
        "/{*}",
        "/{1a}",
        "/{a-b}",
        "/{a}/{a}",
        "/{a}/{*a}",
        "/{*rest}/b",
        "/x{id}",
        "/{id}x",
        "/{id",
        "/id}",
        "/{{id}}",
        "/a{",
        "/a?b",
        "/{a}/b;v=1",
    ]);
}

#[test]
fn names_of_http() {
    assert_eq!(
        read("X-Request-Id"),
        Ok(HeaderName::from_static("x-request-id"))
    );
    refused::<HeaderName>(&["", "x request", "x:request", "ü", "x_request"]);
    assert_eq!(read("GET"), Ok(Method::GET));
    assert_eq!(read::<Method>("M-SEARCH").unwrap(), "M-SEARCH");
    refused::<Method>(&["", "get", "Get", "G T", "GET "]);
    assert_eq!(
        read::<PathAndQuery>("/healthz?full=1").unwrap(),
        "/healthz?full=1"
    );
    refused::<PathAndQuery>(&["", "healthz", "/a b", "/a#b", "*", "http://h/"]);
    refused::<PathBuf>(&["", "a\0b"]);
}

#[test]
fn shares() {
    for value in [0.0, 0.5, 1.0] {
        assert_eq!(Ratio::new(value).unwrap().get(), value);
    }
    for value in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Ratio::new(value), None);
    }
    assert_eq!(Percent::new(100).unwrap().get(), 100);
    assert_eq!(Percent::new(101), None);
}
