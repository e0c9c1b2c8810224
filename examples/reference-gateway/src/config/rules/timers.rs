//! Timers that could never fire.

use crate::config::finding::{Findings, KeyPath};
use crate::config::table::RouteTable;

/// A timer that is longer than the one around it. Defaults never are, so what is reported was
/// written.
pub(super) fn check(routes: &[RouteTable], findings: &mut Findings) {
    for (i, route) in routes.iter().enumerate() {
        let at = KeyPath::of("routes").index(i).key("timeouts");
        let timers = &route.timeouts;
        let rule = "is longer than `request` and could never end anything: make it shorter";
        findings.check(
            timers.longest_attempt() > timers.request,
            at.key("attempt"),
            rule,
        );
        findings.check(timers.idle() > timers.request, at.key("idle"), rule);
        let rule = "is longer than the attempt it is part of: make it shorter";
        findings.check(
            timers.first_byte() > timers.longest_attempt(),
            at.key("first_byte"),
            rule,
        );
    }
}
