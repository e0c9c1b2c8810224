//! What is exported.

use std::collections::BTreeMap;
use std::time::Duration;

use gw_ratelimit::redis::{Leases, RedisStore};
use gw_ratelimit::{Limiter, Quota};
use metrics_util::debugging::{DebugValue, DebuggingRecorder, Snapshotter};

use crate::odd::first_answering;
use crate::server::{SECRET, Server, stand_still};

/// What is exported while `what` happens.
fn recorded(what: impl Future<Output = ()>) -> Snapshotter {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || {
        gw_ratelimit::describe();
        runtime.block_on(what);
    });
    snapshotter
}

#[test]
fn what_happens_with_the_store_is_counted() {
    let snapshotter = recorded(async {
        let (mut server, _still) = (Server::start(), stand_still());
        let store = server.store("api").leases(Leases::up_to(1));
        let limiter = Limiter::builder()
            .policy("p", Quota::per_hour(1).burst(100))
            .build_shared(&store.probe_after(Duration::from_secs(3600)))
            .unwrap();
        let policy = limiter.policy("p").unwrap();
        // The first one leases nothing, the second one a cell, which the third one spends.
        for _ in 0..3 {
            assert!(limiter.check(policy, "k", 1).await.is_allowed());
        }
        server.stop();
        for _ in 0..5 {
            assert!(limiter.check(policy, "k", 1).await.is_allowed());
        }
        // Noted here, as it is this instance that decides.
        let late = limiter.charge(policy, "k", 7);
        let standing = limiter.charge_late(late).await.unwrap();
        assert_eq!(standing.remaining(), 100 - 8 - 7);
    });
    let mut seen = exported(&snapshotter);
    seen.retain(|name, _| name.starts_with("gateway_rate_limit_store_"));
    let expected = [
        ("gateway_rate_limit_store_call_duration_seconds api", 5.0),
        ("gateway_rate_limit_store_calls_total api", 5.0),
        ("gateway_rate_limit_store_decisions_total api lease", 1.0),
        (
            "gateway_rate_limit_store_decisions_total api local_fallback",
            5.0,
        ),
        ("gateway_rate_limit_store_decisions_total api store", 2.0),
        (
            "gateway_rate_limit_store_failures_total api connection",
            3.0,
        ),
        (
            "gateway_rate_limit_store_late_lost_cells_total api unanswered",
            7.0,
        ),
        ("gateway_rate_limit_store_mode api local_fallback", 1.0),
        ("gateway_rate_limit_store_mode api store", 0.0),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value));
    assert_eq!(seen, expected.into());
}

/// Story: the limits of one stage were at two servers. When one of them was down and the other one answered, the gauges said
/// that all was well.
#[test]
fn limiters_of_one_name_are_told_apart_by_labels() {
    let seen = modes_of(["api:down", "api:up"]);
    let expected = [
        ("api:down local_fallback", 1.0),
        ("api:down store", 0.0),
        ("api:up local_fallback", 0.0),
        ("api:up store", 1.0),
    ];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
}

/// Story: a limiter was replaced while Redis was away. The next one of its name said that Redis decides, but not that its rule does
/// not any more: the gauges said both for as long as all went well.
#[test]
fn the_next_limiter_of_a_name_says_that_its_rule_does_not_decide() {
    let seen = modes_of(["api", "api"]);
    let expected = [("api local_fallback", 0.0), ("api store", 1.0)];
    assert_eq!(seen, expected.map(|(name, value)| (name.to_owned(), value)));
}

/// Who decides, after one request to a limiter whose Redis is away, and then one to another whose Redis answers.
fn modes_of(labels: [&str; 2]) -> Vec<(String, f64)> {
    let snapshotter = recorded(async {
        let (up, mut down) = (Server::start(), Server::start());
        let _still = stand_still();
        down.stop();
        for (server, label) in [&down, &up].into_iter().zip(labels) {
            let limiter = Limiter::builder()
                .policy("p", Quota::per_hour(1).burst(100))
                .build_shared(&server.store("api").label(label).failures(1))
                .unwrap();
            let policy = limiter.policy("p").unwrap();
            assert!(limiter.check(policy, "k", 1).await.is_allowed());
        }
    });
    let gauges = exported(&snapshotter)
        .into_iter()
        .filter_map(|(name, value)| {
            let of = name.strip_prefix("gateway_rate_limit_store_mode ")?;
            Some((of.to_owned(), value))
        });
    gauges.collect()
}

/// All metrics, by name and values of labels.
fn exported(snapshotter: &Snapshotter) -> BTreeMap<String, f64> {
    let mut seen = BTreeMap::new();
    for (key, unit, help, value) in snapshotter.snapshot().into_vec() {
        assert!(unit.is_some() && help.is_some(), "{key:?}");
        let labels: Vec<&str> = key.key().labels().map(|label| label.value()).collect();
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(value) => value.into_inner(),
            DebugValue::Histogram(values) => values.len() as f64,
        };
        seen.insert(format!("{} {}", key.key().name(), labels.join(" ")), value);
    }
    seen
}

#[test]
fn an_answer_of_the_wrong_kind_is_no_lost_connection() {
    let snapshotter = recorded(async {
        let server = Server::start();
        let url = first_answering("+well\r\n", 1, &server).await;
        let store = RedisStore::new(url, "api", SECRET).timeout(gw_testkit::PATIENCE);
        let limiter = Limiter::builder()
            .policy("p", Quota::per_hour(1).burst(100))
            .build_shared(&store)
            .unwrap();
        limiter.check(limiter.policy("p").unwrap(), "k", 1).await;
    });
    let mut seen = exported(&snapshotter);
    seen.retain(|name, _| name.starts_with("gateway_rate_limit_store_failures_total"));
    let only = "gateway_rate_limit_store_failures_total api reply".to_owned();
    assert_eq!(seen, BTreeMap::from([(only, 1.0)]));
}
