//! The authenticator by API keys: what passes, what is refused and how, and what goes on.

#![allow(clippy::unwrap_used, reason = "assertions")]

use std::convert::Infallible;

use gw_core::Body;
use gw_core::context::Identity;
use gw_core::record::Record;
use gw_pipeline::inbound::{ApiKey, ApiKeys, ApiKeysLayer, KeyDigest};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use tower::{Layer as _, Service, ServiceExt as _, service_fn};

fn key(consumer: &str, key: &str) -> ApiKey {
    ApiKey::new(consumer, KeyDigest::of(key.as_bytes()))
}

fn partners() -> ApiKeys {
    ApiKeys::builder()
        .key(key("acme", "k1").scopes(["orders:read"]))
        .key(key("acme", "k2"))
        .build()
        .unwrap()
}

/// A second set, in `authorization`, for `/internal` only.
fn internal() -> ApiKeys {
    ApiKeys::builder()
        .header(header::AUTHORIZATION)
        .key(key("batch", "b1"))
        .when(|head| head.uri.path().starts_with("/internal"))
        .build()
        .unwrap()
}

fn request(path: &str, fields: &[(&str, &str)]) -> Request<Body> {
    let mut request = Request::builder().uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request
        .extension(Record::default())
        .body(Body::empty())
        .unwrap()
}

/// Answers with the consumer's name in `x-seen`, and with the fields that it got.
fn echo(
    layer: &ApiKeysLayer,
) -> impl Service<Request<Body>, Response = Response<Body>, Error = Infallible> {
    layer.layer(service_fn(|request: Request<Body>| async move {
        let mut response = Response::new(Body::empty());
        let caller = request.extensions().get::<Identity>();
        let seen = caller.and_then(Identity::consumer).unwrap_or("nobody");
        *response.headers_mut() = request.headers().clone();
        response
            .headers_mut()
            .insert("x-seen", seen.parse().unwrap());
        Ok(response)
    }))
}

async fn ask(layer: &ApiKeysLayer, path: &str, fields: &[(&str, &str)]) -> Response<Body> {
    echo(layer).oneshot(request(path, fields)).await.unwrap()
}

fn challenges(headers: &HeaderMap) -> Vec<&str> {
    let lines = headers.get_all(header::WWW_AUTHENTICATE).iter();
    lines.map(|line| line.to_str().unwrap()).collect()
}

#[tokio::test]
async fn each_key_of_a_consumer_is_its_name() {
    let layer = ApiKeysLayer::new(partners());
    for key in ["k1", "k2"] {
        let answer = ask(&layer, "/", &[("x-api-key", key)]).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-seen"], "acme");
    }
}

#[tokio::test]
async fn without_a_key_and_with_a_wrong_one_are_told_apart() {
    let layer = ApiKeysLayer::new(partners());
    for (fields, code) in [
        (&[][..], "AUTH_REQUIRED"),
        (&[("authorization", "Bearer k1")], "AUTH_REQUIRED"),
        (&[("x-api-key", "k3")], "AUTH_INVALID"),
        (&[("x-api-key", "")], "AUTH_INVALID"),
        (&[("x-api-key", "k1"), ("x-api-key", "k1")], "AUTH_INVALID"),
    ] {
        let asked = request("/", fields);
        let record = Record::of(asked.extensions()).unwrap().clone();
        let answer = echo(&layer).oneshot(asked).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{fields:?}");
        assert_eq!(
            challenges(answer.headers()),
            ["ApiKey header=\"x-api-key\""]
        );
        let exchange = record.exchange();
        assert_eq!(exchange.refused_by, Some("authenticate"));
        assert_eq!(exchange.code.unwrap().name(), code, "{fields:?}");
        assert_eq!(exchange.identity, None);
    }
}

#[tokio::test]
async fn the_observer_learns_who_called() {
    let layer = ApiKeysLayer::new(partners());
    let asked = request("/", &[("x-api-key", "k1")]);
    let record = Record::of(asked.extensions()).unwrap().clone();
    assert_eq!(
        echo(&layer).oneshot(asked).await.unwrap().status(),
        StatusCode::OK
    );
    let identity = record.exchange().identity.unwrap();
    assert_eq!(identity.consumer(), Some("acme"));
    assert_eq!(identity.scopes().collect::<Vec<_>>(), ["orders:read"]);
}

#[tokio::test]
async fn a_set_is_asked_where_it_says_and_any_that_knows_the_caller_will_do() {
    let layer = ApiKeysLayer::any_of([partners(), internal()]);
    let batch = ("authorization", "Bearer b1");
    for (path, fields, seen) in [
        ("/internal", &[batch][..], Some("batch")),
        ("/internal", &[("x-api-key", "k1")], Some("acme")),
        // In the order of the sets.
        ("/internal", &[batch, ("x-api-key", "k1")], Some("acme")),
        // A wrong key does not spoil a right one.
        ("/internal", &[batch, ("x-api-key", "k3")], Some("batch")),
        ("/other", &[batch], None),
        ("/internal", &[("authorization", "Bearer k1")], None),
        ("/internal", &[("x-api-key", "b1")], None),
    ] {
        let answer = ask(&layer, path, fields).await;
        let found = answer.headers().get("x-seen").map(|v| v.to_str().unwrap());
        assert_eq!(found, seen, "{path} {fields:?}");
    }
    let own = "ApiKey header=\"x-api-key\"";
    let answer = ask(&layer, "/internal", &[]).await;
    assert_eq!(challenges(answer.headers()), [own, "Bearer"]);
    let answer = ask(&layer, "/other", &[]).await;
    assert_eq!(challenges(answer.headers()), [own]);
}

#[tokio::test]
async fn what_no_set_is_asked_about_is_shut_unless_it_is_public() {
    let layer = ApiKeysLayer::new(internal()).public(|head| head.uri.path() == "/open");
    let batch = [("authorization", "Bearer b1")];
    let answer = ask(&layer, "/other", &batch).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(challenges(answer.headers()), ["Bearer"]);
    for fields in [&[][..], &batch, &[("authorization", "Bearer b2")]] {
        let answer = ask(&layer, "/open", fields).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["x-seen"], "nobody");
        assert!(!answer.headers().contains_key(header::AUTHORIZATION));
    }
}

/// Story: an upstream wrote the fields of its requests to its log, and with them the keys of all partners.
#[tokio::test]
async fn keys_stop_here_unless_they_are_to_go_on() {
    let layer = ApiKeysLayer::any_of([partners(), internal()]);
    let sent = [
        ("x-api-key", "k1"),
        ("authorization", "Bearer zzz"),
        ("x-other", "1"),
    ];
    let answer = ask(&layer, "/", &sent).await;
    let names = || [HeaderName::from_static("x-api-key"), header::AUTHORIZATION];
    for name in names() {
        assert!(!answer.headers().contains_key(&name), "{name}");
    }
    assert_eq!(answer.headers()["x-other"], "1");

    let answer = ask(&layer.forward_credentials(true), "/", &sent).await;
    for name in names() {
        assert!(answer.headers()[&name].is_sensitive(), "{name}");
    }
    let shown = format!("{answer:?}");
    assert!(!shown.contains("zzz"), "{shown}");
}

#[test]
fn nothing_is_allocated_for_a_known_caller_but_the_place_of_its_identity() {
    let layer = ApiKeysLayer::new(partners());
    let mut service = layer.layer(service_fn(|request: Request<()>| async move {
        drop(request);
        Ok::<_, Infallible>(Response::new(Body::empty()))
    }));
    let mut asked = Request::new(());
    asked
        .headers_mut()
        .insert("x-api-key", "k1".parse().unwrap());
    // The room that the extensions of a request have anyway.
    asked.extensions_mut().insert(1_u8);
    let used = allocation_counter::measure(|| drop(Service::call(&mut service, asked)));
    assert!(used.count_total <= 1, "{used:?}");
}
