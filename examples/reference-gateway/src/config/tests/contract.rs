//! The contract loads unchanged, and every value arrives.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Method};

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

fn upstream(port: u16) -> Upstream {
    Upstream {
        endpoints: vec![Endpoint {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port,
        }],
        protocol: Protocol::Http1,
        balance: Balance::LeastRequest,
        connect_timeout: s(3),
        send_timeout: s(10),
        host_header: HostHeader::Preserve,
        pool: Pool {
            max_connections: count(256),
            max_idle: 64,
            idle_timeout: s(60),
            queue: 128,
            queue_timeout: s(1),
        },
        health: None,
        eject: Eject {
            consecutive: count(5),
            base: s(30),
            max_percent: Percent::new(50).unwrap(),
            panic_below: Ratio::new(0.5).unwrap(),
            mode: Mode::Enforce,
        },
        breaker: Breaker {
            consecutive: count(5),
            failure_rate: Ratio::new(0.5).unwrap(),
            slow_over: s(2),
            slow_rate: Ratio::new(0.8).unwrap(),
            min_calls: count(20),
            window: s(10),
            open: s(5),
            open_max: s(300),
            probes: count(1),
            mode: Mode::Enforce,
        },
        retry_budget: RetryBudget {
            ratio: Ratio::new(0.2).unwrap(),
            min_per_second: 10,
            mode: Mode::Enforce,
        },
        tls: None,
    }
}

/// `orders` writes everything out and the other two nothing: the values are the same, apart from
/// the health check.
#[test]
fn upstreams() {
    let upstreams = valid(CONTRACT).upstreams;
    let orders = Upstream {
        health: Some(HealthCheck {
            path: "/healthz".parse().unwrap(),
            interval: s(5),
            timeout: s(2),
            healthy_after: count(2),
            unhealthy_after: count(3),
        }),
        ..upstream(9001)
    };
    let expected = [
        ("auth".to_owned(), upstream(9003)),
        ("orders".to_owned(), orders),
        ("orders-next".to_owned(), upstream(9002)),
    ];
    assert_eq!(upstreams.into_iter().collect::<Vec<_>>(), expected);
}

fn template(path: &str, methods: &[Method]) -> Match {
    let text = format!(
        "[[routes]]\nname = \"x\"\nupstream = \"a\"\npublic = true\nmatch = {{ path = \"{path}\" }}"
    );
    let least = "\n[upstreams.a]\nendpoints = [\"http://h:1\"]";
    let path = valid(&(text + least)).routes.remove(0).matching.path;
    assert!(matches!(path, PathMatch::Template(_)));
    Match {
        path,
        methods: methods.to_vec(),
        host: None,
        headers: Vec::new(),
    }
}

fn forward(target: &Target) -> &Forward {
    match target {
        Target::Upstream(forward) => forward,
        Target::Service(service) => panic!("not an upstream: {service:?}"),
    }
}

#[test]
fn routes_keep_their_order() {
    let routes = valid(CONTRACT).routes;
    let order: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(order, ["login", "orders-create", "orders-read", "logs"]);
}

#[test]
fn route_login() {
    let route = &valid(CONTRACT).routes[0];
    assert!(
        matches!(&route.matching.path, PathMatch::Prefix(prefix) if prefix.as_str() == "/api/auth")
    );
    assert!(route.matching.methods.is_empty());
    assert_eq!(route.lane, "auth");
    assert_eq!(route.access, Access::Public);
    assert_eq!(route.limits, ["per_ip"]);
    assert_eq!(route.max_body_bytes, 2 << 20);
    assert_eq!(
        route.timeouts,
        Timeouts {
            request: s(5),
            attempt: None,
            first_byte: s(5),
            idle: s(5)
        }
    );
    let forward = forward(&route.target);
    assert_eq!(forward.upstream, "auth");
    assert_eq!(
        (&forward.retry, &forward.hedge, &forward.cache),
        (&None, &None, &None)
    );
    assert_eq!((&forward.canary, &forward.shadow), (&None, &None));
}

#[test]
fn route_orders_create() {
    let route = &valid(CONTRACT).routes[1];
    assert_eq!(route.matching, template("/api/v1/orders", &[Method::POST]));
    assert_eq!(route.lane, "core");
    let access = Access::Authenticated {
        by: names(&["main", "partners"]),
        scopes: names(&["orders:write"]),
        limits: names(&["per_consumer"]),
    };
    assert_eq!(route.access, access);
    assert_eq!(
        route.schema,
        Some(PathBuf::from("/etc/gw/order.schema.json"))
    );
    assert_eq!(route.max_body_bytes, 256 << 10);
    let timeouts = Timeouts {
        request: s(10),
        attempt: Some(s(4)),
        first_byte: s(4),
        idle: s(5),
    };
    assert_eq!(route.timeouts, timeouts);
    let expected = Forward {
        upstream: "orders".to_owned(),
        retry: Some(Retry {
            max_attempts: count(2),
            methods: vec![Method::POST],
            require_idempotency_key: true,
            backoff: Backoff {
                base: ms(100),
                max: s(2),
            },
            replay_max: 64 << 10,
            mode: Mode::Enforce,
        }),
        hedge: None,
        cache: None,
        canary: Some(Canary {
            upstream: "orders-next".to_owned(),
            header: Some(header("x-canary")),
            percent: Percent::default(),
        }),
        shadow: Some(ShadowTraffic {
            upstream: "orders-next".to_owned(),
            percent: Percent::default(),
            compare: true,
        }),
    };
    assert_eq!(forward(&route.target), &expected);
}

#[test]
fn route_orders_read() {
    let route = &valid(CONTRACT).routes[2];
    assert_eq!(
        route.matching,
        template("/api/v1/orders/{id}", &[Method::GET, Method::HEAD])
    );
    let timeouts = Timeouts {
        request: s(10),
        attempt: Some(s(3)),
        first_byte: s(3),
        idle: s(10),
    };
    assert_eq!(route.timeouts, timeouts);
    let expected = Forward {
        upstream: "orders".to_owned(),
        retry: Some(Retry {
            max_attempts: count(3),
            methods: vec![Method::GET, Method::HEAD, Method::OPTIONS],
            require_idempotency_key: false,
            backoff: Backoff {
                base: ms(100),
                max: s(2),
            },
            replay_max: 64 << 10,
            mode: Mode::Enforce,
        }),
        hedge: Some(Hedge {
            percentile: Ratio::new(0.99).unwrap(),
            max_extra_load: Ratio::new(0.01).unwrap(),
            mode: Mode::Enforce,
        }),
        cache: Some(Cache {
            enabled: true,
            max_bytes: 64 << 20,
            stale_if_error: s(60),
            mode: Mode::Enforce,
        }),
        canary: None,
        shadow: None,
    };
    assert_eq!(forward(&route.target), &expected);
}

#[test]
fn route_logs() {
    let route = &valid(CONTRACT).routes[3];
    assert_eq!(route.target, Target::Service(Service::LogIngest));
    assert_eq!(route.lane, "logs");
    assert_eq!(route.max_body_bytes, 8 << 20);
    assert_eq!(
        route.timeouts,
        Timeouts {
            request: s(30),
            attempt: None,
            first_byte: s(15),
            idle: s(30)
        }
    );
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

/// The lines of the contract that are comments, switched on.
#[test]
fn what_the_contract_comments_out_loads_too() {
    let on = [
        ("# [server.tls]", "[server.tls]"),
        (
            "# certificate = \"gateway.pem\"",
            "certificate = \"gateway.pem\"",
        ),
        ("# key         =", "key         ="),
        ("# client_ca   =", "client_ca   ="),
        ("# min_version =", "min_version ="),
        ("# store = ", "mode = \"leased\"\nstore = "),
        ("# on_store_error = ", "on_store_error = "),
        (
            "total = 512",
            "total = { adaptive = \"gradient2\", min = 20, max = 2000 }",
        ),
        ("# listen    = [", "listen    = ["),
        (
            "[\"http://127.0.0.1:9001\"]",
            "[\"https://127.0.0.1:9001\"]",
        ),
        ("# tls = {", "tls = {"),
        (
            "listen = \"127.0.0.1:9901\"",
            "token_file = \"admin.token\"\nlisten = \"0.0.0.0:9901\"",
        ),
        (
            "trust_incoming = false",
            "trust_incoming = false, otlp = \"http://127.0.0.1:4318\"",
        ),
        (
            "methods = [\"POST\"] }   #",
            "methods = [\"POST\"], host = \"API.example.com\", headers = { x-beta = \"1\" } } #",
        ),
    ];
    let text = on.iter().fold(CONTRACT.to_owned(), |text, (off, on)| {
        assert!(text.contains(off), "the contract no longer says {off:?}");
        text.replacen(off, on, 1)
    });
    let config = valid(&text);

    let tls = config.server.tls.unwrap();
    assert_eq!(tls.certificate, PathBuf::from("/etc/gw/gateway.pem"));
    assert_eq!(tls.key, PathBuf::from("/etc/gw/gateway.key"));
    assert_eq!(tls.client_ca, Some(PathBuf::from("/etc/gw/clients-ca.pem")));
    assert_eq!(tls.min_version, TlsVersion::Tls12);

    assert_eq!(
        config.admin.token_file,
        Some(PathBuf::from("/etc/gw/admin.token"))
    );
    assert_eq!(
        config.observe.trace.otlp.unwrap().uri().port_u16(),
        Some(4318)
    );

    let limit = &config.limits["per_consumer"];
    let store = limit.store.as_ref().unwrap();
    assert_eq!(
        (store.url.expose(), store.leased),
        ("redis://127.0.0.1:6379", true)
    );
    assert_eq!(
        (store.on_error, limit.mode),
        (OnStoreError::Local, Mode::Enforce)
    );

    let adaptive = Total::Adaptive {
        algorithm: AdaptiveAlgorithm::Gradient2,
        min: count(20),
        max: count(2000),
    };
    assert_eq!(config.lanes.total, adaptive);
    assert_eq!(
        config.lanes.lane["logs"].listen,
        ["127.0.0.1:8082".parse().unwrap()]
    );

    let orders = &config.upstreams["orders"];
    assert_eq!(orders.endpoints[0].to_string(), "https://127.0.0.1:9001");
    let tls = UpstreamTls {
        ca: Some(PathBuf::from("/etc/gw/ca.pem")),
        certificate: Some(PathBuf::from("/etc/gw/gateway-client.pem")),
        key: Some(PathBuf::from("/etc/gw/gateway-client.key")),
        server_name: Some("orders.internal".to_owned()),
    };
    assert_eq!(orders.tls, Some(tls));

    let matching = &config.routes[1].matching;
    assert_eq!(matching.host.as_ref().unwrap().as_str(), "api.example.com");
    assert_eq!(
        matching.headers,
        [(header("x-beta"), HeaderValue::from_static("1"))]
    );
}
