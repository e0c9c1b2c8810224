//! Kinds of values, and words of which there are a few.

use super::super::{Case, case};

pub(super) const CASES: &[Case] = &[
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
        "must be a whole number from 0 to 1024, not a string",
    ),
    case(
        "[server]\nthreads = »-1",
        "server.threads",
        "must be a whole number from 0 to 1024, not -1",
    ),
    case(
        "[server]\nthreads = »1.5",
        "server.threads",
        "must be a whole number from 0 to 1024, not 1.5",
    ),
    case(
        "[server]\nthreads = »99999999999999999999",
        "server.threads",
        "must be a whole number from 0 to 1024, not a number of this size",
    ),
    case(
        "[server]\nthreads = »2026-01-01",
        "server.threads",
        "must be a whole number from 0 to 1024, not a date",
    ),
    case(
        "[server]\nmax_connections = »0",
        "server.max_connections",
        "must be a whole number from 1 to 1000000, not 0",
    ),
    case(
        "[server]\nmax_headers = »4294967296",
        "server.max_headers",
        "must be a whole number from 1 to 4096, not 4294967296",
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
    case(
        "[ip]\nmode = »1",
        "ip.mode",
        "must be a string in quotes, not 1",
    ),
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
];
