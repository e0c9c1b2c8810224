//! Routes: who may call, who answers, and what else is asked of a request.

use super::super::{Case, case};
use super::{DROPPED, EARLY, NAME, SAID_BY_OTHERS, TIMER, TWICE, UNSAID};

pub(super) const CASES: &[Case] = &[
    case(
        "[[routes]]\nname = »\"unmatched\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = true",
        "routes[0].name",
        "must be another name: in metrics it is that of all requests without a route",
    ),
    // Routes: who may call, who answers.
    case(
        "»[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"",
        "routes[0]",
        UNSAID,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = false\nauth = »[]",
        "routes[0].auth",
        UNSAID,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = »false",
        "routes[0].public",
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
    // Story: these were ignored.
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"\nmax_body_bytes = »\"16MiB\"",
        "routes[0].max_body_bytes",
        "must not be larger than `max_body_bytes` of [log_ingest], which refuses more",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"\ntimeouts = { idle = »\"2s\" }",
        "routes[0].timeouts.idle",
        "only goes with `upstream`: a service answers in the gateway",
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
    // Routes: fields. Story: a client took the route of internal callers by `X-Forwarded-Client-Cert` or `Remote-User`, which no
    // upstream ever saw from it.
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", headers = { x-beta = \"1\", »x-forwarded-user = \"admin\" } }\npublic = true\nupstream = \"a\"",
        "routes[0].match.headers.x-forwarded-user",
        SAID_BY_OTHERS,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", headers = { »x-real-ip = \"10.0.0.1\" } }\npublic = true\nupstream = \"a\"",
        "routes[0].match.headers.x-real-ip",
        SAID_BY_OTHERS,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", headers = { »remote-user = \"admin\" } }\npublic = true\nupstream = \"a\"",
        "routes[0].match.headers.remote-user",
        SAID_BY_OTHERS,
    ),
    case(
        "[auth]\nidentity_headers = { scopes = \"X-Rights\" }\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", headers = { »x-rights = \"all\" } }\npublic = true\nupstream = \"a\"",
        "routes[0].match.headers.x-rights",
        SAID_BY_OTHERS,
    ),
    // Written in capitals it is found at the table.
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", headers = »{ X-Consumer-Id = \"acme\" } }\npublic = true\nupstream = \"a\"",
        "routes[0].match.headers.x-consumer-id",
        SAID_BY_OTHERS,
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
    // Story: one limit in both places was two, which wrote one gauge and had one name in the fields of an answer.
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nlimits = [\"x\"]\nconsumer_limits = [»\"x\"]",
        "routes[0].consumer_limits[0]",
        "is in `routes[0].limits` already, and counts before authentication: name it there alone, or define another one",
    ),
    case(
        "[server]\ndefault_limits = [\"x\"]\n[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [»\"x\"]",
        "routes[0].consumer_limits[0]",
        "is in `server.default_limits` already, and counts before authentication: name it there alone, or define another one",
    ),
    case(
        "[limits.x]\nkey = \"ip\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [»\"x\"]\n[[routes]]\nname = \"y\"\nmatch = { prefix = \"/y\" }\nupstream = \"a\"\npublic = true\nlimits = [\"x\"]",
        "routes[0].consumer_limits[0]",
        "is in `routes[1].limits` already, and counts before authentication: name it there alone, or define another one",
    ),
    // Story: the field with the keys was gone when the limit asked for it, and all callers shared one quota.
    case(
        "[limits.x]\nkey = \"header:X-Api-Key\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [»\"x\"]",
        "routes[0].consumer_limits[0]",
        DROPPED,
    ),
    case(
        "[limits.x]\nkey = \"header:x-k\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[auth.api_keys.l]\nfile = \"f\"\nheader = \"x-k\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [»\"x\"]",
        "routes[0].consumer_limits[0]",
        DROPPED,
    ),
    case(
        "[limits.x]\nkey = \"header:authorization\"\nrate = \"1/s\"\n[auth.jwt.k]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\nkey_file = \"k\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nconsumer_limits = [»\"x\"]",
        "routes[0].consumer_limits[0]",
        DROPPED,
    ),
    // It has one fault, where it is named in vain.
    case(
        "[limits.x]\nkey = \"user\"\nrate = \"1/s\"\n[auth.api_keys.k]\nfile = \"f\"\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\nauth = [\"k\"]\nlimits = [»\"x\"]\nconsumer_limits = [\"x\"]",
        "routes[0].limits[0]",
        EARLY,
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
    // Story: all requests together have so much room, and of a larger body nothing was ever sent again.
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"a\"\npublic = true\nretry = { replay_max = »\"65MiB\" }",
        "routes[0].retry.replay_max",
        "must be at most \"64MiB\": all requests together have so much",
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
pub(super) const SECOND_ROUTES: &[Case] = &[
    case(
        "[[routes]]\nname = »\"all\"\nmatch = { prefix = \"/x\" }\npublic = true\nupstream = \"a\"",
        "routes[1].name",
        "is the name of routes[0] already: each route needs its own",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = »{ prefix = \"/\" }\npublic = true\nupstream = \"a\"",
        "routes[1].match",
        "gets nothing behind routes[0]: this route is never reached",
    ),
    // Story: another order, other names and fewer methods hid a twin.
    case(
        "[[routes]]\nname = \"x\"\nmatch = { path = \"/x/{id}/{*rest}\" }\npublic = true\nupstream = \"a\"\n[[routes]]\nname = \"y\"\nmatch = »{ path = \"/x/{a}/{*b}\" }\npublic = true\nupstream = \"a\"",
        "routes[2].match",
        "gets nothing behind routes[1]: this route is never reached",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", methods = [\"GET\", \"POST\"] }\npublic = true\nupstream = \"a\"\n[[routes]]\nname = \"y\"\nmatch = »{ prefix = \"/x\", methods = [\"POST\", \"GET\"] }\npublic = true\nupstream = \"a\"",
        "routes[2].match",
        "gets nothing behind routes[1]: this route is never reached",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", methods = [\"GET\", \"POST\"] }\npublic = true\nupstream = \"a\"\n[[routes]]\nname = \"y\"\nmatch = »{ prefix = \"/x\", methods = [\"POST\"] }\npublic = true\nupstream = \"a\"",
        "routes[2].match",
        "gets nothing behind routes[1]: this route is never reached",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { path = \"/x\", host = \"H\", headers = { a = \"1\", b = \"2\" } }\npublic = true\nupstream = \"a\"\n[[routes]]\nname = \"y\"\nmatch = »{ path = \"/x\", host = \"h\", headers = { b = \"2\", a = \"1\" } }\npublic = true\nupstream = \"a\"",
        "routes[2].match",
        "gets nothing behind routes[1]: this route is never reached",
    ),
];
