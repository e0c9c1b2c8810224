//! Values that others have rules for.

use std::path::PathBuf;

use gw_pipeline::inbound::KeyDigest;
use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Method};
use serde::de::Deserializer;

use super::text::{FromText, list};

const HEADER: &str = "must be a header name, such as \"x-request-id\"";

/// A field of requests. Those with an underscore are dropped before anything looks at them.
impl FromText for HeaderName {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        if text.contains('_') {
            return Err("must have no `_`: fields with one do not pass the gateway, write `-`");
        }
        text.parse().map_err(|_| HEADER)
    }
}

/// A field of answers, which pass with any name.
struct AnswerField(HeaderName);

impl FromText for AnswerField {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        text.parse().map(Self).map_err(|_| HEADER)
    }
}

/// For `#[serde(deserialize_with)]` on names of fields that answers have.
pub(in crate::config) fn answer_fields<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<HeaderName>, D::Error> {
    let fields = list(deserializer)?;
    Ok(fields.into_iter().map(|AnswerField(name)| name).collect())
}

impl FromText for HeaderValue {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        // White space around a value is not part of it, so that no request has such a one.
        if text.trim_matches([' ', '\t']) != text {
            return Err("must be a header value without white space around it");
        }
        text.parse()
            .map_err(|_| "must be a header value: visible characters on one line")
    }
}

impl FromText for Method {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be a method in capital letters, such as \"GET\"";
        // Methods are case-sensitive: `get` would be a method that no client sends.
        if !text.bytes().all(|b| b.is_ascii_uppercase() || b == b'-') {
            return Err(RULE);
        }
        text.parse().map_err(|_| RULE)
    }
}

impl FromText for PathAndQuery {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        const RULE: &str = "must be a path, such as \"/healthz\"";
        if !text.starts_with('/') || text.contains('#') {
            return Err(RULE);
        }
        text.parse().map_err(|_| RULE)
    }
}

impl FromText for KeyDigest {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        text.parse()
            .map_err(|_| "must be 64 hex digits, the SHA-256 of the key")
    }
}

impl FromText for PathBuf {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() || text.contains('\0') {
            return Err("must be the path of a file or folder");
        }
        Ok(Self::from(text))
    }
}
