//! From requests to answers.

use std::fmt;
use std::io::Read;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

use super::answer::{Body, Refused, Style};
use super::behaviour::{Behaviour, Garble, Manner};
use super::bulk;
use super::config::{Config, Product};
use super::filter::Filter;
use super::search;
use super::state::State;

const COMPATIBLE: &str = "application/vnd.elasticsearch+json; compatible-with=";

/// There is no answer: the connection closes.
#[derive(Debug)]
pub(super) struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no answer")
    }
}

impl std::error::Error for Lost {}

pub(super) async fn handle(
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Lost> {
    let (head, body) = request.into_parts();
    let path = decoded(head.uri.path());
    let path = path.trim_matches('/');
    let segments: Vec<&str> = path.split('/').collect();
    let style = Style {
        product: state.config.product,
        content_type: content_type(&head.headers),
    };
    let index = match segments.as_slice() {
        ["_bulk"] => Some(None),
        [index, "_bulk"] => Some(Some(*index)),
        _ => None,
    };
    if let Some(index) = index {
        let in_flight = state.arrived();
        let filter = Filter::new(&parameter(head.uri.query(), "filter_path"));
        let request = Bulk {
            state: &state,
            style: &style,
            head: &head,
            index,
            filter,
        };
        let answer = request.answer(body).await;
        if answer.as_ref().is_ok_and(|answer| answer.status() != 200) {
            state.count(|requests| requests.refused += 1);
        }
        drop(in_flight);
        return answer;
    }
    state.count(|requests| requests.other += 1);
    let answer = match accepted(&state.config, &head, body).await {
        Ok(body) => other(&state, &head.method, &segments, &body),
        Err(refused) => Err(refused),
    };
    Ok(match answer {
        Ok(value) => style.json(StatusCode::OK, &value),
        Err(refused) => style.refused(&refused, &Behaviour::healthy()),
    })
}

struct Bulk<'a> {
    state: &'a State,
    style: &'a Style,
    head: &'a http::request::Parts,
    index: Option<&'a str>,
    filter: Filter,
}

impl Bulk<'_> {
    async fn answer(&self, body: Incoming) -> Result<Response<Body>, Lost> {
        let body = match accepted(&self.state.config, self.head, body).await {
            Ok(body) => body,
            Err(refused) => return Ok(self.style.refused(&refused, &Behaviour::healthy())),
        };
        self.state
            .count(|requests| requests.bytes += body.len() as u64);
        let behaviour = self.state.behaviour().await;
        let result = self.carry_out(&body, &behaviour).await;
        tokio::time::sleep(behaviour.delay).await;
        match result {
            Ok(answer) => self.garbled(answer, behaviour.garble),
            Err(refused) => Ok(self.style.refused(&refused, &behaviour)),
        }
    }

    async fn carry_out(&self, body: &Bytes, behaviour: &Behaviour) -> Result<Value, Refused> {
        if let Manner::Refusing(status) = behaviour.manner {
            return Err(Refused::asked_for(status));
        }
        if let Manner::RefusingText(text) = behaviour.manner
            && String::from_utf8_lossy(body).contains(text)
        {
            return Err(Refused::asked_for(StatusCode::BAD_REQUEST));
        }
        if ![Method::PUT, Method::POST].contains(&self.head.method) {
            return Err(wrong_method(&self.head.method));
        }
        let operations = bulk::parse(body, self.index)?;
        let (gatekeeper, wait) = self.state.gatekeeper(behaviour, operations.len());
        let (errors, items) = self.state.store().bulk(&operations, gatekeeper);
        self.state.count(|_| ());
        tokio::time::sleep(wait).await;
        Ok(json!({"took": wait.as_millis() as u64, "errors": errors, "items": items}))
    }

    fn garbled(&self, mut answer: Value, garble: Option<Garble>) -> Result<Response<Body>, Lost> {
        let items = answer["items"]
            .as_array_mut()
            .expect("the answer was made with a list");
        match garble {
            Some(Garble::MissingItems(count)) => items.truncate(items.len().saturating_sub(count)),
            Some(Garble::Reversed) => items.reverse(),
            Some(Garble::Lost) => return Err(Lost),
            Some(Garble::Endless) => return Ok(self.style.endless()),
            Some(Garble::NotJson | Garble::Truncated) | None => {}
        }
        let mut text = self.filter.apply(answer).to_string();
        if garble == Some(Garble::NotJson) {
            "<html>no cluster here</html>".clone_into(&mut text);
        }
        let mut bytes = Bytes::from(text);
        if garble == Some(Garble::Truncated) {
            bytes.truncate(bytes.len() / 2);
        }
        Ok(self.style.bytes(StatusCode::OK, bytes))
    }
}

/// The decoded body of a request that may come in.
async fn accepted(
    config: &Config,
    head: &http::request::Parts,
    mut body: Incoming,
) -> Result<Bytes, Refused> {
    // Read to its end even if it is too large: a connection that closes on unread bytes may lose the answer.
    let mut bytes = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refused::illegal(error.to_string()))?;
        let data = frame.into_data().unwrap_or_default();
        length += data.len();
        if length <= config.max_content_length {
            bytes.extend_from_slice(&data);
        }
    }
    if let Some(wanted) = &config.authorization
        && head.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes) != Some(wanted.as_bytes())
    {
        return Err(Refused::new(
            StatusCode::UNAUTHORIZED,
            "security_exception",
            "missing or wrong authentication credentials",
        ));
    }
    check_compatible(config.product, &head.headers)?;
    if length > config.max_content_length {
        return Err(too_large(config));
    }
    let coding = head.headers.get(CONTENT_ENCODING);
    match coding.map(HeaderValue::as_bytes) {
        None | Some(b"identity") => Ok(bytes.freeze()),
        Some(b"gzip") => gunzip(&bytes, config),
        Some(_) => Err(Refused::illegal("unknown content encoding")),
    }
}

fn gunzip(bytes: &[u8], config: &Config) -> Result<Bytes, Refused> {
    let limit = config.max_content_length as u64;
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes)
        .take(limit + 1)
        .read_to_end(&mut plain)
        .map_err(|error| Refused::illegal(format!("not in gzip format: {error}")))?;
    if plain.len() > config.max_content_length {
        return Err(too_large(config));
    }
    Ok(plain.into())
}

fn too_large(config: &Config) -> Refused {
    Refused::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "content_too_long_exception",
        format!(
            "entity content is too long for the limit of {} bytes",
            config.max_content_length
        ),
    )
}

/// Everything but bulk.
fn other(state: &State, method: &Method, segments: &[&str], body: &[u8]) -> Result<Value, Refused> {
    let product = state.config.product;
    match segments {
        [""] => Ok(welcome(product)),
        ["_search"] => search::search(&state.store(), None, body),
        [index, "_search"] => search::search(&state.store(), Some(*index), body),
        ["_count"] => search::count(&state.store(), None, body),
        [index, "_count"] => search::count(&state.store(), Some(*index), body),
        ["_refresh"] | [_, "_refresh"] => {
            Ok(json!({"_shards": {"total": 1, "successful": 1, "failed": 0}}))
        }
        ["_license"] => Ok(json!({"license": {
            "status": "active", "uid": "simulated", "type": "basic", "mode": "basic",
            "issue_date_in_millis": 0, "expiry_date_in_millis": 4_102_444_800_000_i64,
        }})),
        ["_cluster", "health", ..] => Ok(json!({
            "cluster_name": "simulator", "status": "green", "timed_out": false, "number_of_nodes": 1,
        })),
        ["_nodes", ..] => Ok(json!({
            "cluster_name": "simulator",
            "nodes": {"simulated": {"name": "simulated", "version": product.version()}},
        })),
        ["_ilm", "policy", ..] | ["_index_template", ..] | ["_ingest", ..] | ["_logstash", ..] => {
            Ok(match *method {
                Method::GET => json!({}),
                _ => json!({"acknowledged": true}),
            })
        }
        _ => Err(Refused::illegal(format!(
            "the simulator has no handler for uri [/{}] and method [{method}]",
            segments.join("/")
        ))),
    }
}

fn welcome(product: Product) -> Value {
    let mut version = json!({
        "number": product.version(),
        "build_type": "simulated",
        "build_hash": "0000000",
        "build_date": "2026-01-01T00:00:00.000000000Z",
        "build_snapshot": false,
        "lucene_version": "10.3.0",
        "minimum_wire_compatibility_version": "8.19.0",
        "minimum_index_compatibility_version": "8.0.0",
    });
    let tagline = match product {
        Product::Elasticsearch => {
            version["build_flavor"] = json!("default");
            "You Know, for Search"
        }
        Product::OpenSearch => {
            version["distribution"] = json!("opensearch");
            "The OpenSearch Project: https://opensearch.org/"
        }
    };
    json!({
        "name": "simulated",
        "cluster_name": "simulator",
        "cluster_uuid": "c2ltdWxhdGVkLWNsdXN0ZXI",
        "version": version,
        "tagline": tagline,
    })
}

/// Clients that ask for a version of the interface want the answer labelled with it.
fn content_type(headers: &HeaderMap) -> HeaderValue {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let version = accept.and_then(compatible_with);
    let label = version.map(|version| HeaderValue::from_str(&format!("{COMPATIBLE}{version}")));
    match label {
        Some(Ok(label)) => label,
        _ => HeaderValue::from_static("application/json"),
    }
}

fn compatible_with(value: &str) -> Option<&str> {
    let (_, version) = value.split_once("compatible-with=")?;
    version.split([',', ';', ' ']).next()
}

fn check_compatible(product: Product, headers: &HeaderMap) -> Result<(), Refused> {
    for name in [ACCEPT, CONTENT_TYPE] {
        let value = headers.get(&name).and_then(|value| value.to_str().ok());
        let Some(version) = value.and_then(compatible_with) else {
            continue;
        };
        if product != Product::Elasticsearch || !product.compatible_with().contains(&version) {
            return Err(Refused::new(
                StatusCode::BAD_REQUEST,
                "media_type_header_exception",
                format!("Invalid media-type value on header [{name}]: compatible-with={version}"),
            ));
        }
    }
    Ok(())
}

fn wrong_method(method: &Method) -> Refused {
    Refused::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "illegal_argument_exception",
        format!("Incorrect HTTP method for uri, method [{method}], allowed: [PUT, POST]"),
    )
}

/// The decoded value of a parameter, or nothing.
fn parameter(query: Option<&str>, name: &str) -> String {
    let pairs = query.unwrap_or_default().split('&');
    let value = pairs
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value);
    decoded(value.unwrap_or_default())
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}
