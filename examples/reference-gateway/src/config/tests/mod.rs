//! Tests of the loader.

mod bounds;
mod contract;
mod defaults;
mod environment;
mod properties;
mod reading;
mod robustness;
mod rules;
mod syntax;
mod values;

use std::path::Path;

use super::error::{ConfigError, ConfigErrors};
use super::table::Config;

/// The contract, byte for byte.
const CONTRACT: &str = include_str!("../../../tests/fixtures/contract.toml");

/// The least that is a configuration: an upstream `a` and a route to it. Goes behind other tables.
const LEAST: &str = r#"
[upstreams.a]
endpoints = ["http://127.0.0.1:9001"]
[[routes]]
name = "all"
match = { prefix = "/" }
upstream = "a"
public = true
"#;

fn no_variables(_: &str) -> Option<String> {
    None
}

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse("gateway.toml", text, Path::new("/etc/gw"), &no_variables)
}

fn valid(text: &str) -> Config {
    parse(text).unwrap_or_else(|errors| panic!("must load:\n{errors}\n\n{text}"))
}

fn errors(text: &str) -> Vec<ConfigError> {
    match parse(text) {
        Ok(_) => panic!("must not load:\n{text}"),
        Err(errors) => errors.as_slice().to_vec(),
    }
}

/// Takes the `»` out of a text and says on which line and column it stood.
fn marked(text: &str) -> (String, usize, usize) {
    let (before, after) = text
        .split_once('»')
        .expect("the text marks where the error is");
    let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or_default()
        .chars()
        .count()
        + 1;
    (format!("{before}{after}"), line, column)
}

/// One broken file: `»` stands where the only error must point.
struct Case {
    text: &'static str,
    key: &'static str,
    message: &'static str,
}

impl Case {
    /// Checks the case, with `after` behind its text.
    fn check(&self, after: &str) {
        let (text, line, column) = marked(self.text);
        let text = format!("{text}\n{after}");
        let found = errors(&text);
        let found: Vec<_> = found
            .iter()
            .map(|e| (e.line, e.column, e.key.as_str(), e.message.as_str()))
            .collect();
        assert_eq!(
            found,
            [(line, column, self.key, self.message)],
            "in:\n{text}"
        );
    }
}

const fn case(text: &'static str, key: &'static str, message: &'static str) -> Case {
    Case { text, key, message }
}
