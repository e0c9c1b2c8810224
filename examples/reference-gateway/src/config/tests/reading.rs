//! Faults that a value has on its own: kind, unit, spelling; and several of them in one pass.

use super::{Case, LEAST, case, errors};

const ADDRESS: &str =
    "must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
const DURATION: &str =
    "must be a duration: a whole number and ms, s, m or h, such as \"250ms\" or \"5s\"";
const SIZE: &str = "must be a size: a whole number and B, KiB, MiB or GiB, such as \"64KiB\"";
const RATE: &str = "must be a rate: a whole number from 1 and /s, /m or /h, such as \"100/s\"";
const NETWORK: &str =
    "must be an address or a network, such as \"192.0.2.7\", \"10.0.0.0/8\" or \"2001:db8::/32\"";
const KEY: &str =
    "must be \"ip\", \"header:NAME\", \"consumer\", \"user\", \"route\" or \"global\"";
const FROM_ONE: &str = "must be a whole number from 1 to 4294967295, not 0";
const MISSING: &str = "is missing: it has no default and must be written";

/// Each with [`LEAST`] behind it.
const CASES: &[Case] = &[
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
    // Kinds.
    case(
        "[server]\nlisten = »\"127.0.0.1:80\"",
        "server.listen",
        "must be an array in brackets, not a string",
    ),
    case(
        "[server]\nlisten = [»80]",
        "server.listen[0]",
        "must be a string in quotes, not 80",
    ),
    case(
        "[server]\nlisten = [»[]]",
        "server.listen[0]",
        "must be a string in quotes, not an array",
    ),
    case(
        "[server]\nthreads = »\"4\"",
        "server.threads",
        "must be a whole number, 0 or more, not a string",
    ),
    case(
        "[server]\nthreads = »-1",
        "server.threads",
        "must be a whole number, 0 or more, not -1",
    ),
    case(
        "[server]\nthreads = »1.5",
        "server.threads",
        "must be a whole number, 0 or more, not 1.5",
    ),
    case(
        "[server]\nthreads = »99999999999999999999",
        "server.threads",
        "must be a whole number, 0 or more, not a number of this size",
    ),
    case(
        "[server]\nthreads = »2026-01-01",
        "server.threads",
        "must be a whole number, 0 or more, not a date",
    ),
    case(
        "[server]\nmax_connections = »0",
        "server.max_connections",
        FROM_ONE,
    ),
    case(
        "[server]\nmax_headers = »4294967296",
        "server.max_headers",
        "must be a whole number from 1 to 4294967295, not 4294967296",
    ),
    case(
        "[server]\nmemory = »1",
        "server.memory",
        "must be a table, not 1",
    ),
    case(
        "[server]\nmemory = »[1, 2, 3, 4]",
        "server.memory",
        "must be a table, not an array",
    ),
    case("»[[server]]", "server", "must be a table, not an array"),
    case(
        "[upstreams]\nb = »1",
        "upstreams.b",
        "must be a table, not 1",
    ),
    case(
        "[observe]\ntrace = { trust_incoming = »\"no\" }",
        "observe.trace.trust_incoming",
        "must be true or false, not a string",
    ),
    case(
        "[observe]\ntrace = { sample = »true }",
        "observe.trace.sample",
        "must be a number, not true",
    ),
    case("[ip]\nmode = »1", "ip.mode", "must be a string in quotes"),
    case(
        "[log_ingest]\nqueue = »\"disk\"",
        "log_ingest.queue",
        "must be a table, not a string",
    ),
    case(
        "[log_ingest]\nqueue = »1",
        "log_ingest.queue",
        "must be a table with the key `engine`",
    ),
    case(
        "[log_ingest]\nqueue = { engine = »1 }",
        "log_ingest.queue.engine",
        "must be a string in quotes",
    ),
    // Words.
    case(
        "[ip]\nmode = »\"on\"",
        "ip.mode",
        "must be \"enforce\", \"shadow\" or \"off\"",
    ),
    case(
        "[server]\nencoded_slash = »\"decode\"",
        "server.encoded_slash",
        "must be \"reject\" or \"keep\"",
    ),
    case(
        "[server]\nnot_found = »\"late\"",
        "server.not_found",
        "must be \"after-auth\" or \"early\"",
    ),
    case(
        "[server]\nrequest_id = { accept = »\"yes\" }",
        "server.request_id.accept",
        "must be \"trusted\", \"always\" or \"never\"",
    ),
    case(
        "[server.tls]\ncertificate = \"a\"\nkey = \"b\"\nmin_version = »\"1.1\"",
        "server.tls.min_version",
        "must be \"1.2\" or \"1.3\"",
    ),
    case(
        "[observe]\naccess_log = { schema = »\"json\" }",
        "observe.access_log.schema",
        "must be \"native\", \"otel\" or \"ecs\"",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\ncriticality = »\"low\"",
        "lanes.lane.x.criticality",
        "must be \"critical-plus\", \"critical\", \"sheddable-plus\" or \"sheddable\"",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nhold = »\"tail\"",
        "lanes.lane.x.hold",
        "must be \"head\" or \"body\"",
    ),
    case(
        "[lanes]\ntotal = { adaptive = »\"vegas\" }",
        "lanes.total.adaptive",
        "must be \"aimd\" or \"gradient2\"",
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nmode = »\"lease\"",
        "limits.x.mode",
        "must be \"enforce\", \"shadow\", \"off\" or \"leased\"",
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\non_store_error = »\"deny\"",
        "limits.x.on_store_error",
        "must be \"local\", \"open\" or \"closed\"",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nprotocol = »\"h2\"",
        "upstreams.b.protocol",
        "must be \"http1\", \"http2\" or \"auto\"",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nhost_header = »\"keep\"",
        "upstreams.b.host_header",
        "must be \"preserve\" or \"upstream\"",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbalance = »\"random\"",
        "upstreams.b.balance",
        "must be \"least-request\", \"p2c-ewma\", \"round-robin\", \"hash:header:NAME\" or \"hash:ip\"",
    ),
    case(
        "[log_ingest]\nqueue = { engine = »\"sqlite\" }",
        "log_ingest.queue.engine",
        "must be \"memory\", \"disk\", \"redis\", \"nats\", \"kafka\" or \"sqs\"",
    ),
    case(
        "[log_ingest]\nsink = { kind = »\"stdout\" }",
        "log_ingest.sink.kind",
        "must be \"embedded\", \"file\" or \"elasticsearch\"",
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"disk\", durability = »\"none\" }",
        "log_ingest.queue.durability",
        "must be \"process\" or \"fsync\"",
    ),
    case(
        "[log_ingest]\non_invalid = »\"drop\"",
        "log_ingest.on_invalid",
        "must be \"reject\" or \"wrap\"",
    ),
    case(
        "[response]\nsecurity_headers = { frame_options = »\"deny\" }",
        "response.security_headers.frame_options",
        "must be \"DENY\", \"SAMEORIGIN\" or \"\" for none",
    ),
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
        SIZE,
    ),
    case(
        "[server]\nmax_uri_bytes = »\"0B\"",
        "server.max_uri_bytes",
        "must be more than zero, such as \"64KiB\"",
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
        "must be a share above 0 and up to 1, such as 0.25",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = »-0.1",
        "lanes.lane.x.guaranteed",
        "must be a share from 0 to 1, such as 0.25",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0\ncap = »0",
        "lanes.lane.x.cap",
        "must be a share above 0 and up to 1, such as 0.25",
    ),
    case(
        "[lanes]\ntotal = »0",
        "lanes.total",
        "must be a whole number from 1, or { adaptive = \"gradient2\", min = 20, max = 2000 }, not 0",
    ),
    case(
        "[lanes]\ntotal = »\"512\"",
        "lanes.total",
        "must be a whole number from 1, or { adaptive = \"gradient2\", min = 20, max = 2000 }, not a string",
    ),
    case(
        "[lanes]\ntotal = »{ adaptive = \"aimd\", min = 9, max = 8 }",
        "lanes.total",
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
        "must be a percentage: a whole number from 0 to 100",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker = { probes = »0 }",
        "upstreams.b.breaker.probes",
        FROM_ONE,
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker = { failure_rate = »0.0 }",
        "upstreams.b.breaker.failure_rate",
        "must be a share above 0 and up to 1, such as 0.25",
    ),
    case(
        "[log_ingest]\nmax_events = »0",
        "log_ingest.max_events",
        FROM_ONE,
    ),
    case(
        "[log_ingest]\nclient = [»\"cookie\"]",
        "log_ingest.client[0]",
        KEY,
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
        "»[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\nkey_file = \"k\"\nsecret_file = \"s\"",
        "auth.jwt.x",
        "must have exactly one of `key_file`, `jwks_url` and `secret_file`",
    ),
    case(
        "[log_ingest]\nsink = »{ kind = \"elasticsearch\", nodes = [\"http://h:9200\"] }",
        "log_ingest.sink",
        "must have exactly one of `index` and `data_stream`",
    ),
    // Routes.
    case(
        "»[[routes]]\nmatch = { prefix = \"/a\" }",
        "routes[0].name",
        MISSING,
    ),
    case("»[[routes]]\nname = \"x\"", "routes[0].match", MISSING),
    case(
        "[[routes]]\nname = \"x\"\nmatch = »{}",
        "routes[0].match",
        "must have exactly one of `prefix` and `path`",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = »{ prefix = \"/a\", path = \"/a\" }",
        "routes[0].match",
        "must have exactly one of `prefix` and `path`",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = »\"a\" }",
        "routes[0].match.prefix",
        "must start with /, such as \"/api/orders\"",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = »\"/a/\" }",
        "routes[0].match.prefix",
        "must not end with /: write \"/api\", not \"/api/\"",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { path = »\"/{*rest}/a\" }",
        "routes[0].match.path",
        "must have {*rest} as its last segment only",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { path = »\"/{a}/{a}\" }",
        "routes[0].match.path",
        "must not use one parameter name twice",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", methods = [\"GET\", »\"post\"] }",
        "routes[0].match.methods[1]",
        "must be a method in capital letters, such as \"GET\"",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", host = »\"h:80\" }",
        "routes[0].match.host",
        "must be a host name without port, such as \"api.example.com\"",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", headers = { »\"x y\" = \"1\" } }",
        "routes[0].match.headers.\"x y\"",
        "must be a header name, such as \"x-request-id\"",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", headers = { x-y = »1 } }",
        "routes[0].match.headers.x-y",
        "must be a string in quotes, not 1",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", headers = »{ x-y = \"1\", X-Y = \"2\" } }",
        "routes[0].match.headers",
        "must not name one header twice: case does not count",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\nservice = »\"log\"",
        "routes[0].service",
        "must be \"log-ingest\"",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\nretry = { max_attempts = »0 }",
        "routes[0].retry.max_attempts",
        FROM_ONE,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\nhedge = { percentile = »1.0 }",
        "routes[0].hedge.percentile",
        "must lie between 0 and 1, such as 0.99",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\ncanary = { upstream = \"a\", percent = »101 }",
        "routes[0].canary.percent",
        "must be a percentage: a whole number from 0 to 100",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\nshadow = »{ percent = 5 }",
        "routes[0].shadow.upstream",
        MISSING,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\ntimeouts = { »total = \"1s\" }",
        "routes[0].timeouts.total",
        "unknown key; known here: request, attempt, first_byte, idle",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\n»upstrem = \"a\"",
        "routes[0].upstrem",
        "unknown key; did you mean `upstream`?",
    ),
];

#[test]
fn a_value_that_does_not_fit_is_named() {
    for case in CASES {
        case.check(LEAST);
    }
}

fn keys(text: &str) -> Vec<String> {
    errors(text).into_iter().map(|error| error.key).collect()
}

#[test]
fn all_of_them_come_in_one_pass() {
    let text = r#"
[server]
listen = ["a", "127.0.0.1:80", "b"]
thread = 1
threads = "x"
[upstreams.a]
endpoints = []
pool = { max_idle = -1, queue = -1 }
[upstreams.b]
balance = "x"
[[routes]]
name = "one"
[[routes]]
name = 2
match = { prefix = "/", methods = "GET" }
upstrem = "a"
"#;
    let expected = [
        "server.listen[0]",
        "server.listen[2]",
        "server.thread",
        "server.threads",
        "upstreams.a.pool.max_idle",
        "upstreams.a.pool.queue",
        "upstreams.b.endpoints",
        "upstreams.b.balance",
        "routes[0].match",
        "routes[1].name",
        "routes[1].match.methods",
        "routes[1].upstrem",
    ];
    assert_eq!(keys(text), expected);
}

/// `endpoints` is there, only wrong: "is missing" would be a lie.
#[test]
fn a_key_that_was_refused_is_not_missing() {
    assert_eq!(
        keys("[upstreams.a]\nendpoints = 1\nbalance = 1\n"),
        ["upstreams.a.endpoints", "upstreams.a.balance"]
    );
    assert_eq!(keys("[[routes]]\nname = 1\n"), ["routes[0].name"]);
    assert_eq!(
        keys("[lanes]\ntotal = { adaptive = 1 }\n"),
        ["lanes.total.adaptive"]
    );
}

/// Of `match` only an unknown key is left out: that it then has neither `prefix` nor `path` must
/// not be said.
#[test]
fn a_table_is_not_blamed_for_what_was_left_out_of_it() {
    let route = "[[routes]]\nname = \"x\"\n";
    assert_eq!(
        keys(&format!("{route}match = {{ prefx = \"/\" }}\n")),
        ["routes[0].match.prefx"]
    );
    assert_eq!(
        keys(&format!("{route}match = {{ prefix = 1 }}\n")),
        ["routes[0].match.prefix"]
    );
}

#[test]
fn a_flood_of_faults_is_cut() {
    let text: String = (0..10_000).map(|i| format!("k{i} = 1\n")).collect();
    assert_eq!(errors(&text).len(), 40);
    let unset: String = (0..10_000)
        .map(|i| format!("k{i} = \"${{A}}\"\n"))
        .collect();
    assert_eq!(errors(&unset).len(), 40);
    let routes: String = (0..1_000)
        .map(|i| format!("[[routes]]\nname = \"r{i}\"\nmatch = {{ prefix = \"/\" }}\n"))
        .collect();
    assert_eq!(errors(&routes).len(), 40);
}

#[test]
fn long_keys_are_cut() {
    let key = "k".repeat(100_000);
    let error = &errors(&format!("{key} = 1"))[0];
    assert!(error.to_string().len() < 500);
    assert!(error.key.ends_with("k…"));
}
