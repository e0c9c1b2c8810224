//! What a configuration asks for and this version does not do yet.
//!
//! A key that is accepted and silently ignored is worse than one that is refused, so `check` and `serve` list them.

use std::collections::BTreeSet;

use gw_core::Mode;
use http::Method;

use crate::assembly::{is_asked, log_ingest};
use crate::config::table::{
    Access, Durability, LogIngest, LogQueue, LogSchema, LogSink, Pool, Protocol, Route, Server,
    Target,
};
use crate::config::value::{Balance, Key};
use crate::config::{Config, holds_no_key};

/// One line for each such key, in a fixed order.
pub fn without_effect(config: &Config) -> Vec<String> {
    let mut notes = Notes::default();
    server(&config.server, &mut notes);
    auth(config, &mut notes);
    limits(config, &mut notes);
    lanes(config, &mut notes);
    memory(config, &mut notes);
    upstreams(config, &mut notes);
    routes(config, &mut notes);
    if log_ingest::asked_for(config) {
        logs(config, &mut notes);
    } else {
        unasked_logs(&config.log_ingest, &mut notes);
    }
    rest(config, &mut notes);
    notes
        .0
        .into_iter()
        .map(|(key, what)| format!("{key}: {what}"))
        .collect()
}

const NOT_YET: &str = "has no effect in this version";

#[derive(Default)]
struct Notes(BTreeSet<(String, &'static str)>);

impl Notes {
    fn note(&mut self, applies: bool, key: impl Into<String>) {
        self.explain(applies, key, NOT_YET);
    }

    fn explain(&mut self, applies: bool, key: impl Into<String>, what: &'static str) {
        if applies {
            self.0.insert((key.into(), what));
        }
    }
}

fn server(server: &Server, notes: &mut Notes) {
    let list = server.http2.max_header_list_bytes;
    let less = "is not reached over HTTP/2, where `http2.max_header_list_bytes` is for target and fields together";
    for (key, bytes) in [
        ("max_header_bytes", server.max_header_bytes),
        ("max_uri_bytes", server.max_uri_bytes),
    ] {
        notes.explain(bytes > list, format!("server.{key}"), less);
    }
}

fn auth(config: &Config, notes: &mut Notes) {
    for name in config.auth.jwt.keys() {
        let nobody = "tokens cannot be checked in this version, and none is good: a route that names no other \
                      authenticator answers 401";
        notes.explain(true, format!("auth.jwt.{name}"), nobody);
    }
    for (name, keys) in &config.auth.api_keys {
        let missing =
            "does not exist, so that nobody has a key: it is read when the gateway starts";
        notes.explain(
            keys.is_missing(),
            format!("auth.api_keys.{name}.file"),
            missing,
        );
        let empty = "holds no key, so that nobody has one: it is read when the gateway starts";
        notes.explain(
            holds_no_key(&keys.file),
            format!("auth.api_keys.{name}.file"),
            empty,
        );
        let by_default = config.server.default_auth.contains(name);
        let named = by_default || config.routes.iter().any(|route| names(route, name));
        let nobody = "opens nothing: no route names it";
        notes.explain(!named, format!("auth.api_keys.{name}"), nobody);
    }
}

fn names(route: &Route, authenticator: &String) -> bool {
    match &route.access {
        Access::Public => false,
        Access::Authenticated { by, .. } => by.contains(authenticator),
    }
}

fn limits(config: &Config, notes: &mut Notes) {
    for (name, limit) in &config.limits {
        let nobody = "counts nothing: no route names it";
        notes.explain(!is_asked(config, name), format!("limits.{name}"), nobody);
        let no_user = "counts all callers together in this version: API keys name no user";
        notes.explain(
            limit.key == Key::User,
            format!("limits.{name}.key"),
            no_user,
        );
    }
}

fn lanes(config: &Config, notes: &mut Notes) {
    let routed = |name: &str| config.routes.iter().any(|route| route.lane == name);
    let nobody = "no route is in this lane: every request is answered 404 there";
    for (name, _) in config.lanes.own_listeners() {
        notes.explain(!routed(name), format!("lanes.lane.{name}.listen"), nobody);
    }
    // What matches no route is in the default one.
    let nobody = "no route is in this lane: its threads have nothing to do, and its guarantee is only lent to others";
    let others = config.lanes.lane.iter();
    for (name, lane) in others.filter(|(name, _)| **name != config.server.default_lane) {
        let has = lane.listen.is_empty() && (lane.guaranteed.get() > 0.0 || lane.threads.is_some());
        notes.explain(has && !routed(name), format!("lanes.lane.{name}"), nobody);
    }
}

/// It is lanes that refuse when memory is short.
fn memory(config: &Config, notes: &mut Notes) {
    let enforced = |mode| mode == Mode::Enforce;
    let asked = enforced(config.server.memory.mode);
    let all = enforced(config.lanes.mode);
    let nothing = "refuses nothing: `lanes.mode` is not \"enforce\"";
    notes.explain(asked && !all, "server.memory", nothing);
    let others = config.lanes.lane.values().any(|lane| !enforced(lane.mode));
    let less = "refuses nothing in lanes whose `mode` is not \"enforce\"";
    notes.explain(asked && all && others, "server.memory", less);
}

fn upstreams(config: &Config, notes: &mut Notes) {
    for (name, upstream) in &config.upstreams {
        let key = |part: &str| format!("upstreams.{name}.{part}");
        notes.note(upstream.health.is_some(), key("health"));
        // Only where it is written: whoever leaves it out has not asked for anything.
        let balance = upstream.balance.as_ref();
        let balanced = balance.is_some_and(|balance| *balance != Balance::RoundRobin);
        notes.explain(balanced, key("balance"), "is round-robin in this version");
        let auto = upstream.protocol == Protocol::Auto;
        notes.explain(auto, key("protocol"), "is http1 in this version");
        // As it is where nobody has written it, nobody has asked for anything.
        let bound = upstream.pool.max_idle != Pool::default().max_idle;
        let shared = "is for HTTP/1: idle connections over HTTP/2 are kept for `idle_timeout`";
        let http2 = upstream.protocol == Protocol::Http2;
        notes.explain(bound && http2, key("pool.max_idle"), shared);
        let asked = config.routes.iter().any(|route| leads_to(route, name));
        let nobody = "no route leads to it";
        notes.explain(!asked, format!("upstreams.{name}"), nobody);
    }
}

fn leads_to(route: &Route, upstream: &String) -> bool {
    match &route.target {
        Target::Service(_) => false,
        Target::Upstream(to) => {
            let canary = to.canary.as_ref().map(|it| &it.upstream);
            let shadow = to.shadow.as_ref().map(|it| &it.upstream);
            to.upstream == *upstream || canary == Some(upstream) || shadow == Some(upstream)
        }
    }
}

fn routes(config: &Config, notes: &mut Notes) {
    for (index, route) in config.routes.iter().enumerate() {
        let key = |part: &str| format!("routes[{index}].{part}");
        notes.note(route.schema.is_some(), key("schema"));
        match &route.target {
            Target::Upstream(forward) => {
                let retry = forward.retry.as_ref();
                // The failures that a retry would have hidden come through, and nothing else tells why.
                let budget = config.upstreams.get(&forward.upstream);
                let zero = budget
                    .map(|it| &it.retry_budget)
                    .filter(|budget| budget.mode == Mode::Enforce)
                    .is_some_and(|budget| budget.ratio.get() == 0.0 && budget.min_per_second == 0);
                let never = "never sends anything again: the retry budget of the upstream is zero";
                notes.explain(zero && retry.is_some(), key("retry"), never);
                let hedged = (forward.hedge.as_ref()).is_some_and(|it| it.mode != Mode::Off);
                let never = "never sends a second copy: the retry budget of the upstream is zero";
                notes.explain(zero && hedged, key("hedge"), never);
                let methods = &route.matching.methods;
                let unsafe_all = !methods.is_empty() && !methods.iter().any(Method::is_safe);
                let never =
                    "never sends a second copy: no method of the route is one that only reads";
                notes.explain(hedged && unsafe_all, key("hedge"), never);
                notes.note(forward.cache.is_some(), key("cache"));
                notes.note(forward.canary.is_some(), key("canary"));
                notes.note(forward.shadow.is_some(), key("shadow"));
            }
            Target::Service(_) => {}
        }
    }
}

fn logs(config: &Config, notes: &mut Notes) {
    let written = &config.log_ingest;
    let embedded = matches!(written.sink, LogSink::Embedded(_));
    let stays =
        "there is no embedded sink in this version: batches are taken, and stay in the queue";
    notes.explain(embedded, "log_ingest.sink", stays);
    match &written.queue {
        LogQueue::Disk(queue) => {
            let process = queue.durability == Durability::Process;
            let synced = "is \"fsync\" in this version";
            notes.explain(process, "log_ingest.queue.durability", synced);
        }
        LogQueue::Memory(_) => {
            let cluster = matches!(written.sink, LogSink::Elasticsearch(_));
            let counted = "events that the sink refuses for good are counted and dropped: a queue in memory \
                           has no place for dead letters";
            notes.explain(cluster, "log_ingest.queue", counted);
        }
        // Refused.
        LogQueue::Redis(_) | LogQueue::Nats(_) | LogQueue::Kafka(_) | LogQueue::Sqs(_) => {}
    }
}

/// Where its queue and sink are is no sign that somebody counts on it: their paths depend on where the file is.
fn unasked_logs(written: &LogIngest, notes: &mut Notes) {
    let as_ever = LogIngest {
        queue: written.queue.clone(),
        sink: written.sink.clone(),
        ..LogIngest::default()
    };
    let nobody = "has no effect: no route has `service = \"log-ingest\"`";
    notes.explain(*written != as_ever, "log_ingest", nobody);
}

fn rest(config: &Config, notes: &mut Notes) {
    let observe = &config.observe;
    let other = observe.access_log.schema != LogSchema::Native;
    notes.explain(
        other,
        "observe.access_log.schema",
        "is native in this version",
    );
    notes.note(observe.trace.otlp.is_some(), "observe.trace.otlp");
    notes.note(config.response.compress, "response.compress");
    notes.note(config.ip.mode == Mode::Shadow, "ip.mode");
    notes.explain(
        config.server.memory.mode == Mode::Shadow,
        "server.memory.mode",
        "is \"off\" in this version",
    );
}
