//! Connections to upstreams that speak HTTP/2.

use std::collections::BTreeSet;

use gw_core::Mode;

use crate::config::finding::{Findings, KeyPath};
use crate::config::table::{File, Protocol};

/// Whether each thread can have a connection to each endpoint: they are not shared between threads, so that one without would
/// wait as long as the others have something to send.
pub(super) fn check(file: &File, findings: &mut Findings) {
    for (name, upstream) in &file.upstreams {
        if upstream.protocol != Protocol::Http2 {
            continue;
        }
        let threads = sending(file, name);
        let least = threads.saturating_mul(upstream.endpoints.len());
        let most = usize::try_from(upstream.pool.max_connections.get()).unwrap_or(usize::MAX);
        let each = match threads {
            1 => "the one thread".to_owned(),
            _ => format!("each of {threads} threads"),
        };
        findings.check(
            most < least,
            KeyPath::of("upstreams")
                .key(name)
                .key("pool")
                .key("max_connections"),
            format!(
                "must be at least {least}: over HTTP/2 {each} has a connection to each endpoint"
            ),
        );
    }
}

/// How many threads may send to the upstream.
fn sending(file: &File, upstream: &str) -> usize {
    let routes = file.routes.iter();
    let routes = routes.filter(|route| route.upstream.as_deref() == Some(upstream));
    let default = &file.server.default_lane;
    let lanes: BTreeSet<_> = routes
        .map(|route| route.lane.as_ref().unwrap_or(default))
        .collect();
    let (mut own, mut shared) = (0_usize, false);
    for name in lanes {
        let lane = file.lanes.lane.get(name);
        let Some(lane) = lane.filter(|lane| lane.threads.is_some()) else {
            shared = true;
            continue;
        };
        // What an `off` lane lets pass stays on the threads that it came in on: the server's, or those of its listeners.
        let stays = file.lanes.mode.milder(lane.mode) == Mode::Off;
        shared |= stays;
        if !(stays && lane.listen.is_empty()) {
            own = own.saturating_add(lane.thread_count());
        }
    }
    match shared {
        true => own.saturating_add(file.server.thread_count()),
        false => own,
    }
}
