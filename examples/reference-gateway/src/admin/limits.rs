//! `/limits`: the quotas, what was decided by them, and the stores that some of them are shared in.

use axum::extract::State;
use axum::response::Response;
use gw_ratelimit::PolicySnapshot;
use serde_json::{Map, Value, json};

use super::{Admin, json_page};
use crate::assembly::{LimitControls, StoreControls};

pub(super) async fn page(State(admin): State<Admin>) -> Response {
    let stages = &admin.controls.limits;
    let limits: Vec<_> = stages.iter().flat_map(of_stage).collect();
    let stores: Vec<_> = stages
        .iter()
        .flat_map(|stage| stage.stores.iter().map(|store| self::store(stage, store)))
        .collect();
    json_page(&json!({
        "limits": limits,
        "stores": stores,
        "top_offenders": top_offenders(stages),
    }))
}

fn of_stage(stage: &LimitControls) -> Vec<Value> {
    let described = stage.handles().flat_map(|(handle, store)| {
        let policies = handle.snapshot().into_iter();
        policies.map(move |policy| {
            let mut described = limit(&policy);
            described.insert("stage".to_owned(), stage.stage.into());
            described.insert("shared".to_owned(), store.is_some().into());
            Value::from(described)
        })
    });
    described.collect()
}

/// Who was refused most often of late, by any limit. Keys are hashes, which differ with each start.
fn top_offenders(stages: &[LimitControls]) -> Vec<Value> {
    let all = stages.iter().flat_map(|stage| {
        let offenders = stage
            .handles()
            .flat_map(|(handle, _)| handle.top_offenders(OFFENDERS));
        offenders.map(|offender| (stage.stage, offender))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by(|(_, a), (_, b)| b.refusals.total_cmp(&a.refusals));
    all.truncate(OFFENDERS);
    let described = all.into_iter().map(|(stage, offender)| {
        json!({
            "limit": &*offender.policy,
            "stage": stage,
            "key": offender.key.to_string(),
            "refusals": offender.refusals,
            "at_least": offender.at_least,
        })
    });
    described.collect()
}

const OFFENDERS: usize = 20;

pub(super) fn limit(policy: &PolicySnapshot) -> Map<String, Value> {
    let quota = &policy.quota;
    let described = json!({
        "name": &*policy.name,
        "quota": {
            "count": quota.cells(),
            "period_seconds": quota.period().as_secs_f64(),
            "burst": quota.max_burst(),
        },
        "mode": policy.mode.as_str(),
        "keys": policy.keys,
        "fill": policy.fill,
        "allowed": policy.allowed,
        "limited": policy.limited,
        "would_limit": policy.would_limit,
        "skipped": policy.skipped,
        "overflowed": policy.overflowed,
    });
    match described {
        Value::Object(described) => described,
        _ => Map::new(),
    }
}

/// `name` is what metrics call it. `asked` and `failed` count questions, the entries of `decided` requests by who decided on
/// them. Not its URL, which may hold a password.
fn store(stage: &LimitControls, store: &StoreControls) -> Value {
    let snapshot = store.limiter.store();
    let policies = store.limiter.handle().snapshot();
    let names: Vec<_> = policies.iter().map(|policy| &*policy.name).collect();
    json!({
        "name": &*store.label,
        "stage": stage.stage,
        "limits": names,
        "leased": store.leased,
        "on_store_error": store.on_error.as_str(),
        "state": if snapshot.is_asked { "asked" } else { "failing" },
        "asked": snapshot.asked,
        "failed": snapshot.failed,
        "decided": {
            "store": snapshot.by_store,
            "lease": snapshot.by_lease,
            "on_store_error": snapshot.by_rule,
        },
        "leases": snapshot.leases,
    })
}
