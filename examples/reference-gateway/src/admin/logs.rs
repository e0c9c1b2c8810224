//! `/logs`: how the log intake stands.

use axum::extract::State;
use axum::response::Response;
use gw_logingest::consumer::ConsumerStatus;
use gw_logingest::intake::Counts;
use gw_logingest::{Queue as _, QueueState};
use serde_json::{Value, json};

use super::{Admin, json_page};
use crate::assembly::LogControls;

pub(super) async fn page(State(admin): State<Admin>) -> Response {
    let logs = admin.controls.logs.as_ref();
    json_page(&logs.map_or_else(|| json!({ "queue": null }), describe))
}

fn describe(logs: &LogControls) -> Value {
    let per_client: Vec<_> = logs
        .per_client
        .snapshot()
        .iter()
        .map(super::limits::limit)
        .collect();
    let consumer = logs.consumer.as_ref().map(|handle| handle.status());
    json!({
        "queue": queue(logs),
        "events": events(&logs.ingest.snapshot().counts),
        "per_client": per_client.first(),
        "consumer": consumer.as_ref().map(self::consumer),
    })
}

fn queue(logs: &LogControls) -> Value {
    let status = logs.queue.status();
    let state = match status.state {
        QueueState::Serving => "serving",
        QueueState::Failing => "failing",
        QueueState::Closed => "closed",
    };
    json!({
        "engine": logs.queue.as_str(),
        "state": state,
        "bytes": status.bytes,
        "capacity": status.capacity,
        "memory": status.memory,
        "max_memory": status.max_memory,
        "batches": status.batches,
        "leased": status.leased,
        "events": status.events,
        "oldest_seconds": status.oldest.map(|age| age.as_secs_f64()),
        "drained_bytes_per_second": status.drain_rate,
    })
}

/// The ledger of the intake: what became of each event that was received since the start.
fn events(counts: &Counts) -> Value {
    json!({
        "received": counts.received,
        "accepted": counts.accepted,
        "rejected": counts.rejected,
        "suppressed": counts.suppressed,
        "collapsed": counts.collapsed,
        "shed": counts.shed,
        "refused": counts.refused,
        "abandoned": counts.abandoned,
        "in_progress": counts.in_progress,
        "imbalance": counts.imbalance(),
    })
}

/// The ledger of the delivery: what became of each event that was taken from the queue since the start.
fn consumer(status: &ConsumerStatus) -> Value {
    json!({
        "state": status.state.as_str(),
        "reason": status.reason.as_ref().map(ToString::to_string),
        "leased": status.leased,
        "delivered": status.delivered,
        "duplicates": status.duplicates,
        "redirected": status.redirected,
        "dead": status.dead,
        "returned": status.returned,
        "in_hand": status.in_hand,
        "held_clients": status.held_clients,
        "retried": status.retried,
        "requests": status.requests,
        "imbalance": status.imbalance() as i64,
    })
}
