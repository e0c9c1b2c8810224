//! Rules between values; each has an example that breaks it and nothing else.

use super::{CONTRACT, Case, LEAST, case, errors, valid};

/// Each with [`LEAST`] behind it.
const CASES: &[Case] = &[
    // Names.
    case(
        "[upstreams.»\"a b\"]\nendpoints = [\"http://h\"]",
        "upstreams.\"a b\"",
        NAME,
    ),
    case(
        "[lanes.lane.»\"\"]\nguaranteed = 0.1",
        "lanes.lane.\"\"",
        NAME,
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
    case(
        "[server]\ndefault_lane = »\"cor\"\n[lanes.lane.core]\nguaranteed = 0.1",
        "server.default_lane",
        "names nothing in [lanes.lane]; did you mean \"core\"?",
    ),
    case(
        "[server]\nmemory = { shed_at = »0.9, refuse_at = 0.9 }",
        "server.memory.shed_at",
        "must be below `refuse_at`: what is sheddable goes first",
    ),
    // Authentication.
    case(
        "[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\nkey_file = \"k\"\n[auth.api_keys.»x]\nfile = \"f\"",
        "auth.api_keys.x",
        "is also the name of a [auth.jwt] table: routes could not tell them apart",
    ),
    case(
        "[auth]\nidentity_headers = { user = »\"X-Consumer-Id\" }",
        "auth.identity_headers.user",
        "is the header of `consumer` already: each needs its own",
    ),
    case(
        "[auth.jwt.x]\nissuer = »\"\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\nkey_file = \"k\"",
        "auth.jwt.x.issuer",
        "must not be empty",
    ),
    case(
        "[auth.jwt.x]\nissuer = \"i\"\naudience = »[]\nalgorithms = [\"RS256\"]\nkey_file = \"k\"",
        "auth.jwt.x.audience",
        "must hold at least one name, and no empty one",
    ),
    case(
        "[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = »[]\nkey_file = \"k\"",
        "auth.jwt.x.algorithms",
        "must hold at least one, such as [\"RS256\"]",
    ),
    case(
        "[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\", »\"HS256\"]\njwks_url = \"http://h/k\"",
        "auth.jwt.x.algorithms[1]",
        "needs a shared secret: use `secret_file`, or an algorithm with public keys",
    ),
    case(
        "[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"HS256\", »\"EdDSA\"]\nsecret_file = \"s\"",
        "auth.jwt.x.algorithms[1]",
        "does not go with `secret_file`: a shared secret is for HS256, HS384 and HS512",
    ),
    // Limits.
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nprefix6 = »8",
        "limits.x.prefix6",
        "must be from 16 to 128",
    ),
    case(
        "[limits.x]\nkey = \"route\"\nrate = \"1/s\"\nprefix6 = »64",
        "limits.x.prefix6",
        "only goes with key = \"ip\": leave it out",
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nmode = »\"leased\"",
        "limits.x.mode",
        STORE,
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\non_store_error = »\"open\"",
        "limits.x.on_store_error",
        STORE,
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\nstore = »\"http://h\"",
        "limits.x.store",
        "must start with redis:// or rediss://",
    ),
    // Lanes.
    case(
        "[lanes.»lane.x]\nguaranteed = 0.7\n[lanes.lane.y]\nguaranteed = 0.6",
        "lanes.lane",
        "guaranteed shares add up to 1.30: together they may be 1 at most",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.5\ncap = »0.4",
        "lanes.lane.x.cap",
        "must not be below `guaranteed`",
    ),
    case(
        "[lanes]\ntotal = »1\nlane.x.guaranteed = 0.5",
        "lanes.total",
        "must be at least the number of lanes, 2",
    ),
    case(
        "[lanes]\ntotal = »1\nlane.x.guaranteed = 0.5\nlane.core.guaranteed = 0.5",
        "lanes.total",
        "must be at least the number of lanes, 2",
    ),
    case(
        "[lanes]\ntotal = { adaptive = \"aimd\", min = »1, max = 9 }\nlane.x.guaranteed = 0.5\nlane.core.guaranteed = 0.5",
        "lanes.total.min",
        "must be at least the number of lanes, 2",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nlisten = »[\"127.0.0.1:8082\"]",
        "lanes.lane.x.listen",
        "only goes with `threads`: a listener isolates nothing on a shared runtime",
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nper_key = { key = »\"consumer\", max = 8 }",
        "lanes.lane.x.per_key.key",
        "must be known before authentication: use \"ip\" or \"header:NAME\"",
    ),
    // Upstreams.
    case(
        "[upstreams.b]\nendpoints = »[]",
        "upstreams.b.endpoints",
        "must hold at least one URL, such as [\"http://127.0.0.1:9001\"]",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\", »\"http://H:80/\"]",
        "upstreams.b.endpoints[1]",
        "is listed twice: it would get twice the requests",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\ntls = »{ ca = \"ca.pem\" }",
        "upstreams.b.tls",
        "has no effect: no endpoint starts with https://",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"https://h\"]\ntls = { certificate = »\"c.pem\" }",
        "upstreams.b.tls.certificate",
        PAIR,
    ),
    case(
        "[upstreams.b]\nendpoints = [\"https://h\"]\ntls = { key = »\"k.pem\" }",
        "upstreams.b.tls.key",
        PAIR,
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nhealth = { path = \"/\", interval = \"1s\", timeout = »\"2s\" }",
        "upstreams.b.health.timeout",
        "must not be longer than `interval`",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker = { open = »\"6m\" }",
        "upstreams.b.breaker.open",
        "must not be longer than `open_max`",
    ),
    // Log intake.
    case(
        "[log_ingest]\nclient = »[]",
        "log_ingest.client",
        "must hold at least one, such as [\"ip\"]",
    ),
    case(
        "[log_ingest]\nclient = [\"ip\", »\"user\"]",
        "log_ingest.client[1]",
        "must be \"ip\" or \"header:NAME\"",
    ),
    case(
        "[log_ingest]\nmax_body_bytes = \"1KiB\"\nmax_event_bytes = »\"2KiB\"",
        "log_ingest.max_event_bytes",
        "must not be larger than `max_body_bytes`",
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"redis\", url = »\"http://h\", stream = \"s\" }",
        "log_ingest.queue.url",
        "must start with redis:// or rediss://",
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"nats\", url = \"nats://h\", stream = »\"\" }",
        "log_ingest.queue.stream",
        "must not be empty",
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"nats\", url = »\"redis://h\", stream = \"s\" }",
        "log_ingest.queue.url",
        "must start with nats:// or tls://",
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"kafka\", brokers = »[\"h\"], topic = \"t\" }",
        "log_ingest.queue.brokers",
        "must hold at least one host:port, such as [\"127.0.0.1:9092\"]",
    ),
    case(
        "[log_ingest]\nsink = { kind = \"elasticsearch\", nodes = »[], index = \"i\" }",
        "log_ingest.sink.nodes",
        "must hold at least one URL, such as [\"http://127.0.0.1:9200\"]",
    ),
    // Routes: who may call, who answers.
    case(
        "»[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"",
        "routes[0]",
        UNSAID,
    ),
    case(
        "»[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = false\nauth = []",
        "routes[0]",
        UNSAID,
    ),
    case(
        "[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = true\nauth = »[\"k\"]",
        "routes[0].auth",
        "contradicts `public = true`: a route has one or the other",
    ),
    case(
        "»[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true",
        "routes[0]",
        "who answers must be written out: `upstream` or `service`",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nservice = »\"log-ingest\"",
        "routes[0].service",
        "contradicts `upstream`: a route has one or the other",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"\nretry = »{}",
        "routes[0].retry",
        "only goes with `upstream`: a service answers in the gateway",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nscopes = »[\"read\"]",
        "routes[0].scopes",
        "needs to know the caller: add `auth`, or leave this out",
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nconsumer_limits = »[\"x\"]",
        "routes[0].consumer_limits",
        "needs to know the caller: add `auth`, or leave this out",
    ),
    // Routes: names.
    case(
        "[[routes]]\nname = »\"a/b\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"",
        "routes[0].name",
        NAME,
    ),
    case(
        "[upstreams.orders]\nendpoints = [\"http://h\"]\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = »\"ordrs\"",
        "routes[0].upstream",
        "names nothing in [upstreams]; did you mean \"orders\"?",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nlane = »\"logs\"",
        "routes[0].lane",
        "names nothing in [lanes.lane]; define it, or name another",
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nlimits = [\"x\", »\"y\"]",
        "routes[0].limits[1]",
        "names nothing in [limits]; did you mean \"x\"?",
    ),
    case(
        "[limits.x]\nkey = \"consumer\"\nrate = \"1/s\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nlimits = [»\"x\"]",
        "routes[0].limits[0]",
        EARLY,
    ),
    case(
        "[auth.api_keys.keys]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [»\"kyes\"]",
        "routes[0].auth[0]",
        "names nothing in [auth.jwt] or [auth.api_keys]; did you mean \"keys\"?",
    ),
    case(
        "[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [»\"per_consumer\"]",
        "routes[0].consumer_limits[0]",
        "names nothing in [limits]; define it, or name another",
    ),
    case(
        "[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nscopes = [»\"read write\"]",
        "routes[0].scopes[0]",
        "must be one word: a token's scopes are separated by spaces",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\ncanary = { upstream = »\"next\" }",
        "routes[0].canary.upstream",
        "names nothing in [upstreams]; define it, or name another",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nshadow = { upstream = »\"a\" }",
        "routes[0].shadow.upstream",
        "must be another one than the route's",
    ),
    // Routes: policies and timers.
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nretry = { methods = »[] }",
        "routes[0].retry.methods",
        "must hold at least one, or leave `retry` out",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nretry = { methods = [\"GET\", »\"POST\"] }",
        "routes[0].retry.methods[1]",
        TWICE,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nretry = { methods = [»\"PATCH\"] }",
        "routes[0].retry.methods[0]",
        TWICE,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\nretry = { backoff = { base = »\"3s\" } }",
        "routes[0].retry.backoff.base",
        "must not be longer than `max`",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\ntimeouts = { request = \"1s\", attempt = »\"2s\" }",
        "routes[0].timeouts.attempt",
        TIMER,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\ntimeouts = { idle = »\"31s\" }",
        "routes[0].timeouts.idle",
        TIMER,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"\ntimeouts = { attempt = \"1s\", first_byte = »\"2s\" }",
        "routes[0].timeouts.first_byte",
        "is longer than the attempt it is part of: make it shorter",
    ),
];

/// Each behind [`LEAST`], whose route is `routes[0]`.
const SECOND_ROUTES: &[Case] = &[
    case(
        "[[routes]]\nname = »\"all\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"",
        "routes[1].name",
        "is the name of routes[0] already: each route needs its own",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = »{ prefix = \"/\" }\npublic = true\nupstream = \"a\"",
        "routes[1].match",
        "is the same as in routes[0]: this route is never reached",
    ),
];

const NAME: &str = "must be a name of 1 to 64 letters, digits, -, _ and .";
const OPEN_ADMIN: &str = "is not loopback: add `token_file`, or listen on 127.0.0.1 or [::1]";
const EARLY: &str = "counts by consumer or user, whom nobody knows before authentication: name it in the \
                     `consumer_limits` of a route with `auth`";
const STORE: &str = "needs a `store` that instances share: write one, or leave this out";
const PAIR: &str = "goes with `certificate` and `key` together: write both or neither";
const UNSAID: &str = "who may call must be written out: `public = true`, or names in `auth`";
const TWICE: &str =
    "would do things twice: add `require_idempotency_key = true`, or leave the method out";
const TIMER: &str = "is longer than `request` and could never end anything: make it shorter";

#[test]
fn a_broken_rule_is_named() {
    for case in CASES {
        case.check(LEAST);
    }
}

#[test]
fn a_route_that_repeats_another_is_named() {
    for case in SECOND_ROUTES {
        let behind = Box::leak(format!("{LEAST}{}", case.text).into_boxed_str());
        Case {
            text: behind,
            ..*case
        }
        .check("");
    }
}

#[test]
fn a_file_without_routes_says_so() {
    for text in ["", "# nothing\n", "\u{feff}"] {
        let found = errors(text);
        assert_eq!(found.len(), 1);
        let error = &found[0];
        assert_eq!(
            (error.line, error.column, error.key.as_str()),
            (1, 1, "routes")
        );
        assert!(
            error
                .message
                .starts_with("no route is defined: add a [[routes]] table"),
            "{error}"
        );
    }
}

/// What looks like a broken rule and is none.
#[test]
fn what_is_allowed() {
    for text in [
        // A limit without identity may be asked after authentication as well.
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\n\
         match = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [\"x\"]",
        // Any free port, twice; another family; another address.
        "[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]",
        "[server]\nlisten = [\"0.0.0.0:80\", \"[::]:80\"]",
        "[server]\nlisten = [\"127.0.0.1:80\", \"127.0.0.2:80\"]",
        "[admin]\nlisten = \"0.0.0.0:9901\"\ntoken_file = \"t\"",
        "[admin]\nlisten = \"[::1]:9901\"",
        "[admin]\nlisten = \"[::ffff:127.0.0.1]:9901\"",
        // Decimal fractions do not add up exactly.
        "[lanes]\nlane = { a.guaranteed = 0.1, b.guaranteed = 0.2, c.guaranteed = 0.7 }",
        // One path for several methods, hosts and headers.
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", methods = [\"GET\"] }\nupstream = \"a\"\npublic = true\n\
         [[routes]]\nname = \"y\"\nmatch = { prefix = \"/\", headers = { x-beta = \"1\" } }\nupstream = \"a\"\npublic = true",
        // Only POST and PATCH need the key.
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = true\nretry = { methods = [\"PUT\", \"DELETE\"] }",
        // Zero where it has a meaning.
        "[server]\ndrain_delay = \"0s\"\nshutdown_grace = \"0s\"\nmax_body_bytes = \"0B\"\nmin_body_rate = \"0B\"",
    ] {
        valid(&format!("{text}\n{LEAST}"));
    }
}

#[test]
fn all_of_them_come_in_one_pass() {
    let on = [
        (
            "listen              = [\"127.0.0.1:8080\"]",
            "listen = [\"127.0.0.1:9901\"]",
        ),
        (
            "default_lane        = \"core\"",
            "default_lane = \"centre\"",
        ),
        ("guaranteed = 0.35", "guaranteed = 0.95"),
        ("cap         = 0.15", "cap = 0.01"),
        ("open_max = \"5m\"", "open_max = \"1s\""),
        ("upstream = \"auth\"", "upstream = \"oauth\""),
        ("public   = true                    # no", "# no"),
        (
            "consumer_limits = [\"per_consumer\"]",
            "consumer_limits = [\"per_user\"]",
        ),
        (
            "require_idempotency_key = true",
            "require_idempotency_key = false",
        ),
        ("attempt = \"3s\"", "attempt = \"13s\""),
        ("name    = \"logs\"", "name = \"login\""),
    ];
    let text = on.iter().fold(CONTRACT.to_owned(), |text, (off, on)| {
        assert!(text.contains(off), "the contract no longer says {off:?}");
        text.replacen(off, on, 1)
    });
    let found: Vec<_> = errors(&text).into_iter().map(|error| error.key).collect();
    let expected = [
        "server.default_lane",
        "admin.listen",
        "lanes.lane",
        "lanes.lane.logs.cap",
        "upstreams.orders.breaker.open",
        "routes[0]",
        "routes[0].upstream",
        "routes[1].consumer_limits[0]",
        "routes[1].retry.methods[0]",
        "routes[2].timeouts.attempt",
        "routes[3].name",
    ];
    assert_eq!(found, expected);
}

/// Places in a file that was not made for this test.
#[test]
fn a_fault_in_the_contract_has_its_line() {
    let line = |needle: &str| {
        CONTRACT
            .lines()
            .position(|line| line.contains(needle))
            .unwrap()
            + 1
    };
    let text = CONTRACT.replacen("lane     = \"auth\"", "lane     = \"auht\"", 1);
    let error = &errors(&text)[0];
    assert_eq!(
        (error.line, error.column),
        (line("lane     = \"auth\""), 12)
    );
    assert_eq!(
        error.to_string(),
        format!(
            "gateway.toml:{0}:12: routes[0].lane: names nothing in [lanes.lane]; did you mean \"auth\"?\n  \
             {0} | lane     = \"auht\"\n      |            ^",
            error.line
        )
    );
}
