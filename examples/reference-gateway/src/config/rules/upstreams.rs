//! Upstreams.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::config::finding::{Findings, KeyPath};
use crate::config::table::{Upstream, UpstreamTls};

pub(super) fn check(upstreams: &BTreeMap<String, Upstream>, findings: &mut Findings) {
    for (name, upstream) in upstreams {
        check_one(upstream, &KeyPath::of("upstreams").key(name), findings);
    }
}

fn check_one(upstream: &Upstream, at: &KeyPath, findings: &mut Findings) {
    let endpoints = at.key("endpoints");
    let rule = "must hold at least one URL, such as [\"http://127.0.0.1:9001\"]";
    findings.check(upstream.endpoints.is_empty(), endpoints.clone(), rule);
    let mut listed = HashSet::new();
    for (i, endpoint) in upstream.endpoints.iter().enumerate() {
        let rule = "is listed twice: it would get twice the requests";
        findings.check(!listed.insert(endpoint), endpoints.index(i), rule);
    }
    if let Some(tls) = &upstream.tls {
        let cleartext = upstream.endpoints.iter().all(|endpoint| !endpoint.tls);
        check_tls(tls, cleartext, &at.key("tls"), findings);
    }
    if let Some(health) = &upstream.health {
        let late = health.timeout > health.interval;
        findings.check(
            late,
            at.key("health").key("timeout"),
            "must not be longer than `interval`",
        );
    }
    let breaker = &upstream.breaker;
    findings.check(
        breaker.slow_over > LONGEST_CALL,
        at.key("breaker").key("slow_over"),
        "must be at most 7 days, \"168h\"",
    );
    let late = breaker.open > breaker.open_max;
    findings.check(
        late,
        at.key("breaker").key("open"),
        "must not be longer than `open_max`",
    );
}

/// As long as a breaker can tell that a call took.
const LONGEST_CALL: Duration = Duration::from_secs(7 * 24 * 60 * 60);

fn check_tls(tls: &UpstreamTls, cleartext: bool, at: &KeyPath, findings: &mut Findings) {
    findings.check(
        cleartext,
        at.clone(),
        "has no effect: no endpoint starts with https://",
    );
    let pair = "goes with `certificate` and `key` together: write both or neither";
    findings.check(
        tls.certificate.is_some() && tls.key.is_none(),
        at.key("certificate"),
        pair,
    );
    findings.check(
        tls.key.is_some() && tls.certificate.is_none(),
        at.key("key"),
        pair,
    );
}
