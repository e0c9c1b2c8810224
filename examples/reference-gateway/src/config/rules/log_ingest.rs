//! Log intake.

use std::collections::HashSet;

use gw_core::Mode;

use crate::config::finding::{Findings, KeyPath};
use crate::config::table::{File, LogQueue, LogSink, RouteTable, Service};
use crate::config::value::{HttpUrl, Key};

/// The intake's own bounds.
const LEAST_EVENT: u64 = 256;
const LARGEST_BODY: u64 = 1 << 30;
const LEAST_MEMORY: u64 = 4 << 20;

pub(super) fn check(file: &File, findings: &mut Findings) {
    let (ingest, at) = (&file.log_ingest, KeyPath::of("log_ingest"));
    findings.check(
        ingest.client.is_empty(),
        at.key("client"),
        "must hold at least one, such as [\"ip\"]",
    );
    for (i, key) in ingest.client.iter().enumerate() {
        let is_gone =
            |name| intakes(file).all(|route| file.auth.withholds(name, !route.auth().is_empty()));
        let gone = matches!(key, Key::Header(name) if is_gone(name));
        let gone = gone && is_asked(file);
        let rule = "is dropped before the intake looks for it, so that no request has it: name another field";
        findings.check(gone, at.key("client").index(i), rule);
    }
    let address = ingest.client.iter().position(|key| *key == Key::Ip);
    let behind = address.map_or(usize::MAX, |at| at.saturating_add(1));
    findings.check(
        behind < ingest.client.len(),
        at.key("client").index(behind),
        "is never asked: each request has the address before it",
    );
    findings.check(
        ingest.max_event_bytes > ingest.max_body_bytes,
        at.key("max_event_bytes"),
        "must not be larger than `max_body_bytes`",
    );
    findings.check(
        ingest.max_event_bytes < LEAST_EVENT,
        at.key("max_event_bytes"),
        "must be at least \"256B\": the required members must fit",
    );
    findings.check(
        ingest.max_body_bytes > LARGEST_BODY,
        at.key("max_body_bytes"),
        "must be at most \"1GiB\"",
    );
    check_queue(&ingest.queue, &at.key("queue"), findings);
    let in_memory = match &ingest.queue {
        LogQueue::Memory(queue) => Some((queue.max_bytes, "max_bytes")),
        LogQueue::Disk(queue) => Some((queue.max_memory, "max_memory")),
        _ => None,
    };
    if let Some((most, key)) = in_memory {
        findings.check(
            fills_memory(file, most),
            at.key("queue").key(key),
            "must be below the share `shed_at` of `server.memory.limit`: the gateway refuses other requests from there on",
        );
    }
    if let LogSink::Elasticsearch(sink) = &ingest.sink {
        let rule = "must hold at least one URL, such as [\"http://127.0.0.1:9200\"]";
        let nodes = at.key("sink").key("nodes");
        findings.check(sink.nodes.is_empty(), nodes.clone(), rule);
        let mut listed = HashSet::new();
        for (i, node) in sink.nodes.iter().enumerate() {
            let rule = "is listed twice: it would get twice the requests";
            findings.check(!listed.insert(place(node)), nodes.index(i), rule);
        }
    }
}

fn intakes(file: &File) -> impl Iterator<Item = &RouteTable> {
    let is_one = |route: &&RouteTable| route.service == Some(Service::LogIngest);
    file.routes.iter().filter(is_one)
}

fn is_asked(file: &File) -> bool {
    intakes(file).next().is_some()
}

/// Whether the process has so much in memory that it refuses requests before the queue of its log intake, which may take so much
/// of it, is full.
fn fills_memory(file: &File, most: u64) -> bool {
    let memory = &file.server.memory;
    memory.mode == Mode::Enforce
        && file.lanes.mode == Mode::Enforce
        && is_asked(file)
        && most as f64 >= memory.shed_at.get() * memory.limit as f64
}

/// Where a URL leads, in one form for all ways to write it.
fn place(url: &HttpUrl) -> (bool, String, u16, &str) {
    let uri = url.uri();
    let tls = uri.scheme_str() == Some("https");
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    (tls, host, port, uri.path().trim_end_matches('/'))
}

fn check_queue(queue: &LogQueue, at: &KeyPath, findings: &mut Findings) {
    match queue {
        LogQueue::Memory(_) | LogQueue::Sqs(_) => {}
        LogQueue::Disk(queue) => findings.check(
            queue.max_memory < LEAST_MEMORY,
            at.key("max_memory"),
            "must be at least \"4MiB\"",
        ),
        LogQueue::Redis(queue) => {
            let redis = matches!(queue.url.scheme(), "redis" | "rediss");
            findings.check(
                !redis,
                at.key("url"),
                "must start with redis:// or rediss://",
            );
            findings.check(
                queue.stream.is_empty(),
                at.key("stream"),
                "must not be empty",
            );
        }
        LogQueue::Nats(queue) => {
            let nats = matches!(queue.url.scheme(), "nats" | "tls");
            findings.check(!nats, at.key("url"), "must start with nats:// or tls://");
            findings.check(
                queue.stream.is_empty(),
                at.key("stream"),
                "must not be empty",
            );
        }
        LogQueue::Kafka(queue) => {
            let listed = !queue.brokers.is_empty()
                && queue.brokers.iter().all(|broker| host_and_port(broker));
            findings.check(
                !listed,
                at.key("brokers"),
                "must hold at least one host:port, such as [\"127.0.0.1:9092\"]",
            );
            findings.check(queue.topic.is_empty(), at.key("topic"), "must not be empty");
        }
    }
}

fn host_and_port(broker: &str) -> bool {
    broker.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
            && port.parse().is_ok_and(|port: u16| port > 0)
    })
}
