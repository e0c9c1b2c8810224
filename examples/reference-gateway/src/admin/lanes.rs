//! `/lanes`: what each lane may have, has, and refused, and what it has for itself.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use gw_bulkhead::{AdaptiveSnapshot, Criticality, KeySnapshot, LaneSnapshot};
use serde_json::{Value, json};

use super::{Admin, json_page};

pub(super) async fn page(State(admin): State<Admin>) -> Response {
    let snapshot = admin.controls.lanes.snapshot();
    let lanes: Vec<_> = snapshot
        .lanes
        .iter()
        .map(|lane| self::lane(lane, &admin))
        .collect();
    let load = format!("{:?}", snapshot.load).to_lowercase();
    json_page(&json!({
        "mode": snapshot.mode.as_str(),
        "draining": snapshot.draining,
        "total": snapshot.total,
        "in_flight": snapshot.in_flight,
        "load": load,
        "lanes": lanes,
    }))
}

fn lane(lane: &LaneSnapshot, admin: &Admin) -> Value {
    let rejected = lane.rejected;
    let name = lane.name.as_str();
    let threads = admin.lane_threads.get(name);
    json!({
        "name": name,
        "mode": lane.mode.as_str(),
        "criticality": criticality(lane.criticality),
        "in_flight": lane.in_flight,
        "limit": lane.limit,
        "guaranteed": lane.guaranteed,
        "adaptive": lane.adaptive.as_ref().map(adaptive),
        "queued": lane.queued,
        "admitted": lane.admitted,
        "rejected": {
            "lane_full": rejected.lane_full,
            "queue_full": rejected.queue_full,
            "queue_timeout": rejected.queue_timeout,
            "queue_delay": rejected.queue_delay,
            "deadline": rejected.deadline,
            "draining": rejected.draining,
            "max_hold": rejected.max_hold,
            "per_key": rejected.per_key,
            "pressure": rejected.pressure,
        },
        "per_key": lane.per_key.map(per_key),
        "time_needed_ms": lane.time_needed.map(millis),
        "threads": threads.map(|own| own.number),
        "nice": threads.map(|own| own.nice),
        "listener": listener(name, admin),
    })
}

/// Where the lane's own listeners are, and the connections there; null if it has none.
fn listener(lane: &str, admin: &Admin) -> Value {
    let own = |it: &&crate::gateway::Listening| it.lane.as_deref() == Some(lane);
    let Some(listening) = admin.connections.iter().find(own) else {
        return Value::Null;
    };
    let numbers = listening.handle.snapshot();
    json!({
        "addresses": admin.addresses.lanes.get(lane),
        "active": numbers.active,
        "accepted": numbers.accepted,
    })
}

fn per_key(counted: KeySnapshot) -> Value {
    json!({ "max": counted.max, "keys": counted.keys, "busiest": counted.busiest })
}

/// How a limit is found.
fn adaptive(adaptive: &AdaptiveSnapshot) -> Value {
    let report = adaptive.report;
    json!({
        "algorithm": adaptive.algorithm,
        "min": adaptive.min,
        "max": adaptive.max,
        "state": report.state,
        "latency_ms": report.latency.map(millis),
        "baseline_ms": report.baseline.map(millis),
        "gradient_percent": report.gradient_percent,
        "windows": adaptive.windows,
        "answered": adaptive.answered,
        "dropped": adaptive.dropped,
    })
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

const fn criticality(criticality: Criticality) -> &'static str {
    match criticality {
        Criticality::CriticalPlus => "critical-plus",
        Criticality::Critical => "critical",
        Criticality::SheddablePlus => "sheddable-plus",
        _ => "sheddable",
    }
}
