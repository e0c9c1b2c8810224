//! Handles are registered when they are first used, so that a recorder installed after the layer was built still
//! counts, and are kept: a request looks nothing up in the registry. Each set of labels has a bound; what is beyond it
//! is counted under labels that stand for the rest, and in [`OVERFLOW`].

mod bounded;
mod requests;
mod route;

use std::fmt;
use std::sync::OnceLock;

use metrics::{Counter, Gauge, Unit};

pub(crate) use self::requests::{RequestMetrics, RouteIndex};
use crate::access_log::Outcome;

const REQUESTS: &str = "gateway_requests_total";
const DURATION: &str = "gateway_request_duration_seconds";
const OVERHEAD: &str = "gateway_overhead_duration_seconds";
const UPSTREAM_DURATION: &str = "gateway_upstream_request_duration_seconds";
const UPSTREAM_CALLS: &str = "gateway_upstream_calls_per_request";
const REJECTIONS: &str = "gateway_rejections_total";
const ACTIVE: &str = "gateway_active_requests";
const ABORTS: &str = "gateway_client_aborts_total";
const LINES: &str = "gateway_access_log_lines_total";
const REOPENING_FAILS: &str = "gateway_access_log_reopening_fails";
const OVERFLOW: &str = "gateway_label_overflow_total";

/// The buckets that suit the histograms of this crate, by name: without any, exporters make summaries of them, which
/// cannot be added up over instances.
pub const HISTOGRAM_BUCKETS: &[(&str, &[f64])] = &[
    (DURATION, SECONDS),
    (UPSTREAM_DURATION, SECONDS),
    (
        OVERHEAD,
        &[
            0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
        ],
    ),
    (UPSTREAM_CALLS, &[0.0, 1.0, 2.0, 3.0, 5.0, 8.0]),
];

/// The boundaries that OpenTelemetry recommends for the duration of requests.
const SECONDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// Registers help texts and units with the current recorder. Call it once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(
        REQUESTS,
        Unit::Count,
        "Requests that have ended, by route, method, status (none if there was no answer) and source of the answer \
         (gateway, upstream, service, none)."
    );
    metrics::describe_histogram!(
        DURATION,
        Unit::Seconds,
        "Time from a request's head to the end of its answer."
    );
    metrics::describe_histogram!(
        OVERHEAD,
        Unit::Seconds,
        "Part of the duration in which neither the upstream nor the client was waited for."
    );
    metrics::describe_histogram!(
        UPSTREAM_DURATION,
        Unit::Seconds,
        "Part of the duration in which the upstream was waited for, over all attempts."
    );
    metrics::describe_histogram!(
        UPSTREAM_CALLS,
        Unit::Count,
        "How often an upstream was tried for one request."
    );
    metrics::describe_counter!(
        REJECTIONS,
        Unit::Count,
        "Requests that the gateway refused or failed, by stage and code."
    );
    metrics::describe_gauge!(
        ACTIVE,
        Unit::Count,
        "Requests whose answer has not ended yet."
    );
    metrics::describe_counter!(
        ABORTS,
        Unit::Count,
        "Requests given up by the client, by how far they had come (request, upstream, response)."
    );
    metrics::describe_counter!(
        LINES,
        Unit::Count,
        "What became of the access log's line of each request (written, sampled_out, over_budget, lost_full, \
         lost_write, lost_closed)."
    );
    metrics::describe_gauge!(
        REOPENING_FAILS,
        Unit::Count,
        "Whether the access log's file was to be opened anew and could not be, so that the old one is written to (0, 1)."
    );
    metrics::describe_counter!(
        OVERFLOW,
        Unit::Count,
        "Observations counted under labels that stand for the rest, because there was no room for their own."
    );
}

/// What stands for the rest.
const OTHER: &str = "other";
/// What stands for an answer that there was not.
const NONE: &str = "none";

/// Counts what becomes of the access log's lines, and tells whether they go where they should.
#[derive(Default)]
pub(crate) struct LineMetrics(OnceLock<LogMetrics>);

struct LogMetrics {
    lines: [Counter; Outcome::ALL.len()],
    reopening_fails: Gauge,
}

impl LineMetrics {
    pub(crate) fn register(&self) {
        self.0.get_or_init(|| LogMetrics {
            lines: Outcome::ALL
                .map(|outcome| metrics::counter!(LINES, "outcome" => outcome.as_str())),
            reopening_fails: metrics::gauge!(REOPENING_FAILS),
        });
    }

    pub(crate) fn add(&self, outcome: Outcome, lines: u64) {
        let registered = self.0.get();
        if let Some(counter) = registered.and_then(|it| it.lines.get(outcome as usize)) {
            counter.increment(lines);
        }
    }

    pub(crate) fn reopening_fails(&self, fails: bool) {
        if let Some(it) = self.0.get() {
            it.reopening_fails.set(f64::from(fails));
        }
    }
}

impl fmt::Debug for LineMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registered = self.0.get().is_some();
        f.debug_tuple("LineMetrics").field(&registered).finish()
    }
}
