//! Values with a unit or a form of their own.

use super::super::{Case, case};
use super::{ADDRESS, CLIENT, DURATION, EARLY, FROM_ONE, KEY, LARGE, MISSING, NETWORK, RATE, SIZE};

pub(super) const CASES: &[Case] = &[
    // Units.
    case(
        "[server]\nlisten = [\"127.0.0.1:80\", »\"localhost:81\"]",
        "server.listen[1]",
        ADDRESS,
    ),
    case("[health]\nlisten = »\"9902\"", "health.listen", ADDRESS),
    case(
        "[server]\nheader_timeout = »\"10 s\"",
        "server.header_timeout",
        DURATION,
    ),
    case(
        "[server]\nheader_timeout = »\"10\"",
        "server.header_timeout",
        DURATION,
    ),
    case(
        "[server]\nheader_timeout = »10",
        "server.header_timeout",
        "must be a string in quotes, not 10",
    ),
    case(
        "[server]\nheader_timeout = »\"0s\"",
        "server.header_timeout",
        "must be longer than zero, such as \"1s\"",
    ),
    case(
        "[server]\nkeep_alive_timeout = »\"9000h\"",
        "server.keep_alive_timeout",
        "must not be longer than a year, \"8760h\"",
    ),
    case(
        "[server]\nmax_header_bytes = »\"32KB\"",
        "server.max_header_bytes",
        SIZE,
    ),
    case(
        "[server]\nmax_header_bytes = »\"32\"",
        "server.max_header_bytes",
        SIZE,
    ),
    case(
        "[server]\nmax_header_bytes = »\"18446744073709551615GiB\"",
        "server.max_header_bytes",
        LARGE,
    ),
    case(
        "[server]\nmax_uri_bytes = »\"0B\"",
        "server.max_uri_bytes",
        "must be more than zero, such as \"64KiB\"",
    ),
    case(
        "[server]\nmax_body_bytes = »\"99999999999999999999B\"",
        "server.max_body_bytes",
        LARGE,
    ),
    case(
        "[server]\nheader_timeout = »\"99999999999999999999ms\"",
        "server.header_timeout",
        "must not be longer than a year, \"8760h\"",
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = »\"100\"",
        "limits.x.rate",
        RATE,
    ),
    case(
        "[limits.x]\nkey = »\"cookie\"\nrate = \"1/s\"",
        "limits.x.key",
        KEY,
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nburst = »0",
        "limits.x.burst",
        FROM_ONE,
    ),
    case(
        "[ip]\nallow = [\"10.0.0.0/8\", »\"10.0.0.0/33\"]",
        "ip.allow[1]",
        NETWORK,
    ),
    case(
        "[server]\ntrusted_proxies = [»\"proxy.internal\"]",
        "server.trusted_proxies[0]",
        NETWORK,
    ),
    case(
        "[server]\ntrusted_proxies = [»\"10.0.0.1/8\"]",
        "server.trusted_proxies[0]",
        "has address bits beyond its prefix: write its first address, or a longer prefix",
    ),
    case(
        "[server]\nrequest_id = { header = »\"x id\" }",
        "server.request_id.header",
        "must be a header name, such as \"x-request-id\"",
    ),
    case(
        "[response]\nremove_headers = [»\"\"]",
        "response.remove_headers[0]",
        "must be a header name, such as \"x-request-id\"",
    ),
    case(
        "[response]\nsecurity_headers = { hsts = »\" \" }",
        "response.security_headers.hsts",
        "must be a header value without white space around it",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", headers = { x-y = »\" 1 \" } }",
        "routes[0].match.headers.x-y",
        "must be a header value without white space around it",
    ),
    case(
        "[response]\nsecurity_headers = { hsts = »\"a\\nb\" }",
        "response.security_headers.hsts",
        "must be a header value: visible characters on one line",
    ),
    case(
        "[admin]\ntoken_file = »\"\"",
        "admin.token_file",
        "must be the path of a file or folder",
    ),
    case(
        "[observe]\ntrace = { sample = »1.5 }",
        "observe.trace.sample",
        "must be a share from 0 to 1, such as 0.25",
    ),
    case(
        "[observe]\naccess_log = { normal = »nan }",
        "observe.access_log.normal",
        "must be a share from 0 to 1, such as 0.25",
    ),
    case(
        "[observe]\ntrace = { otlp = »\"127.0.0.1:4318\" }",
        "observe.trace.otlp",
        "must be an http:// or https:// URL without user and fragment",
    ),
    case(
        "[server]\nmemory = { shed_at = »0 }",
        "server.memory.shed_at",
        "must be a share from 0.000001 to 1, such as 0.25",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = »-0.1",
        "lanes.lane.x.guaranteed",
        "must be a share from 0 to 1, such as 0.25",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0\ncap = »0",
        "lanes.lane.x.cap",
        "must be a share from 0.000001 to 1, such as 0.25",
    ),
    case(
        "[lanes]\ntotal = »0",
        "lanes.total",
        "must be a whole number from 1 to 1000000, or { adaptive = \"gradient2\", min = 20, max = 2000 }, not 0",
    ),
    case(
        "[lanes]\ntotal = »\"512\"",
        "lanes.total",
        "must be a whole number from 1 to 1000000, or { adaptive = \"gradient2\", min = 20, max = 2000 }, not a string",
    ),
    case(
        "[lanes]\ntotal = { adaptive = \"aimd\", min = »9, max = 8 }",
        "lanes.total.min",
        "must have `min` not above `max`",
    ),
    case(
        "[lanes]\ntotal = { adaptive = \"aimd\", max = »8 }",
        "lanes.total.max",
        "must have `min` not above `max`",
    ),
    case(
        "[lanes]\ntotal = { adaptive = \"aimd\", »maximum = 8 }",
        "lanes.total.maximum",
        "unknown key; known here: adaptive, min, max",
    ),
    case(
        "[lanes]\ntotal = »{ min = 8 }",
        "lanes.total.adaptive",
        MISSING,
    ),
    case(
        "[upstreams.b]\nendpoints = [»\"h:80\"]",
        "upstreams.b.endpoints[0]",
        "must be http:// or https://, a host and a port, such as \"http://127.0.0.1:9001\"",
    ),
    case(
        "[upstreams.b]\nendpoints = [»\"http://h/api\"]",
        "upstreams.b.endpoints[0]",
        "must end after the port: the path of a request is sent as it came",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nhealth = { path = »\"healthz\" }",
        "upstreams.b.health.path",
        "must be a path, such as \"/healthz\"",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\neject = { max_percent = »101 }",
        "upstreams.b.eject.max_percent",
        "must be a whole number from 1 to 100, not 101",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker = { probes = »0 }",
        "upstreams.b.breaker.probes",
        "must be a whole number from 1 to 31, not 0",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker = { failure_rate = »0.0000004 }",
        "upstreams.b.breaker.failure_rate",
        "must be a share from 0.000001 to 1, such as 0.25",
    ),
    case(
        "[log_ingest]\nmax_events = »0",
        "log_ingest.max_events",
        "must be a whole number from 1 to 1000000, not 0",
    ),
    case(
        "[log_ingest]\nclient = [»\"cookie\"]",
        "log_ingest.client[0]",
        CLIENT,
    ),
    case(
        "[log_ingest]\nclient = [\"ip\", »\"user\"]",
        "log_ingest.client[1]",
        CLIENT,
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nper_key = { key = »\"consumer\", max = 8 }",
        "lanes.lane.x.per_key.key",
        EARLY,
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nper_key = { key = »\"cookie\", max = 8 }",
        "lanes.lane.x.per_key.key",
        EARLY,
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\neject = { max_percent = »\"50\" }",
        "upstreams.b.eject.max_percent",
        "must be a whole number from 1 to 100, not a string",
    ),
];
