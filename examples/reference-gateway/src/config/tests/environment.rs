//! Variables of the environment.

use std::path::Path;

use super::{Case, LEAST, case, parse};
use crate::config::error::ConfigErrors;
use crate::config::table::Config;

fn variables(name: &str) -> Option<String> {
    let value = match name {
        "LISTEN" => "127.0.0.1:7777",
        "ENDPOINT" => "http://orders:9001",
        "EMPTY" => "",
        "BAD" => "hunter2",
        "NESTED" => "${LISTEN}",
        _ => return None,
    };
    Some(value.to_owned())
}

fn with_variables(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse(
        "gateway.toml",
        &format!("{text}\n{LEAST}"),
        Path::new(""),
        &variables,
    )
}

fn lane_of(value: &str) -> String {
    let text = format!("[server]\ndefault_lane = \"{value}\"\nlisten = []\n");
    let errors = with_variables(&text).unwrap_err();
    assert_eq!(errors.as_slice().len(), 2, "{errors}");
    errors.to_string()
}

#[test]
fn a_variable_replaces_a_whole_value() {
    let text = r#"
[server]
listen = ["${LISTEN}"]
header_timeout = "${TIMEOUT:-7s}"
default_lane = "${EMPTY:-core}"
[observe]
access_log = { path = "${LOG:-logs/access.json}" }
[upstreams.b]
endpoints = ["${ENDPOINT}", "${OTHER:-http://[::1]:80}"]
"#;
    let config = with_variables(text).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:7777".parse().unwrap()]);
    assert_eq!(config.server.header_timeout.as_secs(), 7);
    assert_eq!(config.server.default_lane, "core");
    let endpoints: Vec<_> = config.upstreams["b"]
        .endpoints
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(endpoints, ["http://orders:9001", "http://[::1]:80"]);
}

#[test]
fn a_set_variable_wins_over_the_default() {
    let config = with_variables("[server]\nlisten = [\"${LISTEN:-127.0.0.1:1}\"]").unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:7777".parse().unwrap()]);
}

#[test]
fn a_default_may_be_empty_and_may_hold_anything() {
    let text = "[response]\nsecurity_headers = { hsts = \"${HSTS:-}\" }\ndocumentation_url = \"${DOC:-http://h/a:-b}\"";
    let response = with_variables(text).unwrap().response;
    assert_eq!(response.security_headers.hsts, None);
    assert_eq!(response.documentation_url.unwrap().uri(), "http://h/a:-b");
}

/// A value from the environment is text, whatever it looks like.
#[test]
fn a_value_is_not_replaced_again() {
    let errors = with_variables("[server]\nlisten = [\"${NESTED}\"]").unwrap_err();
    assert!(
        errors.as_slice()[0]
            .message
            .starts_with("must be an IP address"),
        "{errors}"
    );
}

const CASES: &[Case] = &[
    case(
        "[admin]\nlisten = »\"${ADMIN}\"",
        "admin.listen",
        "environment variable ADMIN is not set: set it, or write \"${ADMIN:-default}\"",
    ),
    case(
        "[upstreams.b]\nendpoints = [\"http://h\", »\"${B}\"]",
        "upstreams.b.endpoints[1]",
        "environment variable B is not set: set it, or write \"${B:-default}\"",
    ),
    case(
        "[upstreams.b]\nendpoints = [»\"http://${HOST}:80\"]",
        "upstreams.b.endpoints[0]",
        "a variable must be the whole value: write \"${NAME}\" or \"${NAME:-default}\"",
    ),
    // Story: the inner one was the value, as it stands there.
    case(
        "[server]\ndefault_lane = »\"${LANE:-${OTHER:-core}}\"",
        "server.default_lane",
        "a default must be plain: no variable is looked for in it",
    ),
    case(
        "[server]\ndefault_lane = »\"${}\"",
        "server.default_lane",
        "a variable must be the whole value: write \"${NAME}\" or \"${NAME:-default}\"",
    ),
    case(
        "[server]\ndefault_lane = »\"${1X}\"",
        "server.default_lane",
        "a variable must be the whole value: write \"${NAME}\" or \"${NAME:-default}\"",
    ),
    case(
        "[server]\ndefault_lane = »\"${LANE-core}\"",
        "server.default_lane",
        "a variable must be the whole value: write \"${NAME}\" or \"${NAME:-default}\"",
    ),
    case(
        "[server]\ndefault_lane = »\"${LANE\"",
        "server.default_lane",
        "a variable must be the whole value: write \"${NAME}\" or \"${NAME:-default}\"",
    ),
    // A replaced value is still the file's value: the place does not move.
    case(
        "[server]\nheader_timeout = \"${A:-1s}\"\nlisten = [»\"${B:-nowhere, and this default is long}\"]",
        "server.listen[0]",
        "must be an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
    ),
];

#[test]
fn what_cannot_be_replaced_is_reported_once() {
    for case in CASES {
        case.check(LEAST);
    }
}

#[test]
fn all_unset_variables_come_together_with_other_faults() {
    let text = "[server]\nlisten = [\"${A}\"]\nheader_timeout = 5\n[admin]\nlisten = \"${B}\"\n";
    let keys: Vec<_> = parse(text)
        .unwrap_err()
        .as_slice()
        .iter()
        .map(|e| e.key.clone())
        .collect();
    assert_eq!(
        keys,
        ["server.listen[0]", "server.header_timeout", "admin.listen"]
    );
}

/// It may be a password.
#[test]
fn an_error_never_shows_a_value_from_the_environment() {
    let tables = [
        "[server]\nlisten = [\"${BAD}\"]",
        "[server]\nthreads = \"${BAD}\"",
        "[server]\nnot_found = \"${BAD}\"",
        "[server]\ndefault_lane = \"${BAD}\"",
        "[server]\ndefault_limits = [\"${BAD}\"]",
        "[limits.x]\nkey = \"${BAD}\"\nrate = \"${BAD}\"\nstore = \"${BAD}\"",
        "[ip]\nallow = [\"${BAD}\"]",
        "[log_ingest]\nqueue = { engine = \"${BAD}\" }\nsink = \"${BAD}\"",
    ];
    for table in tables {
        let shown = with_variables(table).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(!lane_of("${BAD}").contains("hunter2"));
}
