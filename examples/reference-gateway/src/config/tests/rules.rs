//! Rules between values; each has an example that breaks it and nothing else.

mod policies;
mod routes;
mod server;

use super::{CONTRACT, Case, LEAST, errors, valid};

const NAME: &str = "must be a name of 1 to 64 letters, digits, -, _ and .";
const LANE_NAME: &str = "must be a name of 1 to 64 letters, digits, - and _";
const OPEN_ADMIN: &str = "is not loopback: add `token_file`, or listen on 127.0.0.1 or [::1]";
const EARLY: &str = "counts by consumer or user, whom nobody knows before authentication: name it in the \
                     `consumer_limits` of a route with `auth`";
const DROPPED: &str = "counts all callers together: its field has the credentials, and is dropped before; count by \"consumer\", or name \
                       it in `limits`";
const NEVER_THERE: &str =
    "is dropped before the intake looks for it, so that no request has it: name another field";
const STORE: &str = "needs a `store` that instances share: write one, or leave this out";
const QUEUE: &str = "must be below the share `shed_at` of `server.memory.limit`: the gateway refuses other requests from there on";
const PAIR: &str = "goes with `certificate` and `key` together: write both or neither";
const UNSAID: &str = "who may call must be written out: `public = true`, or names in `auth`";
const SAID_BY_OTHERS: &str = "must not be a field that only proxies or the gateway may say: routes are found before a client's own is \
                              dropped, so any client could choose this one";
const TWICE: &str =
    "would do things twice: add `require_idempotency_key = true`, or leave the method out";
const TIMER: &str = "is longer than `request` and could never end anything: make it shorter";

#[test]
fn a_broken_rule_is_named() {
    for cases in [server::CASES, policies::CASES, routes::CASES] {
        for case in cases {
            case.check(LEAST);
        }
    }
}

#[test]
fn a_route_that_repeats_another_is_named() {
    for case in routes::SECOND_ROUTES {
        let behind = Box::leak(format!("{LEAST}{}", case.text).into_boxed_str());
        Case {
            text: behind,
            ..*case
        }
        .check("");
    }
}

#[test]
fn routes_that_leave_nothing_to_another_are_all_named() {
    let route = |name: &str, methods: &str| {
        format!(
            "[[routes]]\nname = \"{name}\"\nmatch = {{ prefix = \"/x\", methods = [{methods}] }}\nupstream = \"a\"\npublic = true\n"
        )
    };
    let (get, post) = (route("x", "\"GET\""), route("y", "\"POST\""));
    let both = route("z", "\"GET\", \"POST\"");
    let found = errors(&format!("{LEAST}{get}{post}{both}"));
    let found: Vec<_> = found.iter().map(|e| (&*e.key, &*e.message)).collect();
    let said = "gets nothing behind routes[1] and routes[2]: this route is never reached";
    assert_eq!(found, [("routes[3].match", said)]);
}

#[test]
fn there_are_no_more_lanes_than_a_bulkhead_has() {
    let lanes = |written: u32| {
        let lane = |n| format!("[lanes.lane.l{n}]\nguaranteed = 0.01\n");
        (0..written).map(lane).collect::<String>()
    };
    // The default lane is one that is not written.
    valid(&format!("{}{LEAST}", lanes(63)));
    let found = errors(&format!("{}{LEAST}", lanes(64)));
    let found: Vec<_> = found.iter().map(|e| (&*e.key, &*e.message)).collect();
    let said = "there are 65 lanes with the default one: 64 are the most";
    assert_eq!(found, [("lanes.lane", said)]);
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
        "[auth.api_keys.k]\nfile = \"f\"\nheader = \"authorization\"",
        // A field with keys counts before it is dropped, and where it is not; so does one without.
        "[limits.x]\nkey = \"header:x-api-key\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\n\
         match = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nlimits = [\"x\"]",
        "[auth]\nforward_credentials = true\n[limits.x]\nkey = \"header:x-api-key\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [\"x\"]",
        "[limits.x]\nkey = \"header:authorization\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\n\
         match = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [\"x\"]",
        "[auth]\nforward_credentials = true\n[auth.api_keys.k]\nfile = \"f\"\n[log_ingest]\nclient = [\"header:x-api-key\", \"header:authorization\"]\n[[routes]]\nname = \"x\"\n\
         match = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        // Who calls is said in it.
        "[auth.api_keys.k]\nfile = \"f\"\nheader = \"x-other\"\n[log_ingest]\nclient = [\"header:x-consumer-id\", \"header:x-api-key\", \"ip\"]\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nauth = [\"k\"]\nservice = \"log-ingest\"",
        // Nor does it matter where nobody logs.
        "[auth.api_keys.k]\nfile = \"f\"\nheader = \"x-client-id\"",
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = true\nretry = { replay_max = \"64MiB\" }",
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
        // What a route leaves: other methods, any method, other paths.
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", methods = [\"GET\"] }\nupstream = \"a\"\npublic = true\n\
         [[routes]]\nname = \"y\"\nmatch = { prefix = \"/x\", methods = [\"GET\", \"POST\"] }\nupstream = \"a\"\npublic = true\n\
         [[routes]]\nname = \"z\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = true\n\
         [[routes]]\nname = \"w\"\nmatch = { path = \"/x\" }\nupstream = \"a\"\npublic = true",
        // Only POST and PATCH need the key.
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = true\nretry = { methods = [\"PUT\", \"DELETE\"] }",
        // A lane's two threads alone send there.
        "[server]\nthreads = 4\n[lanes.lane.l]\nguaranteed = 0.1\nthreads = 2\n\
         [upstreams.b]\nendpoints = [\"http://h\"]\nprotocol = \"http2\"\npool.max_connections = 2\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"b\"\nlane = \"l\"\npublic = true",
        // Another port, another address.
        "[server]\nmax_uri_bytes = \"65534B\"\nlisten = [\"192.0.2.7:80\"]\n\
         [upstreams.b]\nendpoints = [\"http://127.0.0.1:81\", \"http://127.0.0.1:80\", \"http://[::1]:9901\", \"http://h:80\"]",
        "[server]\nlisten = [\"[::]:80\", \"192.0.2.7:80\"]\n[upstreams.b]\nendpoints = [\"http://127.0.0.1:80\"]",
        "[server]\nlisten = [\"0.0.0.0:80\"]\n[upstreams.b]\nendpoints = [\"http://[::1]:80\"]",
        // Lists that are empty are asked for nothing.
        "[server]\nnot_found = \"early\"\ndefault_auth = []\ndefault_limits = []",
        // Below the share of memory, with nobody who looks at memory, and with nobody who logs.
        "[log_ingest]\nqueue = { engine = \"memory\", max_bytes = \"942MiB\" }\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "[server.memory]\nmode = \"off\"\n[log_ingest]\nqueue = { engine = \"memory\", max_bytes = \"2GiB\" }\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "[log_ingest]\nqueue = { engine = \"memory\", max_bytes = \"2GiB\" }",
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
