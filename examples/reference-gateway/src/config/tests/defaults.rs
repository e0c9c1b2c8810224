//! What a table left out means, where the contract's comparison does not show it.

use gw_core::Mode;

use super::{LEAST, valid};
use crate::config::table::{Lane, Target, Total};
use crate::config::value::Ratio;
use std::time::Duration;

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

/// The whole exchange, an attempt, until the head, and between two pieces.
fn timers(route: &str) -> [Duration; 4] {
    let timeouts = valid(&format!("{LEAST}{route}")).routes.remove(0).timeouts;
    [
        timeouts.request,
        timeouts.longest_attempt(),
        timeouts.first_byte(),
        timeouts.idle(),
    ]
}

#[test]
fn a_route_without_timeouts_has_timers() {
    let expected = [s(30), s(30), s(15), s(30)];
    assert_eq!(timers(""), expected);
    assert_eq!(timers("timeouts = {}"), expected);
}

#[test]
fn a_timer_left_out_fits_into_the_written_ones() {
    for (written, expected) in [
        ("request = \"1m\"", [s(60), s(60), s(15), s(30)]),
        ("request = \"10s\"", [s(10); 4]),
        (
            "request = \"10s\", attempt = \"2s\"",
            [s(10), s(2), s(2), s(10)],
        ),
    ] {
        let route = format!("timeouts = {{ {written} }}");
        assert_eq!(timers(&route), expected, "{written}");
    }
}

#[test]
fn threads_of_what_is_sheddable_are_nice() {
    for (written, nice) in [
        ("threads = 1", 0),
        ("threads = 1\ncriticality = \"critical-plus\"", 0),
        ("threads = 1\ncriticality = \"sheddable-plus\"", 5),
        ("threads = 1\ncriticality = \"sheddable\"", 10),
        ("threads = 1\ncriticality = \"sheddable\"\nnice = 0", 0),
        ("threads = 1\nnice = 19", 19),
        // It runs on the server's threads.
        ("criticality = \"sheddable\"", 0),
    ] {
        let text = format!("[lanes.lane.x]\nguaranteed = 0.1\n{written}\n{LEAST}");
        assert_eq!(valid(&text).lanes.lane["x"].niceness(), nice, "{written}");
    }
}

#[test]
fn a_route_without_policies_has_none() {
    let route = valid(LEAST).routes.remove(0);
    let Target::Upstream(forward) = route.target else {
        panic!("the route has an upstream")
    };
    assert_eq!(
        (forward.retry, forward.hedge, forward.cache),
        (None, None, None)
    );
    assert_eq!((forward.canary, forward.shadow), (None, None));
    assert_eq!((route.schema, route.limits), (None, Vec::<String>::new()));
}

#[test]
fn the_core_lane_gets_what_the_others_leave() {
    let lanes = valid(LEAST).lanes;
    assert!(matches!(lanes.total, Total::Fixed(total) if total.get() == 512));
    assert_eq!(lanes.lane.keys().collect::<Vec<_>>(), ["core"]);
    assert_eq!(lanes.lane["core"].guaranteed, Ratio::ONE);

    let lanes = valid(&format!("[lanes.lane.logs]\nguaranteed = 0.25\n{LEAST}")).lanes;
    assert_eq!(lanes.lane.keys().collect::<Vec<_>>(), ["core", "logs"]);
    assert_eq!(lanes.lane["core"].guaranteed.get(), 0.75);
}

#[test]
fn another_default_lane_needs_no_core() {
    let text =
        format!("[server]\ndefault_lane = \"web\"\n[lanes.lane.web]\nguaranteed = 1\n{LEAST}");
    let config = valid(&text);
    assert_eq!(config.lanes.lane.keys().collect::<Vec<_>>(), ["web"]);
    assert_eq!(config.routes[0].lane, "web");
}

#[test]
fn a_limit_without_burst_takes_its_rate() {
    let text = format!("[limits.x]\nkey = \"global\"\nrate = \"7/h\"\n{LEAST}");
    assert_eq!(valid(&text).limits["x"].burst.get(), 7);
}

#[test]
fn a_policy_that_is_written_empty_is_on() {
    let text = format!("{LEAST}retry = {{}}\nhedge = {{}}\ncache = {{}}\n");
    let Target::Upstream(forward) = valid(&text).routes.remove(0).target else {
        panic!("the route has an upstream")
    };
    let retry = forward.retry.unwrap();
    assert_eq!((retry.max_attempts.get(), retry.replay_max), (2, 64 << 10));
    assert_eq!(retry.methods, ["GET", "HEAD", "OPTIONS", "QUERY"]);
    assert_eq!(forward.hedge.unwrap().percentile.get(), 0.99);
    let cache = forward.cache.unwrap();
    assert_eq!(
        (cache.enabled, cache.stale_if_error),
        (true, Duration::ZERO)
    );
}

/// Every protection has the kill switch, and it is `enforce` unless written.
#[test]
fn every_protection_takes_a_mode() {
    let written = |mode: &str| {
        format!(
            r#"
[server]
memory = {{ mode = "{mode}" }}
[ip]
mode = "{mode}"
[limits.x]
key = "ip"
rate = "1/s"
mode = "{mode}"
[lanes]
mode = "{mode}"
lane.core = {{ guaranteed = 0.5, mode = "{mode}" }}
[log_ingest]
per_client = {{ mode = "{mode}" }}
[upstreams.a]
endpoints = ["http://127.0.0.1:9001"]
eject = {{ mode = "{mode}" }}
breaker = {{ mode = "{mode}" }}
retry_budget = {{ mode = "{mode}" }}
[[routes]]
name = "all"
match = {{ prefix = "/" }}
upstream = "a"
public = true
retry = {{ mode = "{mode}" }}
hedge = {{ mode = "{mode}" }}
cache = {{ mode = "{mode}" }}
"#
        )
    };
    for (text, mode) in [
        ("enforce", Mode::Enforce),
        ("shadow", Mode::Shadow),
        ("off", Mode::Off),
    ] {
        let config = valid(&written(text));
        let upstream = &config.upstreams["a"];
        let Target::Upstream(forward) = &config.routes[0].target else {
            panic!("the route has an upstream")
        };
        let core: &Lane = &config.lanes.lane["core"];
        let modes = [
            config.server.memory.mode,
            config.ip.mode,
            config.limits["x"].mode,
            config.lanes.mode,
            core.mode,
            config.log_ingest.per_client.mode,
            upstream.eject.mode,
            upstream.breaker.mode,
            upstream.retry_budget.mode,
            forward.retry.as_ref().unwrap().mode,
            forward.hedge.as_ref().unwrap().mode,
            forward.cache.as_ref().unwrap().mode,
        ];
        assert_eq!(modes, [mode; 12]);
    }
    assert_eq!(Mode::default(), Mode::Enforce);
}
