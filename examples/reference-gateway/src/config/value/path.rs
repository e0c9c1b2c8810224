//! Paths that routes match.

use std::collections::HashSet;
use std::fmt;

use super::text::{FromText, deserialize_from_text};

/// A path prefix, matched on segment borders. Starts with a slash and ends with none, except `/`,
/// which matches all.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Prefix(String);

impl Prefix {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromText for Prefix {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        if text != "/" {
            for segment in segments(text)? {
                literal(segment)?;
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// A path template: literal segments, `{name}` for one segment, `{*name}` for the rest at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathTemplate(String);

impl PathTemplate {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromText for PathTemplate {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        let mut names = HashSet::new();
        let mut rest_seen = false;
        if text != "/" {
            for segment in segments(text)? {
                if rest_seen {
                    return Err("must have {*rest} as its last segment only");
                }
                let Some(parameter) = segment
                    .strip_prefix('{')
                    .and_then(|inner| inner.strip_suffix('}'))
                else {
                    literal(segment)?;
                    continue;
                };
                rest_seen = parameter.starts_with('*');
                let name = parameter.strip_prefix('*').unwrap_or(parameter);
                let word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                if !word || name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
                    return Err(
                        "must name parameters with letters, digits and _, such as {id} or {*rest}",
                    );
                }
                if !names.insert(name) {
                    return Err("must not use one parameter name twice");
                }
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// The segments of a path that is already in normal form.
fn segments(text: &str) -> Result<impl Iterator<Item = &str>, &'static str> {
    let inner = text
        .strip_prefix('/')
        .ok_or("must start with /, such as \"/api/orders\"")?;
    if inner.ends_with('/') {
        return Err("must not end with /: write \"/api\", not \"/api/\"");
    }
    Ok(inner.split('/'))
}

/// Requests are compared in one normal form, so what that form never contains would never match. Nor would a `;`: what stands behind
/// one is no part of the path to some upstreams, so the pipeline refuses what a route with it would take.
fn literal(segment: &str) -> Result<(), &'static str> {
    if segment.contains(['{', '}']) {
        return Err("must have parameters as whole segments of a `path`, such as \"/orders/{id}\"");
    }
    if matches!(segment, "" | "." | "..") {
        return Err("must not contain empty, . or .. segments");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
    if !segment.bytes().all(plain) {
        return Err("must consist of letters, digits and -._~!$&'()*+,=:@ between slashes");
    }
    Ok(())
}

deserialize_from_text!(Prefix, PathTemplate);
