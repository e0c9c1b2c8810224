//! What routes refer to: keys, limits, lanes, upstreams, the log intake.

use super::super::{Case, case};
use super::{NEVER_THERE, PAIR, QUEUE, STORE};

pub(super) const CASES: &[Case] = &[
    // Authentication.
    case(
        "[auth.jwt.x]\nissuer = \"i\"\naudience = [\"a\"]\nalgorithms = [\"RS256\"]\nkey_file = \"k\"\n[auth.api_keys.»x]\nfile = \"f\"",
        "auth.api_keys.x",
        "is also the name of a [auth.jwt] table: routes could not tell them apart",
    ),
    // Story: keys were looked for in `Transfer-Encoding`, and each request was a 401.
    case(
        "[auth.api_keys.x]\nfile = \"f\"\nheader = »\"Transfer-Encoding\"",
        "auth.api_keys.x.header",
        "must not be a field that HTTP itself gives a meaning: choose another name",
    ),
    case(
        "[auth.api_keys.x]\nfile = \"f\"\nheader = »\"x-forwarded-for\"",
        "auth.api_keys.x.header",
        "must not be a field that the gateway itself sets or drops on the way to upstreams: choose another name",
    ),
    case(
        "[auth.api_keys.x]\nfile = \"f\"\nheader = »\"x-request-id\"",
        "auth.api_keys.x.header",
        "must not be a field that the gateway itself sets or drops on the way to upstreams: choose another name",
    ),
    case(
        "[auth]\nidentity_headers = { user = »\"X-Consumer-Id\" }",
        "auth.identity_headers.user",
        "is the header of `consumer` already: each needs its own",
    ),
    case(
        "[auth]\nidentity_headers = { user = »\"X-Forwarded-For\" }",
        "auth.identity_headers.user",
        "must not be a field that the gateway itself sets or drops on the way to upstreams: choose another name",
    ),
    case(
        "[server]\nrequest_id = { header = \"x-call\" }\n[auth]\nidentity_headers = { scopes = »\"x-call\" }",
        "auth.identity_headers.scopes",
        "must not be a field that the gateway itself sets or drops on the way to upstreams: choose another name",
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
    // Connections over HTTP/2.
    case(
        "[server]\nthreads = 4\n[upstreams.b]\nendpoints = [\"http://h\", \"http://i\"]\nprotocol = \"http2\"\n\
         pool.max_connections = »7\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"b\"\n\
         public = true\n[[routes]]\nname = \"y\"\nmatch = { prefix = \"/y\" }\nupstream = \"b\"\npublic = true",
        "upstreams.b.pool.max_connections",
        "must be at least 8: over HTTP/2 each of 4 threads has a connection to each endpoint",
    ),
    case(
        "[server]\nthreads = 4\n[lanes.lane.l]\nguaranteed = 0.1\nthreads = 2\n\
         [upstreams.b]\nendpoints = [\"http://h\"]\nprotocol = \"http2\"\npool.max_connections = »5\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"b\"\npublic = true\n\
         [[routes]]\nname = \"y\"\nmatch = { prefix = \"/y\" }\nupstream = \"b\"\nlane = \"l\"\npublic = true",
        "upstreams.b.pool.max_connections",
        "must be at least 6: over HTTP/2 each of 6 threads has a connection to each endpoint",
    ),
    case(
        "[server]\nthreads = 1\n[upstreams.b]\nendpoints = [\"http://h\", \"http://i\"]\nprotocol = \"http2\"\n\
         pool.max_connections = »1\n[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\nupstream = \"b\"\npublic = true",
        "upstreams.b.pool.max_connections",
        "must be at least 2: over HTTP/2 the one thread has a connection to each endpoint",
    ),
    case(
        "[server]\nthreads = 4\n[lanes.lane.l]\nguaranteed = 0.1\nthreads = 2\nmode = \"off\"\n\
         [upstreams.b]\nendpoints = [\"http://h\"]\nprotocol = \"http2\"\npool.max_connections = »3\n\
         [[routes]]\nname = \"y\"\nmatch = { prefix = \"/y\" }\nupstream = \"b\"\nlane = \"l\"\npublic = true",
        "upstreams.b.pool.max_connections",
        "must be at least 4: over HTTP/2 each of 4 threads has a connection to each endpoint",
    ),
    // Limits.
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
        "[lanes.lane.x]\nguaranteed = 0.1\nnice = »0",
        "lanes.lane.x.nice",
        "only goes with `threads`: the server's are there for all lanes",
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
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbreaker = { slow_over = »\"169h\" }",
        "upstreams.b.breaker.slow_over",
        "must be at most 7 days, \"168h\"",
    ),
    // Log intake.
    case(
        "[log_ingest]\nclient = »[]",
        "log_ingest.client",
        "must hold at least one, such as [\"ip\"]",
    ),
    case(
        "[log_ingest]\nclient = [\"header:x-a\", \"ip\", »\"header:x-b\"]",
        "log_ingest.client[2]",
        "is never asked: each request has the address before it",
    ),
    // Story: what had these in front of the address went by the address.
    case(
        "[auth.api_keys.k]\nfile = \"f\"\n[log_ingest]\nclient = [»\"header:x-api-key\", \"ip\"]\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "log_ingest.client[0]",
        NEVER_THERE,
    ),
    case(
        "[log_ingest]\nclient = [\"header:x-client-id\", »\"header:authorization\", \"ip\"]\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "log_ingest.client[1]",
        NEVER_THERE,
    ),
    case(
        "[log_ingest]\nclient = [»\"header:x-remote-user\", \"ip\"]\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "log_ingest.client[0]",
        NEVER_THERE,
    ),
    case(
        "[log_ingest]\nclient = [»\"header:x-consumer-id\", \"ip\"]\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "log_ingest.client[0]",
        NEVER_THERE,
    ),
    case(
        "[auth]\nidentity_headers = { user = \"x-person\" }\n[log_ingest]\nclient = [»\"header:x-user-id\", \"ip\"]\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "log_ingest.client[0]",
        NEVER_THERE,
    ),
    case(
        "[log_ingest]\nmax_event_bytes = »\"255B\"",
        "log_ingest.max_event_bytes",
        "must be at least \"256B\": the required members must fit",
    ),
    case(
        "[log_ingest]\nmax_body_bytes = »\"2GiB\"",
        "log_ingest.max_body_bytes",
        "must be at most \"1GiB\"",
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
        "[log_ingest]\nsink = { kind = \"elasticsearch\", nodes = [\"http://h\", \"http://h:9200\", »\"http://H:80/\"], index = \"i\" }",
        "log_ingest.sink.nodes[2]",
        "is listed twice: it would get twice the requests",
    ),
    case(
        "[log_ingest]\nsink = { kind = \"elasticsearch\", nodes = »[], index = \"i\" }",
        "log_ingest.sink.nodes",
        "must hold at least one URL, such as [\"http://127.0.0.1:9200\"]",
    ),
    // Story: an outage of the sink had the gateway answer everything with 503 before the queue was full.
    case(
        "[log_ingest]\nqueue = { engine = \"memory\", max_bytes = »\"943MiB\" }\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "log_ingest.queue.max_bytes",
        QUEUE,
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"disk\", max_memory = »\"943MiB\" }\n\
         [[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\npublic = true\nservice = \"log-ingest\"",
        "log_ingest.queue.max_memory",
        QUEUE,
    ),
    case(
        "[log_ingest]\nqueue = { engine = \"disk\", max_memory = »\"4095KiB\" }",
        "log_ingest.queue.max_memory",
        "must be at least \"4MiB\"",
    ),
];
