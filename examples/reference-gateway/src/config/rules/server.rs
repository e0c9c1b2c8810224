//! What holds for requests that match no route, and for the process.

use super::names::Names;
use crate::config::finding::{Findings, KeyPath};
use crate::config::table::File;

pub(super) fn check(file: &File, findings: &mut Findings) {
    let at = KeyPath::of("server");
    let names = Names::of(file);
    names.authenticators(&file.server.default_auth, &at.key("default_auth"), findings);
    names.early_limits(
        &file.server.default_limits,
        &at.key("default_limits"),
        findings,
    );
    names.lane(&file.server.default_lane, at.key("default_lane"), findings);

    let memory = &file.server.memory;
    findings.check(
        memory.shed_at >= memory.refuse_at,
        at.key("memory").key("shed_at"),
        "must be below `refuse_at`: what is sheddable goes first",
    );
}
