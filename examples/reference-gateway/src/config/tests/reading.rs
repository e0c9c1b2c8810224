//! Faults that a value has on its own: kind, unit, spelling; and several of them in one pass.

mod fields;
mod keys;
mod kinds;
mod routes;
mod units;

use super::{LEAST, errors, parse};

const ADDRESS: &str =
    "must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"";
const DURATION: &str =
    "must be a duration: a whole number and ms, s, m or h, such as \"250ms\" or \"5s\"";
const SIZE: &str = "must be a size: a whole number and B, KiB, MiB or GiB, such as \"64KiB\"";
const LARGE: &str = "must not be larger than a pebibyte, \"1048576GiB\"";
const RATE: &str =
    "must be a rate: a whole number from 1 to 1000000000 and /s, /m or /h, such as \"100/s\"";
const NETWORK: &str =
    "must be an address or a network, such as \"192.0.2.7\", \"10.0.0.0/8\" or \"2001:db8::/32\"";
const HEADER: &str = "must be a header name, such as \"x-request-id\"";
const KEY: &str =
    "must be \"ip\", \"header:NAME\", \"consumer\", \"user\", \"route\" or \"global\"";
const EARLY: &str = "must be \"ip\", \"header:NAME\", \"route\" or \"global\": consumer and user are not known \
                     before authentication";
const CLIENT: &str = "must be \"ip\" or \"header:NAME\"";
const FROM_ONE: &str = "must be a whole number from 1 to 4294967295, not 0";
const MISSING: &str = "is missing: it has no default and must be written";

#[test]
fn a_value_that_does_not_fit_is_named() {
    for cases in [
        fields::CASES,
        keys::CASES,
        kinds::CASES,
        units::CASES,
        routes::CASES,
    ] {
        for case in cases {
            case.check(LEAST);
        }
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

/// Story: of a misspelt `engine` it was only said that there was none.
#[test]
fn a_misspelt_tag_is_named() {
    let found = errors(&format!(
        "[log_ingest]\nqueue = {{ engin = \"disk\" }}\n{LEAST}"
    ));
    let found: Vec<_> = found.iter().map(|e| (&*e.key, &*e.message)).collect();
    let expected = [
        ("log_ingest.queue.engine", MISSING),
        (
            "log_ingest.queue.engin",
            "unknown key; did you mean `engine`?",
        ),
    ];
    assert_eq!(found, expected);
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
    // Story: of the rest nothing was said.
    let more = "\nand more, which are told once these are mended";
    for text in [text, unset, routes] {
        assert!(parse(&text).unwrap_err().to_string().ends_with(more));
    }
    let text: String = (0..40).map(|i| format!("k{i} = 1\n")).collect();
    assert!(!parse(&text).unwrap_err().to_string().ends_with(more));
}

#[test]
fn long_keys_are_cut() {
    let key = "k".repeat(100_000);
    let error = &errors(&format!("{key} = 1"))[0];
    assert!(error.to_string().len() < 500);
    assert!(error.key.ends_with("k…"));
}
