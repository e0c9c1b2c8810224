//! Names, listeners, and the server.

use super::super::{Case, case};
use super::{EARLY, LANE_NAME, NAME, OPEN_ADMIN};

const UNASKED: &str = "is never asked with `not_found = \"early\"`, which answers unmatched paths before: write \"after-auth\", or \
                       leave this out";

pub(super) const CASES: &[Case] = &[
    // Names.
    case(
        "[upstreams.»\"a b\"]\nendpoints = [\"http://h\"]",
        "upstreams.\"a b\"",
        NAME,
    ),
    case(
        "[lanes.lane.»\"\"]\nguaranteed = 0.1",
        "lanes.lane.\"\"",
        LANE_NAME,
    ),
    // Others may have dots.
    case(
        "[lanes.lane.»\"logs.v1\"]\nguaranteed = 0.1\n[upstreams.\"logs.v1\"]\nendpoints = [\"http://h\"]",
        "lanes.lane.\"logs.v1\"",
        LANE_NAME,
    ),
    // Listeners.
    case(
        "[server]\nlisten = »[]",
        "server.listen",
        "must hold at least one address, such as [\"127.0.0.1:8080\"]",
    ),
    case(
        "[server]\nlisten = [\"127.0.0.1:80\", »\"127.0.0.1:80\"]",
        "server.listen[1]",
        "is taken by server.listen[0]: choose another port",
    ),
    case(
        "[server]\nlisten = [\"0.0.0.0:80\"]\n[health]\nlisten = »\"127.0.0.1:80\"",
        "health.listen",
        "is taken by server.listen[0]: choose another port",
    ),
    case(
        "[admin]\nlisten = »\"127.0.0.1:9902\"",
        "admin.listen",
        "is taken by health.listen: choose another port",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nthreads = 1\nlisten = [»\"127.0.0.1:8080\"]",
        "lanes.lane.x.listen[0]",
        "is taken by server.listen[0]: choose another port",
    ),
    case(
        "[admin]\nlisten = »\"0.0.0.0:9901\"",
        "admin.listen",
        OPEN_ADMIN,
    ),
    case(
        "[admin]\nlisten = »\"[::]:9901\"",
        "admin.listen",
        OPEN_ADMIN,
    ),
    case(
        "[admin]\nlisten = »\"10.0.0.1:9901\"",
        "admin.listen",
        OPEN_ADMIN,
    ),
    // Server.
    case(
        "[server]\ndefault_auth = [»\"main\"]",
        "server.default_auth[0]",
        "names nothing in [auth.jwt] or [auth.api_keys]; define it, or name another",
    ),
    case(
        "[server]\ndefault_limits = [»\"per_ip\"]",
        "server.default_limits[0]",
        "names nothing in [limits]; define it, or name another",
    ),
    case(
        "[server]\ndefault_limits = [»\"x\"]\n[limits.x]\nkey = \"user\"\nrate = \"1/s\"",
        "server.default_limits[0]",
        EARLY,
    ),
    // Story: unmatched paths were answered 404 before any of these was asked.
    case(
        "[server]\nnot_found = \"early\"\ndefault_auth = »[\"k\"]\n[auth.api_keys.k]\nfile = \"f\"",
        "server.default_auth",
        UNASKED,
    ),
    case(
        "[server]\nnot_found = \"early\"\ndefault_limits = »[\"x\"]\n[limits.x]\nkey = \"ip\"\nrate = \"1/s\"",
        "server.default_limits",
        UNASKED,
    ),
    case(
        "[server]\ndefault_lane = »\"cor\"\n[lanes.lane.core]\nguaranteed = 0.1",
        "server.default_lane",
        "names nothing in [lanes.lane]; did you mean \"core\"?",
    ),
    case(
        "[server]\ndrain_delay = »\"25h\"",
        "server.drain_delay",
        "must be at most \"24h\"",
    ),
    case(
        "[server]\nheader_timeout = »\"25h\"",
        "server.header_timeout",
        "must be at most \"24h\"",
    ),
    case(
        "[server]\nshutdown_grace = »\"25h\"",
        "server.shutdown_grace",
        "must be at most \"24h\"",
    ),
    case(
        "[server]\nhttp2 = { max_header_list_bytes = »\"2MiB\" }",
        "server.http2.max_header_list_bytes",
        "must be between \"1KiB\" and \"1MiB\"",
    ),
    case(
        "[lanes.lane.core]\nguaranteed = 0.1\nmax_hold = »\"25h\"",
        "lanes.lane.core.max_hold",
        "must be at most \"24h\"",
    ),
    case(
        "[server]\nmax_uri_bytes = »\"64KiB\"",
        "server.max_uri_bytes",
        "must be at most \"65534B\": longer ones cannot be read",
    ),
    case(
        "[server]\nlisten = [\"127.0.0.1:80\", »\"[::ffff:127.0.0.1]:80\"]",
        "server.listen[1]",
        "is taken by server.listen[0]: choose another port",
    ),
    // Story: by way of the gateway, anybody could ask the admin listener as from loopback.
    case(
        "[upstreams.b]\nendpoints = [\"http://h:9901\", »\"http://127.0.0.1:9901\"]",
        "upstreams.b.endpoints[1]",
        "is this gateway's own admin.listen: name another one",
    ),
    case(
        "[upstreams.b]\nendpoints = [»\"http://localhost:8080\"]",
        "upstreams.b.endpoints[0]",
        "is this gateway's own server.listen[0]: name another one",
    ),
    case(
        "[server]\nlisten = [\"[::]:80\"]\n[upstreams.b]\nendpoints = [»\"http://127.0.0.1\"]",
        "upstreams.b.endpoints[0]",
        "is this gateway's own server.listen[0]: name another one",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nthreads = 1\nlisten = [\"192.0.2.7:80\"]\n[upstreams.b]\nendpoints = [»\"http://192.0.2.7\"]",
        "upstreams.b.endpoints[0]",
        "is this gateway's own lanes.lane.x.listen[0]: name another one",
    ),
    case(
        "[server]\nmemory = { shed_at = »0.9, refuse_at = 0.9 }",
        "server.memory.shed_at",
        "must be below `refuse_at`: what is sheddable goes first",
    ),
    case(
        "[server]\nmemory = { shed_at = »0.05 }",
        "server.memory.shed_at",
        "must be above 0.05: shedding ends when 0.05 less is in use",
    ),
];
