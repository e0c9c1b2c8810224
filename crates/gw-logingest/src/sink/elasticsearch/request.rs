//! What is sent.

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Uri};
use http_body_util::Full;

use super::nodes::Node;
use crate::batch::Event;
use crate::json::write_string;

/// The bytes of an action line besides the id.
const ACTION: usize = 32;

/// The lines of a bulk request. The events are copied as they are, never parsed.
pub(super) fn body(events: &[Event]) -> Bytes {
    let size: usize = events
        .iter()
        .map(|event| event.json().len() + 64 + ACTION)
        .sum();
    let mut body = Vec::with_capacity(size);
    for event in events {
        body.extend_from_slice(b"{\"create\":{\"_id\":");
        write_string(&mut body, &event.id());
        body.extend_from_slice(b"}}\n");
        body.extend_from_slice(event.json());
        body.push(b'\n');
    }
    body.into()
}

pub(super) fn to(
    node: &Node,
    path: &str,
    authorization: Option<HeaderValue>,
    body: Bytes,
) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = uri(node, path);
    let headers = request.headers_mut();
    if let Ok(host) = HeaderValue::from_str(node.authority.as_str()) {
        headers.insert(HOST, host);
    }
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("application/x-ndjson"),
    );
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(authorization) = authorization {
        headers.insert(AUTHORIZATION, authorization);
    }
    request
}

fn uri(node: &Node, path: &str) -> Uri {
    let target = format!("{}{path}", node.prefix);
    let uri = Uri::builder()
        .scheme("http")
        .authority(node.authority.clone())
        .path_and_query(target)
        .build();
    // The builder of the sink has taken only parts that fit together; a request to nowhere fails like a dead node.
    uri.unwrap_or_default()
}
