//! What holds for requests that match no route, and for the process.

use std::ops::RangeInclusive;
use std::time::Duration;

use gw_retry::RetryLayer;
use http::{HeaderName, header};

use super::names::Names;
use crate::config::finding::{Findings, KeyPath};
use crate::config::table::{File, NotFound};

/// The rule that [`is_taken`] tells of.
pub(super) const TAKEN: &str =
    "must not be a field that HTTP itself gives a meaning: choose another name";

/// No longer timer is taken by the server.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

/// By so much less the load falls again.
const MEMORY_FALL: f64 = 0.05;

/// The server's parser takes heads of 1 MiB at the most, and is let take about twice as much as passes: what is over the limit gets
/// its envelope.
const HEADS: RangeInclusive<u64> = 1 << 10..=1 << 19;

const HEADER_LISTS: RangeInclusive<u64> = 1 << 10..=1 << 20;

/// No `http::Uri` is longer.
const LONGEST_URI: u64 = 65_534;

/// Whether a field frames messages or steers the connection; with a meaning of ours it would break both.
pub(super) fn is_taken(name: &HeaderName) -> bool {
    const TAKEN: [HeaderName; 10] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::DATE,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    TAKEN.contains(name)
}

/// The rule that [`is_ours`] tells of.
pub(super) const OURS: &str = "must not be a field that the gateway itself sets or drops on the way to upstreams: choose another name";

/// Whether a field could not keep another meaning on its way through the gateway.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    const OURS: [HeaderName; 17] = [
        header::AUTHORIZATION,
        header::FORWARDED,
        header::MAX_FORWARDS,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::VIA,
        HeaderName::from_static("grpc-previous-rpc-attempts"),
        HeaderName::from_static("grpc-timeout"),
        HeaderName::from_static("http2-settings"),
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("tracestate"),
        HeaderName::from_static("x-forwarded-for"),
        HeaderName::from_static("x-forwarded-host"),
        HeaderName::from_static("x-forwarded-proto"),
        RetryLayer::ATTEMPT,
    ];
    OURS.contains(name)
}

const UNASKED: &str = "is never asked with `not_found = \"early\"`, which answers unmatched paths before: write \"after-auth\", or leave \
                       this out";

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

    let early = file.server.not_found == NotFound::Early;
    let asked = [
        ("default_auth", &file.server.default_auth),
        ("default_limits", &file.server.default_limits),
    ];
    for (key, names) in asked {
        findings.check(early && !names.is_empty(), at.key(key), UNASKED);
    }

    let header = &file.server.request_id.header;
    let request_id = at.key("request_id").key("header");
    findings.check(is_taken(header), request_id.clone(), TAKEN);
    findings.check(is_ours(header), request_id, OURS);

    let server = &file.server;
    let timers = [
        ("header_timeout", server.header_timeout),
        ("write_stall_timeout", server.write_stall_timeout),
        ("keep_alive_timeout", server.keep_alive_timeout),
        ("shutdown_grace", server.shutdown_grace),
        ("drain_delay", server.drain_delay),
    ];
    for (key, timer) in timers {
        findings.check(timer > LONGEST, at.key(key), "must be at most \"24h\"");
    }
    findings.check(
        !HEADER_LISTS.contains(&server.http2.max_header_list_bytes),
        at.key("http2").key("max_header_list_bytes"),
        "must be between \"1KiB\" and \"1MiB\"",
    );

    findings.check(
        !HEADS.contains(&file.server.max_header_bytes),
        at.key("max_header_bytes"),
        "must be between \"1KiB\" and \"512KiB\"",
    );

    findings.check(
        file.server.max_uri_bytes > LONGEST_URI,
        at.key("max_uri_bytes"),
        "must be at most \"65534B\": longer ones cannot be read",
    );

    let memory = &file.server.memory;
    findings.check(
        memory.shed_at.get() <= MEMORY_FALL,
        at.key("memory").key("shed_at"),
        "must be above 0.05: shedding ends when 0.05 less is in use",
    );
    findings.check(
        memory.shed_at >= memory.refuse_at,
        at.key("memory").key("shed_at"),
        "must be below `refuse_at`: what is sheddable goes first",
    );
}
