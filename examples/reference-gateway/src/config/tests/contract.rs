//! The contract loads unchanged, and every value arrives.

mod commented;
mod routes;

use std::path::PathBuf;
use std::time::Duration;

use gw_core::Mode;
use http::{HeaderName, HeaderValue};

use super::{CONTRACT, valid};
use crate::config::table::*;
use crate::config::value::*;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn header(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

#[test]
fn tables_that_show_defaults_equal_an_absent_table() {
    let contract = valid(CONTRACT);
    let least = valid(super::LEAST);
    assert_eq!(contract.server, least.server);
    assert_eq!(contract.health, least.health);
    assert_eq!(contract.admin, least.admin);
    assert_eq!(contract.observe, least.observe);
    assert_eq!(contract.ip, least.ip);
    assert_eq!(contract.response, least.response);
    assert_eq!(contract.log_ingest, least.log_ingest);
}

#[test]
fn server() {
    let server = valid(CONTRACT).server;
    let expected = Server {
        listen: vec!["127.0.0.1:8080".parse().unwrap()],
        threads: 0,
        max_connections: count(10_000),
        max_connections_per_ip: count(256),
        header_timeout: s(10),
        body_idle_timeout: s(15),
        min_body_rate: 1024,
        write_stall_timeout: s(10),
        keep_alive_timeout: s(60),
        max_header_bytes: 32 * 1024,
        max_headers: count(100),
        max_uri_bytes: 8 * 1024,
        max_body_bytes: 2 * 1024 * 1024,
        trusted_proxies: Vec::new(),
        drain_delay: s(5),
        shutdown_grace: s(30),
        encoded_slash: EncodedSlash::Reject,
        not_found: NotFound::AfterAuth,
        default_auth: Vec::new(),
        default_limits: Vec::new(),
        default_lane: "core".to_owned(),
        request_id: RequestId {
            header: header("x-request-id"),
            accept: Accept::Trusted,
        },
        memory: Memory {
            limit: 1024 * 1024 * 1024,
            shed_at: Ratio::new(0.92).unwrap(),
            refuse_at: Ratio::new(0.98).unwrap(),
            mode: Mode::Enforce,
        },
        http2: Http2 {
            max_concurrent_streams: count(100),
            max_header_list_bytes: 32 * 1024,
            max_pending_resets: count(20),
        },
        tls: None,
    };
    assert_eq!(server, expected);
}

#[test]
fn health_admin_and_observe() {
    let config = valid(CONTRACT);
    assert_eq!(config.health.listen, "127.0.0.1:9902".parse().unwrap());
    assert_eq!(
        config.admin,
        Admin {
            listen: "127.0.0.1:9901".parse().unwrap(),
            token_file: None
        }
    );
    let expected = Observe {
        access_log: AccessLog {
            path: LogTarget::Stdout,
            schema: LogSchema::Native,
            normal: Ratio::new(0.10).unwrap(),
            health: Ratio::new(0.01).unwrap(),
            slow_over: s(1),
            budget_per_second: 2000,
        },
        trace: Tracing {
            sample: Ratio::new(0.01).unwrap(),
            trust_incoming: false,
            otlp: None,
        },
    };
    assert_eq!(config.observe, expected);
}

#[test]
fn authentication() {
    let auth = valid(CONTRACT).auth;
    assert!(!auth.forward_credentials);
    let headers = IdentityHeaders {
        consumer: header("x-consumer-id"),
        user: header("x-user-id"),
        scopes: header("x-scopes"),
    };
    assert_eq!(auth.identity_headers, headers);
    let jwt = Jwt {
        issuer: "https://issuer.example".to_owned(),
        audience: names(&["api"]),
        algorithms: vec![Algorithm::RS256],
        keys: KeySource::PublicKey(PathBuf::from("/etc/gw/issuer-public.pem")),
        leeway: s(30),
        claims: Claims {
            consumer: "azp".to_owned(),
            user: "sub".to_owned(),
            scopes: "scope".to_owned(),
            roles: "roles".to_owned(),
        },
    };
    assert_eq!(
        auth.jwt.into_iter().collect::<Vec<_>>(),
        [("main".to_owned(), jwt)]
    );
    let keys = ApiKeys {
        file: PathBuf::from("/etc/gw/api-keys.toml"),
        header: header("x-api-key"),
    };
    assert_eq!(
        auth.api_keys.into_iter().collect::<Vec<_>>(),
        [("partners".to_owned(), keys)]
    );
}

#[test]
fn limits() {
    let limits = valid(CONTRACT).limits;
    let per_consumer = Limit {
        key: Key::Consumer,
        prefix6: 64,
        rate: Rate {
            count: count(1000),
            per: s(60),
        },
        burst: count(100),
        store: None,
        mode: Mode::Enforce,
    };
    let per_ip = Limit {
        key: Key::Ip,
        rate: Rate {
            count: count(100),
            per: s(1),
        },
        burst: count(200),
        ..per_consumer.clone()
    };
    let expected = [
        ("per_consumer".to_owned(), per_consumer),
        ("per_ip".to_owned(), per_ip),
    ];
    assert_eq!(limits.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn lanes() {
    let lanes = valid(CONTRACT).lanes;
    assert_eq!(lanes.total, Total::Fixed(count(512)));
    assert_eq!(lanes.mode, Mode::Enforce);
    let core = Lane {
        guaranteed: Ratio::new(0.35).unwrap(),
        cap: Ratio::ONE,
        criticality: Criticality::Critical,
        queue: 64,
        queue_timeout: ms(100),
        hold: Hold::Body,
        max_hold: None,
        per_key: None,
        threads: None,
        nice: None,
        listen: Vec::new(),
        mode: Mode::Enforce,
    };
    let auth = Lane {
        guaranteed: Ratio::new(0.40).unwrap(),
        criticality: Criticality::CriticalPlus,
        ..core.clone()
    };
    let logs = Lane {
        guaranteed: Ratio::new(0.05).unwrap(),
        cap: Ratio::new(0.15).unwrap(),
        criticality: Criticality::Sheddable,
        queue: 0,
        max_hold: Some(s(10)),
        per_key: Some(PerKey {
            key: Key::Ip,
            max: count(8),
        }),
        threads: Some(count(1)),
        ..core.clone()
    };
    let expected = [
        ("auth".to_owned(), auth),
        ("core".to_owned(), core),
        ("logs".to_owned(), logs),
    ];
    assert_eq!(lanes.lane.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn response() {
    let response = valid(CONTRACT).response;
    let removed = [
        "server",
        "x-powered-by",
        "x-internal-request-id",
        "x-upstream-latency",
    ]
    .map(header);
    assert_eq!(response.remove_headers, removed);
    let security = SecurityHeaders {
        hsts: Some(HeaderValue::from_static(
            "max-age=31536000; includeSubDomains",
        )),
        content_type_options: true,
        frame_options: Some(FrameOptions::Deny),
    };
    assert_eq!(response.security_headers, security);
    assert!(response.compress);
    assert_eq!(
        response.documentation_url.unwrap().uri(),
        "https://docs.example.com/errors/"
    );
}

#[test]
fn log_ingest() {
    let ingest = valid(CONTRACT).log_ingest;
    let expected = LogIngest {
        queue: LogQueue::Disk(DiskQueue {
            dir: PathBuf::from("/etc/gw/log-queue"),
            max_bytes: 1 << 30,
            max_memory: 64 << 20,
            durability: Durability::Fsync,
        }),
        sink: LogSink::Embedded(EmbeddedSink {
            dir: PathBuf::from("/etc/gw/log-index"),
        }),
        client: vec![Key::Header(header("x-client-id")), Key::Ip],
        on_invalid: OnInvalid::Reject,
        max_body_bytes: 8 << 20,
        max_events: count(10_000),
        max_event_bytes: 256 << 10,
        per_client: PerClient {
            rate: Rate {
                count: count(50),
                per: s(1),
            },
            burst: count(100),
            mode: Mode::Enforce,
        },
    };
    assert_eq!(ingest, expected);
}
