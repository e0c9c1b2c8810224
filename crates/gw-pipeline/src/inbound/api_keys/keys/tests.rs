use super::*;

fn key(consumer: &str, key: &str) -> ApiKey {
    ApiKey::new(consumer, KeyDigest::of(key.as_bytes()))
}

fn credential<'k>(keys: &'k ApiKeys, lines: &[&str]) -> Option<&'k str> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(keys.header(), HeaderValue::from_str(line).unwrap());
    }
    match keys.credential(&headers) {
        Credential::Of(identity) => identity.consumer(),
        Credential::Nobodys => Some("nobody"),
        Credential::Missing => None,
    }
}

#[test]
fn a_consumer_may_have_several_keys_with_scopes_of_their_own() {
    let old = key("acme", "old").scopes(["orders:read"]);
    let new = key("acme", "new").scopes(["orders:read", "orders:write"]);
    let keys = ApiKeys::builder()
        .keys([old, new])
        .key(key("other", "x"))
        .build()
        .unwrap();
    let scopes = |sent: &[u8]| {
        keys.identify(sent)
            .map(|identity| identity.scopes().count())
    };
    assert_eq!(
        (scopes(b"old"), scopes(b"new"), scopes(b"x")),
        (Some(1), Some(2), Some(0))
    );
    assert_eq!(keys.identify(b"old").unwrap().consumer(), Some("acme"));
    for nobodys in [
        &b""[..],
        b"ol",
        b"old ",
        b"OLD",
        &[b'x'; ApiKeys::MAX_LEN + 1],
    ] {
        assert_eq!(keys.identify(nobodys), None);
    }
}

#[test]
fn the_longest_key_is_a_key() {
    let long = "k".repeat(ApiKeys::MAX_LEN);
    let keys = ApiKeys::builder().key(key("acme", &long)).build().unwrap();
    assert!(keys.identify(long.as_bytes()).is_some());
    let longer = "k".repeat(ApiKeys::MAX_LEN + 1);
    let keys = ApiKeys::builder()
        .key(key("acme", &longer))
        .build()
        .unwrap();
    assert!(keys.identify(longer.as_bytes()).is_none());
}

#[test]
fn a_field_holds_one_key() {
    let keys = ApiKeys::builder().key(key("acme", "k")).build().unwrap();
    assert_eq!(credential(&keys, &[]), None);
    assert_eq!(credential(&keys, &["k"]), Some("acme"));
    for lines in [
        &[""][..],
        &["l"],
        &["k", "k"],
        &["l", "k"],
        &["Bearer k"],
        &["k, k"],
    ] {
        assert_eq!(credential(&keys, lines), Some("nobody"), "{lines:?}");
    }
}

#[test]
fn in_authorization_a_key_follows_the_scheme() {
    let keys = ApiKeys::builder()
        .header(AUTHORIZATION)
        .key(key("acme", "k"))
        .build()
        .unwrap();
    for line in ["Bearer k", "bearer k", "BEARER  k"] {
        assert_eq!(credential(&keys, &[line]), Some("acme"), "{line}");
    }
    for line in ["Bearer", "Bearer ", "Bearer l", "Bearer k k"] {
        assert_eq!(credential(&keys, &[line]), Some("nobody"), "{line}");
    }
    for line in ["k", "Basic k", "Bearerk", "Bear", ""] {
        assert_eq!(credential(&keys, &[line]), None, "{line}");
    }
    assert_eq!(keys.challenge(), "Bearer");
}

#[test]
fn what_cannot_be_told_apart_or_passed_on_is_refused() {
    let long = "n".repeat(MAX_NAME + 1);
    for (wrong, field) in [
        (key("", "k"), "keys[1].consumer"),
        (key("a b", "k"), "keys[1].consumer"),
        (key("line\nbreak", "k"), "keys[1].consumer"),
        (key(&long, "k"), "keys[1].consumer"),
        (key("acme", "k").scopes(["a", "b c"]), "keys[1].scopes[1]"),
        (key("acme", "k").scopes([""]), "keys[1].scopes[0]"),
        (key("acme", "first"), "keys[1].digest"),
        (key("acme", ""), "keys[1].digest"),
    ] {
        let keys = [key("first", "first"), wrong, key("last", "last")];
        let error = ApiKeys::builder().keys(keys).build().unwrap_err();
        assert_eq!(error.field(), field, "{error}");
    }
}

/// Story: nobody was let in, since no stage behind the head sees such a field.
#[test]
fn a_field_that_is_dropped_carries_no_keys() {
    let field = HeaderName::from_static("api_key");
    let error = ApiKeys::builder().header(field).build().unwrap_err();
    let rule = "must have no underscore: such fields are dropped";
    assert_eq!((error.field(), error.rule()), ("header", rule));
}

/// Story: sets of keys are printed with the layers that hold them, when a test fails or a service is logged.
#[test]
fn nothing_of_a_key_is_printed() {
    let builder = ApiKeys::builder().key(key("acme", "hunter2"));
    let shown = format!("{builder:?} {:?}", builder.clone().build().unwrap());
    assert!(
        shown.contains("x-api-key") && shown.contains("KeyDigest(…)"),
        "{shown}"
    );
}
