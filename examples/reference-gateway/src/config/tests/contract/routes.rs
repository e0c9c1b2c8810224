//! Upstreams, and the routes to them.

use std::path::PathBuf;

use gw_core::Mode;
use http::Method;

use super::super::{CONTRACT, valid};
use super::{header, ms, names, s};
use crate::config::table::*;
use crate::config::value::*;

fn upstream(port: u16) -> Upstream {
    Upstream {
        endpoints: vec![Endpoint {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port,
        }],
        protocol: Protocol::Http1,
        balance: None,
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
        balance: Some(Balance::LeastRequest),
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
            first_byte: None,
            idle: None
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
        first_byte: Some(s(4)),
        idle: Some(s(5)),
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
        first_byte: None,
        idle: None,
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
    assert_eq!(route.timeouts, Timeouts::default());
}
