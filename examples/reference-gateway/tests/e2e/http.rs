//! Requests, and what must be true of answers.

use std::net::SocketAddr;

use gw_testkit::client::{Answer, Client};
use serde_json::Value;

/// Sends these bytes on a connection of their own, and reads one answer.
pub(crate) async fn send(address: SocketAddr, request: impl AsRef<[u8]>) -> Answer {
    let mut client = Client::connect(address).await;
    client.send(&request).await;
    client.read_answer().await
}

/// GETs this target on a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> Answer {
    let mut client = Client::connect(address).await;
    client.get(target).await;
    client.read_answer().await
}

/// A JSON page of the admin listener.
pub(crate) async fn page(address: SocketAddr, target: &str) -> Value {
    let answer = get(address, target).await;
    assert_eq!(answer.status(), 200, "{target}: {answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    serde_json::from_slice(&answer.body).unwrap()
}

/// What holds for every answer of the gateway, its own and others.
#[track_caller]
pub(crate) fn is_dressed(answer: &Answer) {
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        (
            "strict-transport-security",
            "max-age=31536000; includeSubDomains",
        ),
    ] {
        assert_eq!(answer.header(name), Some(value), "{name}: {answer:?}");
    }
    let id = answer.header("x-request-id").unwrap_or_default();
    assert!(id.len() >= 16, "no request id: {answer:?}");
    for name in ["server", "x-powered-by"] {
        assert_eq!(answer.header(name), None, "{answer:?}");
    }
}

/// The envelope of a refusal with this status and code; returns what is inside `error`.
#[track_caller]
pub(crate) fn is_refusal(what: &str, answer: &Answer, status: u16, code: &str) -> Value {
    assert!(answer.head.is_some(), "{what}: {:?}", answer.ended);
    assert_eq!(answer.status(), status, "{what}: {answer:?}");
    assert!(answer.is_complete(), "{what}: {answer:?}");
    assert_eq!(
        answer.header("content-type"),
        Some("application/json"),
        "{what}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{what}");
    is_dressed(answer);
    let mut body: Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|error| panic!("{what}: {error}: {answer:?}"));
    let error = body["error"].take();
    assert_eq!(error["code"], code, "{what}: {answer:?}");
    assert!(
        error["message"]
            .as_str()
            .is_some_and(|text| !text.is_empty()),
        "{what}: {error}"
    );
    assert!(error["details"].is_object(), "{what}: {error}");
    assert_eq!(
        error["request_id"].as_str(),
        answer.header("x-request-id"),
        "{what}"
    );
    error
}

/// `Retry-After` in whole seconds, at least one.
#[track_caller]
pub(crate) fn retry_after(what: &str, answer: &Answer) -> u32 {
    let value = answer.header("retry-after");
    let seconds = value.and_then(|value| value.parse().ok());
    match seconds {
        Some(seconds @ 1..) => seconds,
        _ => panic!("{what}: Retry-After is {value:?} in {answer:?}"),
    }
}
