//! Keys: unknown ones, missing ones, and those of which one must be chosen.

use super::super::{Case, case};
use super::MISSING;

pub(super) const CASES: &[Case] = &[
    // Unknown keys, at every depth.
    case("»sever = 1", "sever", "unknown key; did you mean `server`?"),
    case(
        "»zebra = 1",
        "zebra",
        "unknown key; known here: server, health, admin, observe, ip, auth, limits, lanes, upstreams, routes, response, \
         log_ingest",
    ),
    case(
        "[server]\n»listn = []",
        "server.listn",
        "unknown key; did you mean `listen`?",
    ),
    case(
        "[server]\nmemory = { »shed = 0.5 }",
        "server.memory.shed",
        "unknown key; known here: limit, shed_at, refuse_at, mode",
    ),
    case(
        "[server.http2]\n»max_streams = 1",
        "server.http2.max_streams",
        "unknown key; known here: max_concurrent_streams, max_header_list_bytes, max_pending_resets",
    ),
    case(
        "[health]\n»listn = 1",
        "health.listn",
        "unknown key; did you mean `listen`?",
    ),
    case(
        "[observe]\ntrace = { »otpl = 1 }",
        "observe.trace.otpl",
        "unknown key; did you mean `otlp`?",
    ),
    case(
        "[ip]\n»alow = []",
        "ip.alow",
        "unknown key; did you mean `allow`?",
    ),
    case(
        "[auth]\n»jtw = {}",
        "auth.jtw",
        "unknown key; did you mean `jwt`?",
    ),
    case(
        "[lanes]\n»lanes = {}",
        "lanes.lanes",
        "unknown key; did you mean `lane`?",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\n»guarantee = 0.1",
        "lanes.lane.x.guarantee",
        "unknown key; did you mean `guaranteed`?",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\npool = { »quue = 1 }",
        "upstreams.b.pool.quue",
        "unknown key; did you mean `queue`?",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker.»probs = 1",
        "upstreams.b.breaker.probs",
        "unknown key; did you mean `probes`?",
    ),
    case(
        "[response]\nsecurity_headers = { »hst = \"\" }",
        "response.security_headers.hst",
        "unknown key; did you mean `hsts`?",
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"disk\", »durabilty = \"fsync\" }",
        "log_ingest.queue.durabilty",
        "unknown key; did you mean `durability`?",
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"memory\", »dir = \"x\" }",
        "log_ingest.queue.dir",
        "unknown key; known here: max_bytes",
    ),
    // Keys without a default.
    case("»[upstreams.b]", "upstreams.b.endpoints", MISSING),
    case("»[limits.x]\nkey = \"ip\"", "limits.x.rate", MISSING),
    case("»[lanes.lane.x]", "lanes.lane.x.guaranteed", MISSING),
    case(
        "»[server.tls]\nkey = \"k\"",
        "server.tls.certificate",
        MISSING,
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nhealth = »{ interval = \"1s\" }",
        "upstreams.b.health.path",
        MISSING,
    ),
    case(
        "»[auth.api_keys.x]\nheader = \"x-key\"",
        "auth.api_keys.x.file",
        MISSING,
    ),
    case(
        "[log_ingest]\nqueue = »{ dir = \"x\" }",
        "log_ingest.queue.engine",
        MISSING,
    ),
    case(
        "[log_ingest]\nqueue = »{ engine = \"redis\", url = \"redis://h\" }",
        "log_ingest.queue.stream",
        MISSING,
    ),
    case(
        "[log_ingest]\nsink = »{ kind = \"file\" }",
        "log_ingest.sink.path",
        MISSING,
    ),
    // One of several.
    case(
        "»[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]",
        "auth.jwt.x",
        "must have exactly one of `key_file`, `jwks_url` and `secret_file`",
    ),
    case(
        "[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\nkey_file = \"k\"\nsecret_file = »\"s\"",
        "auth.jwt.x.secret_file",
        "must have exactly one of `key_file`, `jwks_url` and `secret_file`",
    ),
    case(
        "[log_ingest]\nsink = »{ kind = \"elasticsearch\", nodes = [\"http://h:9200\"] }",
        "log_ingest.sink",
        "must have exactly one of `index` and `data_stream`",
    ),
    case(
        "[log_ingest]\nsink = { kind = \"elasticsearch\", nodes = [\"http://h:9200\"], index = \"i\", data_stream = »\"d\" }",
        "log_ingest.sink.data_stream",
        "must have exactly one of `index` and `data_stream`",
    ),
];
