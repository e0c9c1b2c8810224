use super::meter::{Count, Level, QueueLabel};
use super::{add, place};
use crate::batch::Class;
use crate::event::ViolationCode;
use crate::intake::Format;

const REQUESTS: &str = "gateway_logingest_requests_total";
const EVENTS: &str = "gateway_logingest_events_total";
const SHADOWED: &str = "gateway_logingest_shadowed_events_total";
const BYTES: &str = "gateway_logingest_bytes_total";
const REJECTS: &str = "gateway_logingest_reject_total";
const IMBALANCE: &str = "gateway_logingest_ledger_imbalance";
const LOOPS: &str = "gateway_logingest_loops_total";

#[cfg(feature = "metrics")]
pub(super) fn describe() {
    use metrics::{Unit, describe_counter, describe_gauge};

    describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests to the log intake, by the code of the answer (ACCEPTED for a receipt) and the format of the body."
    );
    describe_counter!(
        EVENTS,
        Unit::Count,
        "Events found in bodies, by what became of them and their class."
    );
    describe_counter!(
        SHADOWED,
        Unit::Count,
        "Events that a protective rule in shadow mode would have held back, by rule."
    );
    describe_counter!(
        REJECTS,
        Unit::Count,
        "Events that did not meet the schema, by what is wrong with them."
    );
    describe_gauge!(
        IMBALANCE,
        Unit::Count,
        "Events received less events accounted for: 0, or there is a fault in the intake."
    );
    describe_counter!(
        BYTES,
        Unit::Bytes,
        "Bytes by stage: received, of bodies as far as they were read before the answer, and stored, of batches in the queue."
    );
    describe_counter!(
        LOOPS,
        Unit::Count,
        "Requests dropped because their events had gone through too many log intakes."
    );
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    Rejected,
    Suppressed,
    Collapsed,
    Shed,
    Refused,
    Abandoned,
}

/// A protective rule that only watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shadowed {
    Suppressed,
    Collapsed,
    Shed,
    AuditOnly,
}

/// The codes of answers, the last one for codes that are not listed.
const CODES: [&str; 11] = [
    "ACCEPTED",
    "MALFORMED_REQUEST",
    "METHOD_NOT_ALLOWED",
    "CLIENT_TIMEOUT",
    "BODY_TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "VALIDATION_FAILED",
    "RATE_LIMIT_EXCEEDED",
    "OVERLOADED",
    "SHUTTING_DOWN",
    "OTHER",
];
const FORMATS: [&str; 3] = ["json", "ndjson", "none"];
const OUTCOMES: [&str; 7] = [
    "accepted",
    "rejected",
    "suppressed",
    "collapsed",
    "shed",
    "refused",
    "abandoned",
];
const CLASSES: [&str; 6] = ["audit", "error", "normal", "debug", "self", "unknown"];
const RULES: [&str; 4] = ["suppressed", "collapsed", "shed", "audit_only"];

/// The metrics of one intake.
#[derive(Debug)]
pub(crate) struct IntakeMetrics {
    requests: Vec<Count>,
    events: Vec<Count>,
    shadowed: Vec<Count>,
    rejects: Vec<Count>,
    imbalance: Level,
    received: Count,
    stored: Count,
    loops: Count,
}

impl IntakeMetrics {
    /// Of the intake of this queue.
    pub(crate) fn new(queue: &QueueLabel) -> Self {
        let pairs = |name, (first, firsts): (_, &[_]), (second, seconds): (_, &[_])| {
            let mut counts = Vec::with_capacity(firsts.len() * seconds.len());
            for &a in firsts {
                for &b in seconds {
                    counts.push(Count::new(name, &[(first, a), (second, b)], queue));
                }
            }
            counts
        };
        let bytes = |stage| Count::new(BYTES, &[("stage", stage)], queue);
        let rule = |rule| Count::new(SHADOWED, &[("rule", rule)], queue);
        Self {
            requests: pairs(REQUESTS, ("code", &CODES), ("format", &FORMATS)),
            events: pairs(EVENTS, ("outcome", &OUTCOMES), ("class", &CLASSES)),
            shadowed: RULES.map(rule).into(),
            rejects: ViolationCode::ALL
                .iter()
                .map(|code| Count::new(REJECTS, &[("code", code.as_str())], queue))
                .collect(),
            imbalance: Level::new(IMBALANCE, &[], queue),
            received: bytes("received"),
            stored: bytes("stored"),
            loops: Count::new(LOOPS, &[], queue),
        }
    }

    /// A request was answered.
    pub(crate) fn request(&self, code: &'static str, format: Option<Format>) {
        let code = place(&CODES, code);
        let format = place(&FORMATS, format.map_or("none", Format::as_str));
        add(&self.requests, code * FORMATS.len() + format, 1);
    }

    /// What became of some events; their class if it is known.
    pub(crate) fn events(&self, outcome: Outcome, class: Option<Class>, events: u64) {
        let class = place(&CLASSES, class.map_or("unknown", Class::as_str));
        add(
            &self.events,
            outcome as usize * CLASSES.len() + class,
            events,
        );
    }

    /// An event does not meet the schema.
    pub(crate) fn violation(&self, code: ViolationCode) {
        add(&self.rejects, code as usize, 1);
    }

    /// How many events are unaccounted for.
    pub(crate) fn imbalance(&self, events: i64) {
        self.imbalance.set(events as f64);
    }

    /// A rule in shadow mode would have held back some events.
    pub(crate) fn shadowed(&self, rule: Shadowed, events: u64) {
        add(&self.shadowed, rule as usize, events);
    }

    /// So much of a body was read.
    pub(crate) fn received(&self, bytes: u64) {
        self.received.add(bytes);
    }

    /// A batch was stored.
    pub(crate) fn stored(&self, bytes: u64) {
        self.stored.add(bytes);
    }

    /// A request was dropped because its events went in a circle.
    pub(crate) fn looped(&self) {
        self.loops.add(1);
    }
}
