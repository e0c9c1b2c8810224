use std::time::{Duration, SystemTime};

use super::json::Object;
use crate::observation::Observed;
use crate::vocabulary::Class;

/// The longest path in a line, in bytes as they are written; what is longer is cut.
const MAX_PATH: usize = 1024;
/// The longest user agent, likewise.
const MAX_USER_AGENT: usize = 256;
/// The longest name of a consumer, user, route, lane or upstream, likewise.
const MAX_NAME: usize = 128;
const MAX_METHOD: usize = 32;

/// The longest line, in bytes: what the bounds of its texts, and 28 keys with numbers, come to at most.
pub(super) const MAX_LINE: usize = 4096;

/// Appends the line of one request.
pub(super) fn write(out: &mut Vec<u8>, observed: &Observed<'_>, sampled_rate: f64) {
    let exchange = observed.exchange;
    let times = &observed.times;
    // The wall clock is only read for lines that are kept.
    let began = before(SystemTime::now(), times.total);
    let mut line = Object::begin(out);
    line.plain("timestamp", humantime::format_rfc3339_millis(began));
    if let Some(id) = &exchange.request_id {
        // Checked when it was made: it has neither quotes nor backslashes.
        line.word("request_id", id.as_str());
    }
    line.hex("trace_id", &observed.trace.trace_id.bytes());
    line.hex("span_id", &observed.trace.span_id.bytes());
    line.text("method", observed.method.as_str().as_bytes(), MAX_METHOD);
    line.text("path", observed.path.as_bytes(), MAX_PATH);
    if let Some(status) = observed.status {
        line.integer("status", status.as_u16().into());
    }
    line.millis("latency_ms", times.total);
    if exchange.upstream_time.is_some() {
        line.millis("upstream_latency_ms", times.upstream);
    }
    line.millis("gateway_ms", times.gateway);
    line.millis("client_wait_ms", times.client);
    if let Some(client) = observed.client {
        line.plain("client_ip", client);
    }
    if let Some(agent) = observed.user_agent {
        line.text("user_agent", agent, MAX_USER_AGENT);
    }
    let identity = exchange.identity.as_ref();
    let names = [
        ("consumer_id", identity.and_then(|it| it.consumer())),
        ("user_id", identity.and_then(|it| it.user())),
        ("route", exchange.route.as_ref().map(|it| it.name())),
        ("lane", exchange.lane.as_ref().map(|it| it.as_str())),
        ("upstream", exchange.upstream.as_ref().map(|it| it.as_str())),
    ];
    for (key, name) in names {
        if let Some(name) = name {
            line.text(key, name.as_bytes(), MAX_NAME);
        }
    }
    line.integer("attempts", exchange.attempts.into());
    line.integer("request_size", exchange.request_size);
    line.integer("response_size", observed.response_size);
    if let Some(left) = exchange.rate_limit_remaining {
        line.integer("rate_limit_remaining", left);
    }
    line.plain("protocol", format_args!("{:?}", observed.version));
    let verdict = &observed.verdict;
    if let Some(code) = verdict.code {
        line.text("code", code.name().as_bytes(), MAX_NAME);
        if let Some(cause) = exchange.cause {
            line.word("cause", cause);
        }
    }
    if let Some(source) = verdict.source {
        line.word("response_source", source.as_str());
    }
    line.word("ended_by", verdict.ended_by.as_str());
    line.word("phase", verdict.phase.as_str());
    line.share("sampled_rate", sampled_rate);
    line.end();
}

/// So long before `now`, but not before the epoch: a device that has not been told the time begins there, and a time before it
/// cannot be written.
fn before(now: SystemTime, ago: Duration) -> SystemTime {
    let then = now.checked_sub(ago);
    then.map_or(SystemTime::UNIX_EPOCH, |then| {
        then.max(SystemTime::UNIX_EPOCH)
    })
}

/// What became of lines that are not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Left out because the class's budget for a second was used up; each stands for the class's share of requests.
    OverBudget(Class),
    /// Lost on the way, and why.
    Lost(&'static str),
}

/// Appends the line that stands for lines which are not there.
pub(super) fn write_summary(out: &mut Vec<u8>, missing: Missing, lines: u64, sampled_rate: f64) {
    let mut line = Object::begin(out);
    let now = before(SystemTime::now(), Duration::ZERO);
    line.plain("timestamp", humantime::format_rfc3339_millis(now));
    match missing {
        Missing::OverBudget(class) => {
            line.word("summary", "over_budget");
            line.word("class", class.as_str());
            line.integer("lines", lines);
            line.share("sampled_rate", sampled_rate);
        }
        Missing::Lost(reason) => {
            line.word("summary", reason);
            line.integer("lines", lines);
        }
    }
    line.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Story: on a device whose clock stood at the epoch, the first requests that took longer than it had run panicked when they
    /// ended.
    #[test]
    fn a_clock_at_the_epoch() {
        let epoch = SystemTime::UNIX_EPOCH;
        let second = Duration::from_secs(1);
        for (now, ago, text) in [
            (epoch, second, "1970-01-01T00:00:00.000Z"),
            (epoch - second, Duration::ZERO, "1970-01-01T00:00:00.000Z"),
            (epoch, Duration::MAX, "1970-01-01T00:00:00.000Z"),
            (epoch + 2 * second, second, "1970-01-01T00:00:01.000Z"),
        ] {
            let written = humantime::format_rfc3339_millis(before(now, ago));
            assert_eq!(written.to_string(), text);
        }
    }
}
