//! What the head of a request must look like before anything is decided by it.

mod host;

use gw_core::Rejection;
use gw_core::context::{RequestId, TraceContext};
use http::header::{ALLOW, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme, Uri};
use http::{Extensions, HeaderMap, HeaderValue, Method, Version};

use self::host::find_host;
pub(super) use self::host::is_host;
use super::path::{EncodedSlash, NormalPath, normalize};
use crate::codes;
use crate::fields::{has_underscore, is_padded, remove_where};

/// The largest head that is let through.
///
/// The server in front has limits of its own, by which it protects its buffers; these here answer with the envelope,
/// and hold whatever the server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeadLimits {
    /// The longest target (path and query), in bytes. Beyond: 414.
    pub uri_bytes: usize,
    /// The most header fields that the client sends. Beyond: 431.
    pub fields: usize,
    /// The most bytes in names and values of header fields that the client sends. Beyond: 431.
    pub field_bytes: usize,
}

impl HeadLimits {
    /// These limits.
    pub const fn new(uri_bytes: usize, fields: usize, field_bytes: usize) -> Self {
        Self {
            uri_bytes,
            fields,
            field_bytes,
        }
    }
}

impl Default for HeadLimits {
    /// 8 KiB of target, 100 fields, 32 KiB of fields.
    fn default() -> Self {
        Self {
            uri_bytes: 8 * 1024,
            fields: 100,
            field_bytes: 32 * 1024,
        }
    }
}

/// What a head tells that is in its one form.
#[derive(Debug)]
pub(super) struct Head {
    /// The length that it declares for the body.
    pub(super) length: Option<u64>,
    /// What else its path may be taken for.
    pub(super) other_paths: Vec<String>,
}

/// The longest method that is passed on, in bytes. The longest one registered is `UPDATEREDIRECTREF`.
const MAX_METHOD: usize = 32;

/// Brings the head into its one form, or refuses it.
///
/// After it there is exactly one valid `Host` field, which the authority of an absolute target has replaced; the
/// target is a path in normal form and a query; no field's name has an underscore, since many upstreams read
/// `X_A` and `X-A` as the same field; no value over HTTP/2 begins or ends with white space, since a message that has one must not
/// go on (RFC 9113 section 8.2.1); and nothing is expected but `100-continue`.
pub(super) fn normalize_head(
    parts: &mut Parts,
    limits: HeadLimits,
    slash: EncodedSlash,
) -> Result<Head, Rejection> {
    // First, since it ends the connection where what follows is no request, whatever else is wrong with the head.
    check_method(parts)?;
    check_target_size(&parts.uri, limits)?;
    check_number(parts, limits)?;
    let seen = look(&parts.headers);
    check_bytes(parts, seen.bytes, limits)?;
    let (underscored, expects, length) = (seen.underscored, seen.expects, seen.length());
    // HTTP/1 does not count it as part of the value.
    if seen.padded && parts.version >= Version::HTTP_2 {
        return Err(malformed("value", "white space at an end"));
    }
    check_coding(seen.coding)?;
    if let Some(host) = find_host(parts, seen.host)? {
        parts.headers.insert(HOST, host);
    }
    let other_paths = set_target(parts, slash)?;
    if underscored {
        remove_where(&mut parts.headers, has_underscore);
    }
    if expects {
        check_expectation(parts)?;
    }
    Ok(Head {
        length,
        other_paths,
    })
}

fn check_target_size(target: &Uri, limits: HeadLimits) -> Result<(), Rejection> {
    let bytes = target.path().len() + target.query().map_or(0, |query| query.len() + 1);
    if bytes > limits.uri_bytes {
        return Err(Rejection::new(&codes::URI_TOO_LONG).detail("limit", limits.uri_bytes as u64));
    }
    Ok(())
}

/// What one look at all fields tells. It costs less than to look each field up that must be known here.
#[derive(Debug, Default)]
struct Seen<'a> {
    /// In all names and values.
    bytes: usize,
    /// The name of a field has an underscore.
    underscored: bool,
    /// A value begins or ends with white space.
    padded: bool,
    expects: bool,
    host: Lines<'a>,
    coding: Lines<'a>,
    length: Lines<'a>,
}

/// The lines of one field, as far as they matter where there should be one.
#[derive(Debug, Default, Clone, Copy)]
struct Lines<'a> {
    first: Option<&'a HeaderValue>,
    is_alone: bool,
}

impl<'a> Lines<'a> {
    const fn add(&mut self, line: &'a HeaderValue) {
        self.is_alone = self.first.is_none();
        if self.is_alone {
            self.first = Some(line);
        }
    }
}

impl Seen<'_> {
    /// Of several, the first; one that is not a number is none.
    fn length(&self) -> Option<u64> {
        self.length.first?.to_str().ok()?.parse().ok()
    }
}

/// The bytes of each field that stages in front have written, which is not the client's: the request's id and the trace's parent.
/// In their place, too, if the client had sent such a field; so of those it may have sent one too many.
fn ours(parts: &Parts) -> impl Iterator<Item = usize> {
    /// The name, and a value as W3C Trace Context has it.
    const TRACEPARENT: usize = "traceparent".len() + 55;
    let id = parts.extensions.get::<RequestId>().map(|id| {
        let value = id.header_value();
        let written = parts.headers.iter().filter(|(_, other)| *other == value);
        // What the field is called nobody says here. Who may choose the id gains nothing by another one with a longer name.
        let name = written.map(|(name, _)| name.as_str().len()).min();
        name.map_or(0, |name| name + value.len())
    });
    let trace = parts.extensions.get::<TraceContext>();
    id.into_iter().chain(trace.map(|_| TRACEPARENT))
}

fn check_number(parts: &Parts, limits: HeadLimits) -> Result<(), Rejection> {
    let too_many = |fields: usize| fields > limits.fields;
    // Few have as many, and are worth the look-ups.
    if too_many(parts.headers.len())
        && too_many(parts.headers.len().saturating_sub(ours(parts).count()))
    {
        let refused = Rejection::new(&codes::HEADERS_TOO_LARGE);
        return Err(refused.detail("limit", limits.fields as u64));
    }
    Ok(())
}

/// Few have as much, too.
fn check_bytes(parts: &Parts, bytes: usize, limits: HeadLimits) -> Result<(), Rejection> {
    let too_much = |bytes: usize| bytes > limits.field_bytes;
    if too_much(bytes) && too_much(bytes.saturating_sub(ours(parts).sum())) {
        let refused = Rejection::new(&codes::HEADERS_TOO_LARGE);
        return Err(refused.detail("limit_bytes", limits.field_bytes as u64));
    }
    Ok(())
}

fn look(headers: &HeaderMap) -> Seen<'_> {
    let mut seen = Seen::default();
    for (name, value) in headers {
        seen.bytes += name.as_str().len() + value.len();
        seen.underscored |= has_underscore(name);
        seen.padded |= is_padded(value);
        if *name == HOST {
            seen.host.add(value);
        } else if *name == CONTENT_LENGTH {
            seen.length.add(value);
        } else if *name == TRANSFER_ENCODING {
            seen.coding.add(value);
        } else if *name == EXPECT {
            seen.expects = true;
        }
    }
    seen
}

/// CONNECT would make a tunnel of the gateway, TRACE would show a client what the gateway added. A method that is longer than
/// any that is registered goes nowhere: it would be in the upstream's logs as it is.
///
/// The refusal of CONNECT ends the connection: what the client has sent for its tunnel is no request.
fn check_method(parts: &Parts) -> Result<(), Rejection> {
    if parts.method.as_str().len() > MAX_METHOD {
        return Err(malformed("method", "too long"));
    }
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return Err(not_passed_on(parts));
    }
    Ok(())
}

/// CONNECT and TRACE. `Allow` names what the gateway passes on as such.
pub(crate) fn not_passed_on(parts: &Parts) -> Rejection {
    let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    let refused = Rejection::new(&codes::METHOD_NOT_ALLOWED).field(ALLOW, allow);
    match parts.method == Method::CONNECT && parts.version < Version::HTTP_2 {
        true => refused.field(CONNECTION, CLOSE),
        false => refused,
    }
}

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The server sees to `100-continue`, and a client of HTTP/1.0 knows no interim answers. Nobody here can say what meeting any other
/// expectation would take (RFC 9110 section 10.1.1).
fn check_expectation(parts: &mut Parts) -> Result<(), Rejection> {
    if parts.version < Version::HTTP_11 {
        parts.headers.remove(EXPECT);
        return Ok(());
    }
    let mut lines = parts.headers.get_all(EXPECT).iter();
    let known = |line: &HeaderValue| line.as_bytes().eq_ignore_ascii_case(b"100-continue");
    match lines.all(known) {
        true => Ok(()),
        false => Err(Rejection::new(&codes::EXPECTATION_FAILED)),
    }
}

/// `chunked` is the one transfer coding that is undone before a stage sees the body. Any other one would go upstream as
/// plain content, since the field that names it ends here.
///
/// The refusal ends the connection (RFC 9112 section 6.3): who reads the field in another way sees another end of the body, and
/// takes what follows for something else.
fn check_coding(codings: Lines<'_>) -> Result<(), Rejection> {
    let chunked = |coding: &HeaderValue| {
        coding
            .as_bytes()
            .trim_ascii()
            .eq_ignore_ascii_case(b"chunked")
    };
    match codings.first {
        None => Ok(()),
        Some(only) if codings.is_alone && chunked(only) => Ok(()),
        Some(_) => {
            let refused = malformed("transfer-encoding", "not chunked alone");
            Err(refused.field(CONNECTION, CLOSE))
        }
    }
}

/// Brings the target into its form. Returns what else its path may be taken for.
fn set_target(parts: &mut Parts, slash: EncodedSlash) -> Result<Vec<String>, Rejection> {
    // What is to be fetched by another protocol is not here, whatever its path.
    if let Some(scheme) = parts.uri.scheme()
        && *scheme != Scheme::HTTP
        && *scheme != Scheme::HTTPS
    {
        return Err(malformed("target", "not http or https"));
    }
    // The asterisk is a target of its own, for OPTIONS only (RFC 9112 section 3.2.4).
    if parts.uri.path() == "*" && parts.method == Method::OPTIONS {
        return Ok(Vec::new());
    }
    // No reader agrees with another on raw bytes outside ASCII.
    if parts.uri.query().is_some_and(|query| !query.is_ascii()) {
        return Err(malformed("target", "not ASCII"));
    }
    let NormalPath { text, others } =
        normalize(parts.uri.path(), slash).map_err(|_| ambiguous_path())?;
    let is_normal = text == parts.uri.path();
    if !is_normal && is_routed(&parts.extensions) {
        return Err(ambiguous_path().caused_by(ROUTED));
    }
    if is_normal && parts.uri.authority().is_none() {
        return Ok(others);
    }
    let target = match parts.uri.query() {
        Some(query) => format!("{text}?{query}"),
        None => text.into_owned(),
    };
    parts.uri = Uri::from(PathAndQuery::try_from(target).map_err(|_| ambiguous_path())?);
    Ok(others)
}

const ROUTED: &str = "axum has chosen a handler by another form of the path: the layer must stand around the router, not in \
                      `Router::layer`";

/// Whether a router of axum's, tonic's too, has chosen the handler: by the path as it came, which may be another route's than the
/// normal one.
#[cfg(any(feature = "axum", feature = "tonic"))]
fn is_routed(extensions: &Extensions) -> bool {
    extensions.get::<axum::extract::MatchedPath>().is_some()
}

#[cfg(not(any(feature = "axum", feature = "tonic")))]
const fn is_routed(_: &Extensions) -> bool {
    false
}

/// The refusal of a path that two readers may understand in two ways.
pub(super) fn ambiguous_path() -> Rejection {
    malformed("target", "ambiguous path")
}

fn malformed(part: &'static str, fault: &'static str) -> Rejection {
    Rejection::new(&codes::MALFORMED_REQUEST).detail(part, fault)
}

#[cfg(test)]
mod tests;
