//! What no single value can know: whether names exist, shares add up and timers fit into one
//! another.

mod auth;
mod http2;
mod lanes;
mod listeners;
mod log_ingest;
mod names;
mod routes;
mod server;
mod timers;
mod upstreams;

use super::finding::Findings;
use super::table::File;

/// Reports every broken rule.
pub(super) fn check(file: &File, findings: &mut Findings) {
    names::check(file, findings);
    listeners::check(file, findings);
    server::check(file, findings);
    auth::check(file, findings);
    lanes::check(file, findings);
    upstreams::check(&file.upstreams, findings);
    http2::check(file, findings);
    routes::check(file, findings);
    timers::check(&file.routes, findings);
    log_ingest::check(file, findings);
}
