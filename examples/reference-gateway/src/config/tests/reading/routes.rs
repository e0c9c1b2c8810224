//! What is written in routes.

use super::super::{Case, case};
use super::MISSING;

pub(super) const CASES: &[Case] = &[
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
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/a\", path = »\"/a\" }",
        "routes[0].match.path",
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
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", methods = »[] }",
        "routes[0].match.methods",
        "must name at least one method, or be left out for any",
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
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\", headers = { »x-y = \"1\", X-Y = \"2\" } }",
        "routes[0].match.headers.x-y",
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
        "must be a whole number from 1 to 10, not 0",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\nhedge = { percentile = »1.0 }",
        "routes[0].hedge.percentile",
        "must be from 0.5 to 0.9999, such as 0.99",
    ),
    case(
        "[[routes]]\nname = \"x\"\nmatch = { prefix = \"/\" }\ncanary = { upstream = \"a\", percent = »101 }",
        "routes[0].canary.percent",
        "must be a whole number from 0 to 100, not 101",
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
