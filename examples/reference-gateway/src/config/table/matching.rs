//! `match` of a route.

use std::fmt;

use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, Visitor};

use crate::config::read::Broken;
use crate::config::value::{PathTemplate, Prefix, Text, list};

/// Which requests a route takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "MatchTable")]
pub struct Match {
    pub path: PathMatch,
    /// Empty: any.
    pub methods: Vec<Method>,
    pub host: Option<Host>,
    /// All of them are needed.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Which paths.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    Prefix(Prefix),
    Template(PathTemplate),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MatchTable {
    prefix: Option<Prefix>,
    path: Option<PathTemplate>,
    #[serde(deserialize_with = "some")]
    methods: Vec<Method>,
    host: Option<Host>,
    headers: Headers,
}

/// A list that is written and empty would mean any method, as one that is left out does.
fn some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Method>, D::Error> {
    let methods = list(deserializer)?;
    match methods.is_empty() {
        true => Err(D::Error::custom(
            "must name at least one method, or be left out for any",
        )),
        false => Ok(methods),
    }
}

impl TryFrom<MatchTable> for Match {
    type Error = Broken;

    fn try_from(table: MatchTable) -> Result<Self, Broken> {
        let path = match (table.prefix, table.path) {
            (Some(prefix), None) => PathMatch::Prefix(prefix),
            (None, Some(path)) => PathMatch::Template(path),
            (_, path) => {
                return Err(Broken {
                    key: path.map(|_| "path"),
                    rule: "must have exactly one of `prefix` and `path`",
                });
            }
        };
        Ok(Self {
            path,
            methods: table.methods,
            host: table.host,
            headers: table.headers.0,
        })
    }
}

/// A host name in lower case, without a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host(String);

impl Host {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let host = String::deserialize(deserializer)?.to_ascii_lowercase();
        let label = |label: &str| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if host.len() > 253 || !host.split('.').all(label) {
            return Err(D::Error::custom(
                "must be a host name without port, such as \"api.example.com\"",
            ));
        }
        Ok(Self(host))
    }
}

/// A table of header names and values, names in any case.
#[derive(Default)]
struct Headers(Vec<(HeaderName, HeaderValue)>);

impl<'de> Deserialize<'de> for Headers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeadersVisitor)
    }
}

struct HeadersVisitor;

impl<'de> Visitor<'de> for HeadersVisitor {
    type Value = Headers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Headers, A::Error> {
        let mut headers: Vec<(HeaderName, HeaderValue)> = Vec::new();
        while let Some(name) = map.next_key_seed(Another(&headers))? {
            let Text(value) = map.next_value()?;
            headers.push((name, value));
        }
        Ok(Headers(headers))
    }
}

/// A name that is not there yet.
struct Another<'h>(&'h [(HeaderName, HeaderValue)]);

impl<'de> DeserializeSeed<'de> for Another<'_> {
    type Value = HeaderName;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<HeaderName, D::Error> {
        let Text(name) = Text::deserialize(deserializer)?;
        match self.0.iter().any(|(known, _)| *known == name) {
            true => Err(D::Error::custom(
                "must not name one header twice: case does not count",
            )),
            false => Ok(name),
        }
    }
}
