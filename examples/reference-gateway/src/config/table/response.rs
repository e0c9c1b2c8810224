//! `[response]`

use http::{HeaderName, HeaderValue};
use serde::Deserialize;

use crate::config::value::{FromText, HttpUrl, answer_fields, text_or_off};

/// What every answer has, and has not.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Response {
    #[serde(deserialize_with = "answer_fields")]
    pub remove_headers: Vec<HeaderName>,
    pub security_headers: SecurityHeaders,
    pub compress: bool,
    /// Where the codes of errors are explained; the code is appended. `""`: errors carry no link.
    #[serde(deserialize_with = "text_or_off")]
    pub documentation_url: Option<HttpUrl>,
}

impl Default for Response {
    fn default() -> Self {
        Self {
            remove_headers: [
                "server",
                "x-powered-by",
                "x-internal-request-id",
                "x-upstream-latency",
            ]
            .map(HeaderName::from_static)
            .to_vec(),
            security_headers: SecurityHeaders::default(),
            compress: true,
            documentation_url: Some(HttpUrl::from_static("https://docs.example.com/errors/")),
        }
    }
}

/// `security_headers`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security`; `""`: not sent.
    #[serde(deserialize_with = "text_or_off")]
    pub hsts: Option<HeaderValue>,
    /// `X-Content-Type-Options: nosniff`
    pub content_type_options: bool,
    /// `X-Frame-Options`; `""`: not sent.
    #[serde(deserialize_with = "text_or_off")]
    pub frame_options: Option<FrameOptions>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self {
            hsts: Some(HeaderValue::from_static(
                "max-age=31536000; includeSubDomains",
            )),
            content_type_options: true,
            frame_options: Some(FrameOptions::Deny),
        }
    }
}

/// Who may show an answer in a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameOptions {
    Deny,
    SameOrigin,
}

impl FromText for FrameOptions {
    fn from_text(text: &str) -> Result<Self, &'static str> {
        match text {
            "DENY" => Ok(Self::Deny),
            "SAMEORIGIN" => Ok(Self::SameOrigin),
            _ => Err("must be \"DENY\", \"SAMEORIGIN\" or \"\" for none"),
        }
    }
}
