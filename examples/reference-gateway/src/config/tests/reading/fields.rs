//! Fields of requests, wherever they are named.
//!
//! Story: `header:x_device` was taken, and all requests shared one quota, since fields with an underscore are dropped first of all.

use super::super::{Case, case, valid};
use super::{HEADER, LEAST};

const UNDERSCORE: &str = "must have no `_`: fields with one do not pass the gateway, write `-`";

pub(super) const CASES: &[Case] = &[
    case(
        "[limits.x]\nkey = »\"header:x_device\"\nrate = \"1/s\"",
        "limits.x.key",
        UNDERSCORE,
    ),
    case(
        "[limits.x]\nkey = »\"header:x device\"\nrate = \"1/s\"",
        "limits.x.key",
        HEADER,
    ),
    case(
        "[lanes.lane.x]\nguaranteed = 0.1\nper_key = { key = »\"header:x_device\" }",
        "lanes.lane.x.per_key.key",
        UNDERSCORE,
    ),
    case(
        "[log_ingest]\nclient = [\"ip\", »\"header:x_client\"]",
        "log_ingest.client[1]",
        UNDERSCORE,
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\"]\nbalance = »\"hash:header:x_client\"",
        "upstreams.b.balance",
        UNDERSCORE,
    ),
    case(
        "[auth.api_keys.x]\nfile = \"f\"\nheader = »\"api_key\"",
        "auth.api_keys.x.header",
        UNDERSCORE,
    ),
    case(
        "[auth]\nidentity_headers = { user = »\"x_user\" }",
        "auth.identity_headers.user",
        UNDERSCORE,
    ),
    case(
        "[server]\nrequest_id = { header = »\"x_request_id\" }",
        "server.request_id.header",
        UNDERSCORE,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\", headers = { »x_beta = \"1\" } }",
        "routes[0].match.headers.x_beta",
        UNDERSCORE,
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/x\" }\ncanary = { upstream = \"a\", header = »\"x_canary\" }",
        "routes[0].canary.header",
        UNDERSCORE,
    ),
];

/// Those of answers pass.
#[test]
fn a_field_of_answers_may_have_an_underscore() {
    let config = valid(&format!(
        "[response]\nremove_headers = [\"X_Powered_By\"]\n{LEAST}"
    ));
    assert_eq!(config.response.remove_headers, ["x_powered_by"]);
}
