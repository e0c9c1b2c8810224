//! Lanes.

use std::time::Duration;

use crate::config::finding::{Findings, KeyPath};
use crate::config::table::{File, Total};

/// Shares are decimal fractions: three of them may miss their sum by a rounding error.
const ROUNDING: f64 = 1e-9;

/// As many as a bulkhead has.
const MOST: u32 = 64;

/// As long as a bulkhead lets a place be held.
const LONGEST_HOLD: Duration = Duration::from_secs(24 * 60 * 60);

pub(super) fn check(file: &File, findings: &mut Findings) {
    let lanes = &file.lanes;
    let at = KeyPath::of("lanes");
    let sum = lanes.guaranteed();
    if sum > 1.0 + ROUNDING {
        let rule = format!("guaranteed shares add up to {sum:.2}: together they may be 1 at most");
        findings.at(at.key("lane"), rule);
    }
    // Every lane gets at least one place.
    let least = match lanes.total {
        Total::Fixed(total) => (at.key("total"), total),
        Total::Adaptive { min, .. } => (at.key("total").key("min"), min),
    };
    let many = lanes.lane.len() + usize::from(lanes.lacks_core(&file.server.default_lane));
    let many = u32::try_from(many).unwrap_or(u32::MAX);
    findings.check(
        many > MOST,
        at.key("lane"),
        format!("there are {many} lanes with the default one: {MOST} are the most"),
    );
    findings.check(
        least.1.get() < many,
        least.0,
        format!("must be at least the number of lanes, {many}"),
    );

    for (name, lane) in &lanes.lane {
        let at = at.key("lane").key(name);
        findings.check(
            lane.cap < lane.guaranteed,
            at.key("cap"),
            "must not be below `guaranteed`",
        );
        findings.check(
            lane.max_hold > Some(LONGEST_HOLD),
            at.key("max_hold"),
            "must be at most \"24h\"",
        );
        findings.check(
            !lane.listen.is_empty() && lane.threads.is_none(),
            at.key("listen"),
            "only goes with `threads`: a listener isolates nothing on a shared runtime",
        );
        findings.check(
            lane.nice.is_some() && lane.threads.is_none(),
            at.key("nice"),
            "only goes with `threads`: the server's are there for all lanes",
        );
    }
}
