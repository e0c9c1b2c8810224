//! What the contract comments out.

use std::path::PathBuf;

use gw_core::Mode;
use http::HeaderValue;

use super::super::{CONTRACT, valid};
use super::header;
use crate::config::table::*;
use crate::config::value::*;

/// The lines of the contract that are comments, switched on.
#[test]
fn what_the_contract_comments_out_loads_too() {
    let on = [
        ("# [server.tls]", "[server.tls]"),
        (
            "# certificate = \"gateway.pem\"",
            "certificate = \"gateway.pem\"",
        ),
        ("# key         =", "key         ="),
        ("# client_ca   =", "client_ca   ="),
        ("# min_version =", "min_version ="),
        ("# store = ", "mode = \"leased\"\nstore = "),
        ("# on_store_error = ", "on_store_error = "),
        (
            "total = 512",
            "total = { adaptive = \"gradient2\", min = 20, max = 2000 }",
        ),
        ("# listen    = [", "listen    = ["),
        (
            "[\"http://127.0.0.1:9001\"]",
            "[\"https://127.0.0.1:9001\"]",
        ),
        ("# tls = {", "tls = {"),
        (
            "listen = \"127.0.0.1:9901\"",
            "token_file = \"admin.token\"\nlisten = \"0.0.0.0:9901\"",
        ),
        (
            "trust_incoming = false",
            "trust_incoming = false, otlp = \"http://127.0.0.1:4318\"",
        ),
        (
            "methods = [\"POST\"] }   #",
            "methods = [\"POST\"], host = \"API.example.com\", headers = { x-beta = \"1\" } } #",
        ),
    ];
    let text = on.iter().fold(CONTRACT.to_owned(), |text, (off, on)| {
        assert!(text.contains(off), "the contract no longer says {off:?}");
        text.replacen(off, on, 1)
    });
    let config = valid(&text);

    let tls = config.server.tls.unwrap();
    assert_eq!(tls.certificate, PathBuf::from("/etc/gw/gateway.pem"));
    assert_eq!(tls.key, PathBuf::from("/etc/gw/gateway.key"));
    assert_eq!(tls.client_ca, Some(PathBuf::from("/etc/gw/clients-ca.pem")));
    assert_eq!(tls.min_version, TlsVersion::Tls12);

    assert_eq!(
        config.admin.token_file,
        Some(PathBuf::from("/etc/gw/admin.token"))
    );
    assert_eq!(
        config.observe.trace.otlp.unwrap().uri().port_u16(),
        Some(4318)
    );

    let limit = &config.limits["per_consumer"];
    let store = limit.store.as_ref().unwrap();
    assert_eq!(
        (store.url.expose(), store.leased),
        ("redis://127.0.0.1:6379", true)
    );
    assert_eq!(
        (store.on_error, limit.mode),
        (OnStoreError::Local, Mode::Enforce)
    );

    let adaptive = Total::Adaptive {
        algorithm: AdaptiveAlgorithm::Gradient2,
        min: count(20),
        max: count(2000),
    };
    assert_eq!(config.lanes.total, adaptive);
    assert_eq!(
        config.lanes.lane["logs"].listen,
        ["127.0.0.1:8082".parse().unwrap()]
    );

    let orders = &config.upstreams["orders"];
    assert_eq!(orders.endpoints[0].to_string(), "https://127.0.0.1:9001");
    let tls = UpstreamTls {
        ca: Some(PathBuf::from("/etc/gw/ca.pem")),
        certificate: Some(PathBuf::from("/etc/gw/gateway-client.pem")),
        key: Some(PathBuf::from("/etc/gw/gateway-client.key")),
        server_name: Some("orders.internal".to_owned()),
    };
    assert_eq!(orders.tls, Some(tls));

    let matching = &config.routes[1].matching;
    assert_eq!(matching.host.as_ref().unwrap().as_str(), "api.example.com");
    assert_eq!(
        matching.headers,
        [(header("x-beta"), HeaderValue::from_static("1"))]
    );
}
