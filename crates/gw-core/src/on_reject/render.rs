use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{Caller, Documentation, RejectContext};
use crate::rejection::{Code, Detail, Rejection};

/// The form of a refusal's body.
#[derive(Debug, Clone, Copy)]
pub(super) enum Format {
    Envelope,
    Problem,
}

/// The answer to a refused request. The rejection itself goes into the extensions.
pub(super) fn render<B>(
    format: Format,
    rejection: Rejection,
    context: &RejectContext,
    documentation: &Documentation,
    body: impl FnOnce(Bytes) -> B,
) -> Response<B> {
    let mut response = match context.caller {
        Caller::Grpc => grpc(&rejection).map(body),
        Caller::Http | Caller::HttpHead => {
            http(format, &rejection, context, documentation).map(body)
        }
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(after) = rejection.retry_after_hint() {
        headers.insert(header::RETRY_AFTER, after.header_value());
    }
    headers.extend(rejection.fields().iter().cloned());
    if let Some(extensions) = rejection.extensions() {
        response.extensions_mut().extend(extensions.clone());
    }
    response.extensions_mut().insert(rejection);
    response
}

fn http(
    format: Format,
    rejection: &Rejection,
    context: &RejectContext,
    documentation: &Documentation,
) -> Response<Bytes> {
    let document = Document {
        rejection,
        context,
        documentation,
    };
    let status = document.status();
    let (text, media_type) = match format {
        Format::Envelope => (to_json(&Envelope(document)), "application/json"),
        Format::Problem => (
            to_json(&ProblemDocument(document)),
            "application/problem+json",
        ),
    };
    let mut response = Response::new(text);
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    if context.caller == Caller::HttpHead {
        // RFC 9110 section 9.3.2: the fields that GET would have got, its length included, and no body.
        let length = HeaderValue::from(response.body().len());
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, length);
        *response.body_mut() = Bytes::new();
    }
    response
}

/// A trailers-only answer: HTTP 200, the status in the head, and a body that has already ended.
fn grpc(rejection: &Rejection) -> Response<Bytes> {
    const STATUS: HeaderName = HeaderName::from_static("grpc-status");
    const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
    const PUSHBACK: HeaderName = HeaderName::from_static("grpc-retry-pushback-ms");

    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    headers.insert(STATUS, HeaderValue::from(rejection.grpc() as u16));
    if let Ok(message) = HeaderValue::try_from(percent_encode(rejection.code().message())) {
        headers.insert(MESSAGE, message);
    }
    if let Some(after) = rejection.retry_after_hint() {
        headers.insert(
            PUSHBACK,
            HeaderValue::from(u64::from(after.seconds()) * 1000),
        );
    }
    response
}

/// As the gRPC specification encodes `grpc-message`: printable ASCII stands for itself, except `%`.
fn percent_encode(message: &str) -> String {
    use std::fmt::Write as _;

    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            // Writing to a string does not fail.
            _ => _ = write!(encoded, "%{byte:02X}"),
        }
    }
    encoded
}

fn to_json(document: &impl Serialize) -> Bytes {
    /// Most documents fit, so that they are written without moving to where there is more room.
    const ROOM: usize = 256;

    let mut text = Vec::with_capacity(ROOM);
    // Only static text, integers and checked strings are serialised, and none of these fails.
    match serde_json::to_writer(&mut text, document) {
        Ok(()) => text.into(),
        Err(_) => Bytes::new(),
    }
}

struct Document<'a> {
    rejection: &'a Rejection,
    context: &'a RejectContext,
    documentation: &'a Documentation,
}

impl Document<'_> {
    fn code(&self) -> &'static Code {
        self.rejection.code()
    }

    fn status(&self) -> StatusCode {
        let other = self.context.status;
        other.unwrap_or_else(|| self.code().status())
    }

    fn documentation_url(&self) -> Option<String> {
        // Before a page is made up that nobody asks for.
        self.documentation.0.as_ref()?;
        match self.code().documentation() {
            Some(page) => self.documentation.url(page),
            None => {
                let page = self.code().name().to_ascii_lowercase().replace('_', "-");
                self.documentation.url(&page)
            }
        }
    }

    /// `request_id` and `trace_id`, where known.
    fn serialize_ids<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        if let Some(id) = &self.context.request_id {
            map.serialize_entry("request_id", id.as_str())?;
        }
        if let Some(trace) = &self.context.trace {
            map.serialize_entry("trace_id", &trace.trace_id.to_string())?;
        }
        Ok(())
    }
}

struct Envelope<'a>(Document<'a>);

impl Serialize for Envelope<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut outer = serializer.serialize_map(Some(1))?;
        outer.serialize_entry("error", &Inner(&self.0))?;
        outer.end()
    }
}

struct Inner<'a>(&'a Document<'a>);

impl Serialize for Inner<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("code", self.0.code().name())?;
        map.serialize_entry("message", self.0.code().message())?;
        map.serialize_entry("details", &Details(self.0.rejection))?;
        self.0.serialize_ids(&mut map)?;
        if let Some(url) = self.0.documentation_url() {
            map.serialize_entry("documentation_url", &url)?;
        }
        map.end()
    }
}

struct ProblemDocument<'a>(Document<'a>);

impl Serialize for ProblemDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let code = self.0.code();
        let mut map = serializer.serialize_map(None)?;
        let rejection = self.0.rejection;
        let (message, status) = (code.message(), self.0.status());
        let page = || self.0.documentation_url().map(Cow::Owned);
        let kind = rejection.registered_type().map(Cow::Borrowed);
        if let Some(kind) = kind.or_else(page) {
            map.serialize_entry("type", &kind)?;
            map.serialize_entry("title", message)?;
        } else {
            // Such a problem is titled as its status is (RFC 9457 section 4.2.1).
            map.serialize_entry("type", "about:blank")?;
            if let Some(phrase) = status.canonical_reason() {
                map.serialize_entry("title", phrase)?;
            }
            map.serialize_entry("detail", message)?;
        }
        map.serialize_entry("status", &status.as_u16())?;
        map.serialize_entry("code", code.name())?;
        if let Some((member, names)) = rejection.registered_names() {
            map.serialize_entry(member, &Names(names))?;
        }
        map.serialize_entry("details", &Details(rejection))?;
        self.0.serialize_ids(&mut map)?;
        map.end()
    }
}

struct Names<'a>(&'a [Arc<str>]);

impl Serialize for Names<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(|name| &**name))
    }
}

struct Details<'a>(&'a Rejection);

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let details = self.0.details();
        let mut map = serializer.serialize_map(Some(details.len()))?;
        for (key, value) in details {
            match value {
                Detail::Integer(number) => map.serialize_entry(key, number)?,
                Detail::Word(word) => map.serialize_entry(key, word)?,
                Detail::Field(path) => map.serialize_entry(key, path.as_str())?,
            }
        }
        map.end()
    }
}
