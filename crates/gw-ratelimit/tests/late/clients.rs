//! Clients that are treated otherwise: those of a tier, those with strikes, and what they are told.

use std::sync::Arc;
use std::time::Duration;

use gw_core::{Body, Problem};
use gw_ratelimit::{Adjust, Headers, Mode, Penalty, Policy, Quota, RateLimitLayer};
use http::{Response, StatusCode};
use http_body_util::BodyExt as _;
use tower::Layer;

use super::{answer, inner, left, per_client, request};

#[derive(Clone)]
struct Plan(&'static str);

#[tokio::test(start_paused = true)]
async fn tiers_by_request() {
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(Quota::per_second(2))
                .tier("gold", Quota::per_second(4).burst(6))
                .tier_of(|head, tiers| tiers.named(head.extensions.get::<Plan>()?.0)),
        )
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(inner(|_| {}));
    let mut send = |who, plan: Option<&'static str>| {
        let mut request = request(who);
        if let Some(plan) = plan {
            request.extensions_mut().insert(Plan(plan));
        }
        let answer = answer(&mut service, request);
        let told = ["ratelimit-policy", "ratelimit"].map(|name| {
            let value = answer.headers().get(name);
            value
                .map(|value| value.to_str().unwrap().to_owned())
                .unwrap()
        });
        (answer.status().as_u16(), told.join(" "))
    };
    assert_eq!(
        send("ann", None),
        (200, r#""p";q=2;w=1 "p";r=1;t=1"#.to_owned())
    );
    assert_eq!(
        send("bob", Some("gold")),
        (200, r#""p";q=6;w=2 "p";r=5;t=2"#.to_owned())
    );
    assert_eq!(send("cat", Some("tin")).1, r#""p";q=2;w=1 "p";r=1;t=1"#);
    // Half a second of debt comes along, and is two cells of gold.
    assert_eq!(send("ann", Some("gold")).1, r#""p";q=6;w=2 "p";r=3;t=1"#);
    handle
        .set_tier_quota("p", "gold", Quota::per_second(4).burst(1))
        .unwrap();
    assert_eq!(send("dan", Some("gold")).1, r#""p";q=1;w=1 "p";r=0;t=1"#);
    assert_eq!(send("dan", Some("gold")).0, 429);
    let snapshot = &handle.snapshot()[0];
    assert_eq!(
        snapshot.tiers,
        [(Arc::from("gold"), Quota::per_second(4).burst(1))]
    );
    for (policy, tier) in [("p", "tin"), ("q", "gold")] {
        let error = handle
            .set_tier_quota(policy, tier, Quota::per_second(1))
            .unwrap_err();
        assert_eq!(error.policy(), Some(policy));
    }
}

/// The type, the policies and the status of a problem document.
async fn problem(answer: Response<Body>) -> (String, Vec<String>, u16) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(document["status"], status);
    let kind = document["type"].as_str().unwrap();
    let kind = kind
        .strip_prefix("https://iana.org/assignments/http-problem-types#")
        .unwrap();
    let names = document["violated-policies"].as_array().unwrap();
    let names = names.iter().map(|name| name.as_str().unwrap().to_owned());
    (kind.to_owned(), names.collect(), status)
}

#[tokio::test(start_paused = true)]
async fn problem_types_say_why() {
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(Quota::per_minute(2).burst(2))
                .penalty(Penalty::new(2, Duration::from_secs(3_600))),
        )
        .policy(Policy::new("total", Quota::per_minute(4).burst(4)))
        .policy(Policy::new("watched", Quota::per_minute(1)).mode(Mode::Shadow))
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.on_reject(Problem::new()).layer(inner(|_| {}));
    let mut send = |who| answer(&mut service, request(who));
    assert_eq!(
        (send("ann").status(), send("ann").status()),
        (StatusCode::OK, StatusCode::OK)
    );
    let own = |kind: &str, names: &[&str]| {
        let names = names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>();
        (kind.to_owned(), names, 429)
    };
    for _ in 0..2 {
        assert_eq!(problem(send("ann")).await, own("quota-exceeded", &["p"]));
    }
    // Two refusals are two strikes.
    assert_eq!(
        problem(send("ann")).await,
        own("abnormal-usage-detected", &["p"])
    );
    let who = http::HeaderValue::from_static("ann");
    assert_eq!(handle.strikes("p", &who), Some(3));
    assert_eq!(handle.snapshot()[0].keys_with_strikes, 1);
    assert!(handle.reset("p", &who));
    assert_eq!(handle.strikes("p", &who), Some(0));
    // An operator lowers what all have together.
    handle
        .set_quota("total", Quota::per_minute(4).burst(1))
        .unwrap();
    assert!(handle.snapshot()[1].reduced);
    assert_eq!(
        problem(send("ann")).await,
        own("temporary-reduced-capacity", &["total"])
    );
    handle
        .set_quota("total", Quota::per_minute(4).burst(4))
        .unwrap();
    assert!(!handle.snapshot()[1].reduced);

    let offenders = handle.top_offenders(2);
    let id = |key| {
        handle
            .key_id("p", &http::HeaderValue::from_static(key))
            .unwrap()
    };
    assert_eq!(
        (&*offenders[0].policy, offenders[0].refusals),
        ("watched", 5.0)
    );
    assert_eq!((&*offenders[1].policy, offenders[1].key), ("p", id("ann")));
    assert_ne!(id("ann"), id("bob"));
    assert!(!format!("{offenders:?}").contains("ann"));
}

#[tokio::test(start_paused = true)]
async fn an_operator_refunds_and_penalizes() {
    let layer = RateLimitLayer::builder()
        .headers(Headers::None)
        .policy(
            per_client(Quota::per_minute(60).burst(10))
                .penalty(Penalty::new(1, Duration::from_secs(60)).max_factor(4)),
        )
        .policy(Policy::new("plain", Quota::per_second(10)))
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(inner(|_| {}));
    let ann = http::HeaderValue::from_static("ann");
    for _ in 0..4 {
        answer(&mut service, request("ann"));
    }
    assert_eq!(handle.refund("p", &ann, 3).unwrap().remaining(), 9);
    assert!(handle.penalize("p", &ann, 1));
    answer(&mut service, request("ann"));
    assert_eq!(left(&handle, "ann"), 7);
    assert!(!handle.penalize("plain", &(), 1) && !handle.penalize("unknown", &ann, 1));
    assert_eq!(
        (handle.strikes("plain", &()), handle.strikes("p", &ann)),
        (None, Some(1))
    );
    assert!(handle.refund("unknown", &ann, 1).is_none());
    let fill = handle.snapshot()[0].fill;
    assert!(
        (fill - 0.4).abs() < 1e-9,
        "the fullest it was, not less what was given back: {fill}"
    );
    tokio::time::advance(Duration::from_secs(3)).await;
    let fill = handle.snapshot()[0].fill;
    assert!((fill - 0.1).abs() < 1e-9, "{fill}");
    // What a handle has no name for.
    let limiter = handle.limiter();
    let p = limiter.policy("p").unwrap();
    let standing = limiter.charge_late(limiter.charge(p, &ann, 4), tokio::time::Instant::now());
    assert_eq!(standing.unwrap().remaining(), 6);
}

/// Story: the doc's example gave back one cell of the many that a penalised client had paid for a failure of the service's.
#[tokio::test(start_paused = true)]
async fn all_that_a_penalised_client_paid_is_given_back() {
    let layer = RateLimitLayer::builder()
        .policy(
            per_client(Quota::per_minute(60).burst(10))
                .penalty(Penalty::new(1, Duration::from_secs(600)).max_factor(4))
                .charge_response(|answer| match answer.status.as_u16() {
                    500 => Adjust::Refund(1),
                    503 => Adjust::Refund(u32::MAX),
                    _ => Adjust::Nothing,
                }),
        )
        .build()
        .unwrap();
    let handle = layer.handle();
    let mut service = layer.layer(inner(|_| {}));
    assert!(handle.penalize("p", &http::HeaderValue::from_static("ann"), 2));
    for (path, remaining) in [("/503", 10), ("/500", 7), ("/503", 7), ("/200", 3)] {
        let mut request = request("ann");
        *request.uri_mut() = path.parse().unwrap();
        answer(&mut service, request);
        assert_eq!(left(&handle, "ann"), remaining, "{path}");
    }
}
