//! Attacks on the client's address: the walk through trusted proxies, the key made from it, and the limit, in one piece.
//! Each test begins with the attack's story.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::convert::Infallible;
use std::future::{IntoFuture as _, Ready, ready};
use std::net::{IpAddr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::routing::get;
use gw_core::context::ClientAddr;
use gw_core::key::TrustedProxies;
use gw_ratelimit::key::ClientIp;
use gw_ratelimit::{Policy, Quota, RateLimit, RateLimitLayer};
use http::{HeaderName, HeaderValue, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tower::util::{MapRequestLayer, ServiceFn};
use tower::{Layer as _, ServiceExt as _, service_fn};

const BALANCER: &str = "10.0.0.1";
const XFF: &str = "x-forwarded-for";
const FORWARDED: &str = "forwarded";

type Inner = ServiceFn<fn(Request) -> Ready<Result<Response<Body>, Infallible>>>;

/// A gateway's edge: whose word it takes, and what a client may do.
struct Edge {
    proxies: TrustedProxies,
    limited: RateLimit<Inner>,
}

impl Edge {
    /// Proxies in 10.0.0.0/8 and 2001:db8:ffff::/48 append to `X-Forwarded-For`; two requests a client.
    fn new() -> Self {
        Self::keyed([Policy::new("client", two()).key(ClientIp::new())])
    }

    fn keyed(policies: impl IntoIterator<Item = Policy<ClientIp>>) -> Self {
        let inner: Inner = service_fn(|_| ready(Ok(Response::new(Body::empty()))));
        let limits = RateLimitLayer::builder()
            .policies(policies)
            .build()
            .unwrap();
        let networks = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|text| text.parse().unwrap());
        Self {
            proxies: TrustedProxies::new(networks),
            limited: limits.layer(inner),
        }
    }

    /// The proxies append to `Forwarded` instead.
    fn writing_forwarded() -> Self {
        let mut edge = Self::new();
        edge.proxies = edge.proxies.writing_forwarded();
        edge
    }

    /// A request that `peer` passes on with these header lines: whether it is let through.
    async fn lets(&self, peer: &str, lines: &[(&str, &str)]) -> bool {
        let mut request = Request::new(Body::empty());
        for (name, line) in lines {
            let name: HeaderName = name.parse().unwrap();
            let line = HeaderValue::from_bytes(line.as_bytes()).unwrap();
            request.headers_mut().append(name, line);
        }
        let client = self.proxies.client(ip(peer), request.headers());
        request.extensions_mut().insert(client);
        let answer = self.limited.clone().oneshot(request).await.unwrap();
        answer.status().is_success()
    }

    /// How many of these requests through the balancer are let through.
    async fn passed<'a>(
        &self,
        requests: impl IntoIterator<Item = Vec<(&'a str, String)>>,
    ) -> usize {
        let mut passed = 0;
        for lines in requests {
            let lines: Vec<_> = lines.iter().map(|(n, line)| (*n, &**line)).collect();
            passed += usize::from(self.lets(BALANCER, &lines).await);
        }
        passed
    }
}

fn two() -> Quota {
    Quota::per_hour(1).burst(2)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Story: the limiter took the leftmost entry, which the client writes, and a client that wrote another one each time was
/// never limited.
#[tokio::test]
async fn a_new_leftmost_entry_is_not_a_new_client() {
    let edge = Edge::new();
    let forged = (0..20).map(|n| vec![(XFF, format!("203.0.113.{n}, 198.51.100.7"))]);
    assert_eq!(edge.passed(forged).await, 2);
    // Nor are many lines, in which the balancer appends one of its own.
    let lines = (0..20).map(|n| {
        let mut lines: Vec<_> = (0..n).map(|m| (XFF, format!("192.0.2.{m}"))).collect();
        lines.push((XFF, "198.51.100.7".to_owned()));
        lines
    });
    assert_eq!(edge.passed(lines).await, 0);
    // Nor addresses of proxies, as if the request had come through them.
    let proxies = (0..20).map(|n| vec![(XFF, format!("10.0.0.{n}, 10.1.1.1, 198.51.100.7"))]);
    assert_eq!(edge.passed(proxies).await, 0);
}

/// Story: what a server in front of the gateway did not write was believed as well: the other field, and those of a content
/// network that was not there.
#[tokio::test]
async fn fields_that_no_proxy_here_writes_are_the_clients() {
    const OTHERS: [&str; 6] = [
        FORWARDED,
        "x-real-ip",
        "true-client-ip",
        "cf-connecting-ip",
        "x-client-ip",
        "x-cluster-client-ip",
    ];
    let edge = Edge::new();
    let forged = OTHERS.iter().flat_map(|name| {
        (0..3).map(move |n| {
            let value = match *name {
                FORWARDED => format!("for=203.0.113.{n}"),
                _ => format!("203.0.113.{n}"),
            };
            vec![(*name, value), (XFF, "198.51.100.7".to_owned())]
        })
    });
    assert_eq!(edge.passed(forged).await, 2);
}

/// Story: a client that reached the gateway past the balancer wrote a competitor's address, until the competitor was
/// refused.
#[tokio::test]
async fn nobody_can_spend_what_is_anothers() {
    let edge = Edge::new();
    const VICTIM: &str = "198.51.100.7";
    for n in 0..10 {
        let passed = edge.lets("203.0.113.9", &[(XFF, VICTIM)]).await;
        assert_eq!(passed, n < 2, "counted under its own address");
    }
    // Through the balancer neither: the victim's address is then on the left.
    for _ in 0..10 {
        edge.lets(BALANCER, &[(XFF, "198.51.100.7, 203.0.113.10")])
            .await;
    }
    assert!(edge.lets(BALANCER, &[(XFF, VICTIM)]).await);
    assert!(edge.lets(VICTIM, &[]).await, "the same client, directly");
    assert!(!edge.lets(VICTIM, &[]).await);
}

/// Story: an entry that was not an address was skipped, or was a key by itself, and each piece of rubbish was a new
/// client.
#[tokio::test]
async fn rubbish_is_not_a_client() {
    let rubbish = [
        "unknown",
        "_gazonk",
        "",
        ",",
        "1.2.3",
        "1.2.3.4.5",
        "999.1.1.1",
        "0x7f.1",
        "127.1",
        "2130706433",
        "010.0.0.1",
        "1.2.3.4:65536",
        "[::1",
        "::1]:80",
        "1.2.3.4 ,5.6.7.8 x",
        "localhost",
        "fe80::1%eth0",
        "\"1.2.3.4\"",
        "1.2.3.4\t5",
        "\u{ff}\u{80}",
    ];
    // The client writes it: the entry of the balancer counts.
    let edge = Edge::new();
    let forged = rubbish.map(|text| vec![(XFF, format!("{text}, 198.51.100.7"))]);
    assert_eq!(edge.passed(forged).await, 2);
    // A proxy writes it, behind which clients cannot be told apart: they share the quota of that proxy.
    let edge = Edge::new();
    let unknown = rubbish.map(|text| vec![(XFF, format!("203.0.113.1, {text}, 10.0.0.2"))]);
    assert_eq!(edge.passed(unknown).await, 2);
}

/// Story: a balancer wrote the port as well, and each connection of a client was a client of its own.
#[tokio::test]
async fn a_port_is_not_part_of_a_client() {
    let edge = Edge::new();
    let ports = (50_000..50_020).map(|port| vec![(XFF, format!("198.51.100.7:{port}"))]);
    assert_eq!(edge.passed(ports).await, 2);
    let ports = (50_000..50_020).map(|port| vec![(XFF, format!("[2001:db8:1:2::7]:{port}"))]);
    assert_eq!(edge.passed(ports).await, 2);
    // And however the address is written.
    let forms = [
        "[2001:db8:1:2::7]",
        "2001:db8:1:2::7",
        "2001:0DB8:0001:0002:0000:0000:0000:0007",
        "[2001:db8:1:2:0:0:0:7]:443",
    ];
    assert_eq!(edge.passed(forms.map(|f| vec![(XFF, f.into())])).await, 0);
}

/// Story: `Forwarded` may carry identifiers that mean nothing outside the proxy that made them up, and a client made up a
/// new one each time; and parameters may be quoted, so that a client wrote half a quotation to swallow the proxy's entry.
#[tokio::test]
async fn obfuscated_nodes_and_quotations_are_not_clients() {
    let edge = Edge::writing_forwarded();
    let obfuscated = (0..20).map(|n| {
        vec![(
            FORWARDED,
            format!("for=_id{n}, for=198.51.100.7;proto=https"),
        )]
    });
    assert_eq!(edge.passed(obfuscated).await, 2);
    let forged = [
        "for=\"",
        "for=\"_x",
        "for=203.0.113.1;host=\"a",
        "for=\"[2001:db8::1",
        "for=203.0.113.1\\",
        "\"\\\"",
        "for=unknown",
        "for=\"203.0.113.1:_port\"",
    ];
    let forged = forged.map(|text| vec![(FORWARDED, format!("{text}, FOR=\"198.51.100.7:4711\""))]);
    assert_eq!(edge.passed(forged).await, 0);
    // What the proxy quotes of the client's own text does not matter either.
    let quoted = ["a,for=9.9.9.9;b=", "a;for=9.9.9.9", "\\\"", ""];
    let quoted = quoted.map(|text| vec![(FORWARDED, format!("for=198.51.100.7;host=\"{text}\""))]);
    assert_eq!(edge.passed(quoted).await, 0);
    // Identifiers made up by a proxy that is trusted: its clients cannot be told apart, and share its quota.
    let edge = Edge::writing_forwarded();
    let hidden = (0..20).map(|n| vec![(FORWARDED, format!("for=_id{n}, for=10.0.0.2"))]);
    assert_eq!(edge.passed(hidden).await, 2);
}

/// Story: a byte above 127 made the whole line unreadable, the balancer's entry in it too, and the client was counted as
/// the balancer: one more quota for each client, and that of all who did the same.
#[tokio::test]
async fn a_client_cannot_become_its_proxy() {
    let edge = Edge::new();
    let forged = [
        "\u{e9}, 198.51.100.7",
        "a\u{ff}b,198.51.100.7",
        "\"\u{e9}, 198.51.100.7",
    ];
    assert_eq!(edge.passed(forged.map(|l| vec![(XFF, l.into())])).await, 2);
    assert!(
        edge.lets(BALANCER, &[]).await,
        "nobody has been counted as the balancer"
    );
}

/// Story: a chain of a thousand trusted addresses kept the gateway reading, and ended where the client wanted it to.
#[tokio::test]
async fn a_long_chain_ends() {
    let edge = Edge::new();
    let chain = |hops: usize, client: &str| {
        let hops = vec!["10.0.0.7"; hops].join(", ");
        vec![(XFF, format!("{client}, {hops}"))]
    };
    let deep = (0..20).map(|n| chain(1_000, &format!("203.0.113.{n}")));
    assert_eq!(edge.passed(deep).await, 2);
    let real = (0..20).map(|_| chain(TrustedProxies::MAX_HOPS - 1, "198.51.100.7"));
    assert_eq!(edge.passed(real).await, 2);
}

/// Story: a listener for both families showed IPv4 clients as `::ffff:a.b.c.d`. They were all in one /64, so that one of
/// them could lock out the rest; and a client that came over both sockets had two quotas.
#[tokio::test]
async fn a_mapped_address_is_the_ipv4_address() {
    let edge = Edge::new();
    assert!(edge.lets("::ffff:198.51.100.7", &[]).await);
    assert!(edge.lets("198.51.100.7", &[]).await);
    assert!(!edge.lets("::ffff:c633:6407", &[]).await);
    // Another client, and a balancer that is seen in the same way.
    for n in 0..20 {
        let client = format!("::ffff:203.0.113.{n}");
        assert!(edge.lets(&client, &[]).await, "{client}");
    }
    let mapped = [(XFF, "[::ffff:198.51.100.7]:4711")];
    assert!(!edge.lets("::ffff:10.0.0.1", &mapped).await);
}

/// Story: behind a translator all IPv4 clients were in one /64, and one of them locked out the rest.
#[tokio::test]
async fn ipv4_hosts_behind_a_translator_are_clients_each() {
    for prefix in ["64:ff9b::", "64:ff9b:1:fffe::"] {
        let edge = Edge::new();
        for n in 0..20 {
            let client = format!("{prefix}198.51.100.{n}");
            assert!(edge.lets(&client, &[]).await, "{client}");
        }
        let first = format!("{prefix}198.51.100.0");
        assert!(edge.lets(&first, &[]).await);
        assert!(!edge.lets(&first, &[]).await);
    }
}

/// Story: with 6to4 a single IPv4 host has a /48, which is 65,536 networks of 64 bits, and took one after the other.
#[tokio::test]
async fn a_6to4_host_is_one_client() {
    let edge = Edge::new();
    let host = |n| format!("2002:c633:6407:{n:x}::1");
    let taken = (0..200).map(|n| vec![(XFF, host(n))]);
    assert_eq!(edge.passed(taken).await, 2);
    assert!(edge.lets("2002:c633:6408:1::1", &[]).await, "another host");
}

/// Story: a client has 2^64 addresses in the network that its provider gives it, and took a new one for each request.
/// Providers that give a /56 or a /48 make it 256 or 65,536 times as many, for which a second policy counts by that.
#[tokio::test]
async fn a_subscriber_is_one_client() {
    let edge = Edge::new();
    let taken = (0..200).map(|n| vec![(XFF, format!("2001:db8:1:2:{n:x}:{n:x}::{n:x}"))]);
    assert_eq!(edge.passed(taken).await, 2);
    assert!(edge.lets("2001:db8:1:3::1", &[]).await, "the neighbour");

    let networks = |n: u64| format!("2001:db8:1:{n:x}::1");
    let edge = Edge::keyed([
        Policy::new("network", two()).key(ClientIp::new()),
        Policy::new("site", Quota::per_hour(1).burst(7)).key(ClientIp::new().v6_prefix(48)),
    ]);
    let taken = (0..200).map(|n| vec![(XFF, networks(n))]);
    assert_eq!(edge.passed(taken).await, 7);
    assert!(edge.lets("2001:db8:2::1", &[]).await, "another site");
}

/// Story: all of it at once over the wire, where a client chooses the bytes and not just the values.
#[tokio::test]
async fn over_sockets_a_client_is_who_the_balancer_says() {
    // The test is the balancer: it calls from the loopback, which is trusted, and passes on what clients send.
    let proxies = TrustedProxies::new(["127.0.0.0/8".parse().unwrap()]);
    let walk = MapRequestLayer::new(move |mut request: Request| {
        let ConnectInfo::<SocketAddr>(peer) = *request.extensions().get().unwrap();
        let client: ClientAddr = proxies.client(peer.ip(), request.headers());
        request.extensions_mut().insert(client);
        request
    });
    let limits = RateLimitLayer::builder()
        .policy(Policy::new("client", two()).key(ClientIp::new()))
        .build()
        .unwrap();
    let app = Router::new()
        .route("/", get(|| async { "hello" }))
        .layer(limits)
        .layer(walk);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    let server = tokio::spawn(axum::serve(listener, app).into_future());

    let forged: [&[u8]; 8] = [
        b"",
        b"x-forwarded-for: 203.0.113.1\r\n",
        b"X-FORWARDED-FOR: 203.0.113.2\r\nx-forwarded-for:203.0.113.3\r\n",
        b"x-forwarded-for: \xff\xfe\r\n",
        b"x-forwarded-for:\r\nx-forwarded-for: ,,,\r\n",
        b"x-forwarded-for: \t 127.0.0.1 \t,\t127.0.0.1\r\n",
        b"forwarded: for=203.0.113.4;by=127.0.0.1\r\nx-real-ip: 203.0.113.5\r\n",
        b"x-forwarded-for: \"\r\nforwarded: for=\"\r\n",
    ];
    let mut passed = 0;
    for lines in forged {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = b"GET / HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n";
        let appended = b"x-forwarded-for: 198.51.100.7\r\n\r\n";
        let request = [head, lines, appended].concat();
        stream.write_all(&request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let refused = answer.starts_with("HTTP/1.1 429 ");
        assert!(refused || answer.starts_with("HTTP/1.1 200 "), "{answer}");
        passed += usize::from(!refused);
    }
    assert_eq!(passed, 2);
    server.abort();
}
