//! Limits that are asked once it is known who calls, and whose address counts before.

use gw_testkit::upstream::{Reply, Upstream, always};

use crate::api_keys::{ask, partners, serve, shut};
use crate::gateway::{Gateway, all_to, config};
use crate::http::{is_refusal, page, retry_after};

/// The proxy in front of the gateway is the test itself.
const BEHIND_A_PROXY: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

fn from(address: &str) -> String {
    format!("x-forwarded-for: {address}\r\n")
}

fn as_caller(key: &str, address: &str) -> String {
    format!("x-api-key: {key}\r\n{}", from(address))
}

/// Whoever calls from a hundred machines is one consumer, and two that share an address are two.
#[tokio::test]
async fn a_consumer_has_one_quota_wherever_it_calls_from_and_whichever_key_it_uses() {
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables = "[limits.calls]\nkey = \"consumer\"\nrate = \"1/h\"\nburst = 3\n".to_owned();
    tables += &partners(&up.url());
    tables += &shut("all", "/", "consumer_limits = [\"calls\"]");
    let gateway = serve(&config(BEHIND_A_PROXY, &tables)).await;
    let statuses = |key: &'static str| {
        let gateway = &gateway;
        async move {
            let mut statuses = Vec::new();
            for n in 1..=4 {
                let fields = as_caller(key, &format!("203.0.113.{n}"));
                statuses.push(ask(gateway, "/", &fields).await.status());
            }
            statuses
        }
    };
    assert_eq!(statuses("acme-key-1").await, [200, 200, 200, 429]);
    // The same addresses, another consumer.
    assert_eq!(statuses("zeta-key").await, [200, 200, 200, 429]);
    // Another key of the first.
    assert_eq!(statuses("acme-key-2").await, [429; 4]);

    let answer = ask(&gateway, "/", &as_caller("zeta-key", "203.0.113.9")).await;
    let error = is_refusal("over the quota", &answer, 429, "RATE_LIMIT_EXCEEDED");
    assert!(retry_after("over the quota", &answer) > 60);
    assert_eq!(error["details"]["limit"], 3);
    assert!(
        answer
            .header("ratelimit")
            .unwrap()
            .starts_with("\"calls\";r=0;")
    );
    assert_eq!(up.requests().len(), 6);

    // Who is nobody costs nobody anything.
    for fields in [from("203.0.113.1"), as_caller("nobody's", "203.0.113.1")] {
        assert_eq!(ask(&gateway, "/", &fields).await.status(), 401);
    }
    let limits = page(gateway.admin, "/limits").await;
    let calls = &limits["limits"][0];
    assert_eq!(limits["limits"].as_array().unwrap().len(), 1, "{limits}");
    for (key, value) in [
        ("name", "calls".into()),
        ("stage", "post_auth_limit".into()),
        ("mode", "enforce".into()),
        ("keys", 2.into()),
        ("allowed", 6.into()),
        ("limited", serde_json::Value::from(7)),
    ] {
        assert_eq!(calls[key], value, "{key}: {calls}");
    }
    // The one whose both keys were refused five times in all, and the other.
    let offenders = limits["top_offenders"].as_array().unwrap();
    let refusals: Vec<_> = offenders
        .iter()
        .map(|it| it["refusals"].as_f64().unwrap().round())
        .collect();
    assert_eq!(refusals, [5.0, 2.0], "{limits}");
    for offender in offenders {
        assert_eq!(
            (&offender["limit"], &offender["stage"]),
            (&"calls".into(), &"post_auth_limit".into())
        );
        assert_eq!(offender["key"].as_str().unwrap().len(), 16);
    }
    assert!(
        !limits.to_string().contains("acme"),
        "keys are hashed: {limits}"
    );
    assert!(calls["fill"].as_f64().unwrap() > 0.99, "{calls}");
    let metrics = crate::http::get(gateway.admin, "/metrics").await;
    let sample = "gateway_rate_limit_fill_ratio{policy=\"calls\"} ";
    assert!(
        metrics.text().lines().any(|line| line.starts_with(sample)),
        "{}",
        metrics.text()
    );
    assert_eq!(calls["quota"]["count"], 1);
    assert_eq!(calls["quota"]["period_seconds"], 3600.0);
    assert_eq!(calls["quota"]["burst"], 3);
    gateway.is_idle().await;
}

/// The cheap limit comes first: a flood of wrong keys from one address meets it before any key is looked at.
#[tokio::test]
async fn an_address_is_limited_before_its_keys_are_looked_at() {
    let up = Upstream::start(always(Reply::ok())).await;
    let mut tables = "[limits.address]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 4\n\
                      [limits.address-known]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 4\n\
                      [limits.calls]\nkey = \"consumer\"\nrate = \"1/h\"\nburst = 2\n"
        .to_owned();
    tables += &partners(&up.url());
    let limits = "limits = [\"address\"]\nconsumer_limits = [\"calls\", \"address-known\"]";
    tables += &shut("all", "/", limits);
    let gateway = serve(&config("", &tables)).await;
    let mut codes = Vec::new();
    for key in [
        "nobody's",
        "acme-key-1",
        "acme-key-1",
        "acme-key-1",
        "acme-key-1",
    ] {
        let answer = ask(&gateway, "/", &format!("x-api-key: {key}\r\n")).await;
        codes.push((
            answer.status(),
            answer.header("ratelimit").map(str::to_owned),
        ));
    }
    let statuses: Vec<_> = codes.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [401, 200, 200, 429, 429], "{codes:?}");

    let limits = page(gateway.admin, "/limits").await;
    let counts: Vec<_> = limits["limits"]
        .as_array()
        .unwrap()
        .iter()
        .map(|limit| {
            let text = |key: &str| limit[key].as_str().unwrap().to_owned();
            let number = |key: &str| limit[key].as_u64().unwrap();
            (
                text("name"),
                text("stage"),
                number("allowed"),
                number("limited"),
            )
        })
        .collect();
    let expected = [
        ("address", "pre_auth_limit", 4, 1),
        ("address-known", "post_auth_limit", 2, 0),
        ("calls", "post_auth_limit", 2, 1),
    ];
    let expected = expected.map(|(name, stage, a, l)| (name.to_owned(), stage.to_owned(), a, l));
    assert_eq!(counts, expected, "{limits}");
}

#[tokio::test]
async fn modes_hold_behind_authentication_too() {
    let up = Upstream::start(always(Reply::ok())).await;
    let limit = |name: &str, mode: &str| {
        format!(
            "[limits.{name}]\nkey = \"consumer\"\nrate = \"1/h\"\nburst = 1\nmode = \"{mode}\"\n"
        )
    };
    let mut tables = limit("watched", "shadow") + &limit("off", "off") + &partners(&up.url());
    tables += &shut("all", "/", "consumer_limits = [\"watched\", \"off\"]");
    let gateway = serve(&config("", &tables)).await;
    for _ in 0..3 {
        let answer = ask(&gateway, "/", "x-api-key: zeta-key\r\n").await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("ratelimit"), None, "{answer:?}");
    }
    let limits = page(gateway.admin, "/limits").await;
    let by_name = |name: &str| {
        let limits = limits["limits"].as_array().unwrap().iter();
        limits
            .clone()
            .find(|limit| limit["name"] == name)
            .unwrap()
            .clone()
    };
    let (watched, off) = (by_name("watched"), by_name("off"));
    assert_eq!(
        (&watched["mode"], &watched["would_limit"]),
        (&"shadow".into(), &2.into())
    );
    assert_eq!(
        (&off["mode"], &off["would_limit"]),
        (&"off".into(), &0.into())
    );
}

fn per_address(burst: u32, more: &str, url: &str) -> String {
    format!("[limits.address]\nkey = \"ip\"\nrate = \"1/h\"\nburst = {burst}\n{more}\n")
        + &all_to(url, "limits = [\"address\"]")
}

/// Story: a limit by address believed `X-Forwarded-For` from everybody, and a scanner sent a new one with each request.
#[tokio::test]
async fn a_client_cannot_choose_the_address_that_it_is_counted_by() {
    let up = Upstream::start(always(Reply::ok())).await;
    let gateway = Gateway::serve(&config("", &per_address(2, "", &up.url()))).await;
    let mut statuses = Vec::new();
    for n in 1..=5 {
        let fields =
            from(&format!("203.0.113.{n}")) + &format!("forwarded: for=198.51.100.{n}\r\n");
        statuses.push(ask(&gateway, "/", &fields).await.status());
    }
    assert_eq!(statuses, [200, 200, 429, 429, 429]);
    assert_eq!(page(gateway.admin, "/limits").await["limits"][0]["keys"], 1);
}

/// Behind a trusted proxy each client has its own quota, and cannot get another's by what it puts in front: the walk goes
/// from the right, and stops at the first address that is not trusted.
#[tokio::test]
async fn behind_a_trusted_proxy_each_address_has_its_quota() {
    let up = Upstream::start(always(Reply::ok())).await;
    let gateway = Gateway::serve(&config(BEHIND_A_PROXY, &per_address(1, "", &up.url()))).await;
    for (forwarded, status) in [
        ("203.0.113.1", 200),
        ("203.0.113.1", 429),
        ("203.0.113.2", 200),
        // The same client, with another's address in front of its own, and with nonsense.
        ("203.0.113.3, 203.0.113.1", 429),
        ("anything, 203.0.113.1", 429),
        ("203.0.113.1, 127.0.0.9", 429),
        // The same in the form of IPv6.
        ("::ffff:203.0.113.1", 429),
        ("203.0.113.4", 200),
        // One subscriber has a /64.
        ("2001:db8:0:1::1", 200),
        ("2001:db8:0:1:ffff::2", 429),
        ("2001:db8:0:2::1", 200),
    ] {
        let answer = ask(&gateway, "/", &from(forwarded)).await;
        assert_eq!(answer.status(), status, "{forwarded}: {answer:?}");
    }
}

#[tokio::test]
async fn a_wider_prefix_makes_one_client_of_more_addresses() {
    let up = Upstream::start(always(Reply::ok())).await;
    let tables = per_address(1, "prefix6 = 48", &up.url());
    let gateway = Gateway::serve(&config(BEHIND_A_PROXY, &tables)).await;
    for (forwarded, status) in [
        ("2001:db8:1:1::1", 200),
        ("2001:db8:1:ffff::1", 429),
        ("2001:db8:2:1::1", 200),
    ] {
        assert_eq!(
            ask(&gateway, "/", &from(forwarded)).await.status(),
            status,
            "{forwarded}"
        );
    }
}

/// Each kind of key that is known of anyone: what is told apart by it, and what shares its quota.
#[tokio::test]
async fn limits_count_by_header_route_and_all_together() {
    let up = Upstream::start(always(Reply::ok())).await;
    let limit = |name: &str, key: &str, burst: u32| {
        format!("[limits.{name}]\nkey = \"{key}\"\nrate = \"1/h\"\nburst = {burst}\n")
    };
    let mut tables = limit("device", "header:x-device", 1);
    tables += &limit("route", "route", 1);
    tables += &limit("all", "global", 2);
    tables += &crate::gateway::upstream("up", &up.url());
    let route = |name: &str, limit: &str| {
        crate::gateway::route(
            name,
            &format!("/{name}"),
            "up",
            &format!("limits = [\"{limit}\"]"),
        )
    };
    for (name, limit) in [
        ("device", "device"),
        ("r1", "route"),
        ("r2", "route"),
        ("g1", "all"),
        ("g2", "all"),
    ] {
        tables += &route(name, limit);
    }
    let gateway = Gateway::serve(&config("", &tables)).await;
    for (path, fields, status) in [
        ("/device", "x-device: a\r\n", 200),
        ("/device", "x-device: a\r\n", 429),
        ("/device", "x-device: b\r\n", 200),
        // Those without one share a quota: leaving it out is no way around the limit.
        ("/device", "", 200),
        ("/device", "", 429),
        ("/r1", "", 200),
        ("/r1/other", "", 429),
        ("/r2", "", 200),
        ("/g1", "", 200),
        ("/g2", "", 200),
        ("/g1", "", 429),
    ] {
        assert_eq!(
            ask(&gateway, path, fields).await.status(),
            status,
            "{path} {fields}"
        );
    }
}
