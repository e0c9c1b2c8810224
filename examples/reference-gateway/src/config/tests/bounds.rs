//! Whole numbers with bounds of their own.

use super::{LEAST, errors, valid};

/// Where `#` is the number: its key and the bounds.
const BOUNDS: &[(&str, &str, u64, u64)] = &[
    ("[server]\nthreads = #", "server.threads", 0, 1024),
    (
        "[server]\nmax_connections = #",
        "server.max_connections",
        1,
        1_000_000,
    ),
    (
        "[server]\nmax_connections_per_ip = #",
        "server.max_connections_per_ip",
        1,
        1_000_000,
    ),
    ("[server]\nmax_headers = #", "server.max_headers", 1, 4096),
    (
        "[server]\nhttp2.max_concurrent_streams = #",
        "server.http2.max_concurrent_streams",
        1,
        10_000,
    ),
    (
        "[server]\nhttp2.max_pending_resets = #",
        "server.http2.max_pending_resets",
        1,
        10_000,
    ),
    (
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nprefix6 = #",
        "limits.x.prefix6",
        16,
        128,
    ),
    (
        "[lanes]\ntotal = { adaptive = \"aimd\", min = #, max = 1000000 }",
        "lanes.total.min",
        1,
        1_000_000,
    ),
    (
        "[lanes]\ntotal = { adaptive = \"aimd\", min = 1, max = # }",
        "lanes.total.max",
        1,
        1_000_000,
    ),
    (
        "[lanes.lane.core]\nguaranteed = 0.1\nqueue = #",
        "lanes.lane.core.queue",
        0,
        1_000_000,
    ),
    (
        "[lanes.lane.core]\nguaranteed = 0.1\nthreads = #",
        "lanes.lane.core.threads",
        1,
        256,
    ),
    (
        "[lanes.lane.core]\nguaranteed = 0.1\nthreads = 1\nnice = #",
        "lanes.lane.core.nice",
        0,
        19,
    ),
    (
        "[lanes.lane.core]\nguaranteed = 0.1\nper_key = { key = \"ip\", max = # }",
        "lanes.lane.core.per_key.max",
        1,
        1_000_000,
    ),
    (
        "[upstreams.b]\nendpoints = [\"http://h\"]\npool.max_connections = #",
        "upstreams.b.pool.max_connections",
        1,
        1_000_000,
    ),
    (
        "[upstreams.b]\nendpoints = [\"http://h\"]\npool.max_idle = #",
        "upstreams.b.pool.max_idle",
        0,
        1_000_000,
    ),
    (
        "[upstreams.b]\nendpoints = [\"http://h\"]\npool.queue = #",
        "upstreams.b.pool.queue",
        0,
        1_000_000,
    ),
    (
        "[upstreams.b]\nendpoints = [\"http://h\"]\neject.max_percent = #",
        "upstreams.b.eject.max_percent",
        1,
        100,
    ),
    (
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker.consecutive = #",
        "upstreams.b.breaker.consecutive",
        1,
        1_000_000,
    ),
    (
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker.min_calls = #",
        "upstreams.b.breaker.min_calls",
        1,
        1_000_000,
    ),
    (
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker.probes = #",
        "upstreams.b.breaker.probes",
        1,
        31,
    ),
    (
        "[[routes]]\nname = \"x\"\nmatch = { path = \"/x\" }\nupstream = \"a\"\npublic = true\nretry.max_attempts = #",
        "routes[0].retry.max_attempts",
        1,
        10,
    ),
    (
        "[observe]\naccess_log.budget_per_second = #",
        "observe.access_log.budget_per_second",
        1,
        u32::MAX as u64,
    ),
    (
        "[log_ingest]\nmax_events = #",
        "log_ingest.max_events",
        1,
        1_000_000,
    ),
];

fn file(text: &str, number: i128) -> String {
    format!("{}\n{LEAST}", text.replacen('#', &number.to_string(), 1))
}

/// Story: 100,000 threads passed `check`, and the system refused them once the gateway had said where it listens.
#[test]
fn what_is_beyond_them_is_refused_and_told_both() {
    for (text, key, least, most) in BOUNDS {
        let beyond = [i128::from(*least) - 1, i128::from(*most) + 1];
        for number in beyond.into_iter().chain([i64::MAX.into(), u64::MAX.into()]) {
            let found = errors(&file(text, number));
            let found: Vec<_> = found
                .iter()
                .map(|error| (error.key.as_str(), error.message.clone()))
                .collect();
            let rule = format!("must be a whole number from {least} to {most}, not {number}");
            assert_eq!(found, [(*key, rule)]);
        }
    }
}

#[test]
fn a_gateway_can_be_built_at_either_end() {
    for (text, _, least, most) in BOUNDS {
        for number in [*least, *most] {
            let config = valid(&file(text, number.into()));
            crate::gateway::check(&config).unwrap_or_else(|fault| panic!("{text}: {fault}"));
        }
    }
}

/// Story: a size that the parser's, which is twice as large, does not allow was refused with bounds that it kept to.
#[test]
fn heads_have_the_size_that_is_written() {
    let text = |size| format!("[server]\nmax_header_bytes = \"{size}\"\n{LEAST}");
    for size in ["1KiB", "512KiB"] {
        let built = crate::gateway::check(&valid(&text(size)));
        built.unwrap_or_else(|fault| panic!("{size}: {fault}"));
    }
    for size in ["1023B", "524289B", "768KiB", "2GiB"] {
        let found = errors(&text(size));
        let error = &found[0];
        assert_eq!(
            (error.key.as_str(), error.line),
            ("server.max_header_bytes", 2)
        );
        assert_eq!(error.message, "must be between \"1KiB\" and \"512KiB\"");
    }
}
