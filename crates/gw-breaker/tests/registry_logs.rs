//! Log lines. Alone in its binary, see `outlier_logs.rs`.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use gw_breaker::key::ClientIp;
use gw_breaker::{BreakerLayer, Mode, State, UpstreamName};
use gw_testkit::log_capture::LogCapture;
use http::Request;
use support::Inner;
use tower::{Layer as _, Service as _, ServiceExt as _};

/// Story: a new breaker was put into the layer's mode after others could find it, and by the same way as an operator does.
/// Each new key of a layer that was off logged two lines; and a mode that was set between the two steps was undone for
/// this breaker, so that the kill switch missed it.
#[test]
fn a_new_breaker_is_born_in_the_layers_mode() {
    for (mode, state) in [
        (Mode::Off, State::Disabled),
        (Mode::Shadow, State::Closed),
        (Mode::Enforce, State::Closed),
    ] {
        let layer = BreakerLayer::builder("other").mode(mode).per_upstream();
        let layer = layer.build().unwrap();
        let capture = LogCapture::new();
        capture.run(|| {
            let inner = Inner::new();
            inner.status(200);
            let mut request = Request::new(());
            request.extensions_mut().insert(UpstreamName::new("orders"));
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let answer = runtime
                .unwrap()
                .block_on(layer.layer(inner).oneshot(request));
            assert_eq!(answer.unwrap().status(), 200);
        });
        assert_eq!(capture.events().len(), 0, "{mode:?}");
        let orders = layer.handle().upstream("orders").unwrap();
        assert_eq!((orders.mode(), orders.snapshot().state), (mode, state));
        assert_eq!(orders.subscribe().state(), state);
        // What is off finds it closed when it is on again.
        layer.handle().set_mode(Mode::Enforce);
        let now = (orders.mode(), orders.snapshot().state);
        assert_eq!(now, (Mode::Enforce, State::Closed));
    }
}

/// Story: behind a server that did not tell the peer's address all clients shared one breaker, and nobody was told why.
#[test]
fn that_a_key_is_missing_is_said_once() {
    let capture = LogCapture::new();
    capture.run(|| {
        let layer = BreakerLayer::builder("clients").per_key(ClientIp::new());
        let layer = layer.build().unwrap();
        for _ in 0..2 {
            let mut service = layer.layer(Inner::new());
            drop([(); 3].map(|()| service.call(Request::new(()))));
        }
        let layer = BreakerLayer::builder("other").per_upstream().build();
        drop(layer.unwrap().layer(Inner::new()).call(Request::new(())));
    });
    let told: Vec<_> = capture
        .events()
        .into_iter()
        .map(|event| (event.field("upstream"), event.field("missing").unwrap()))
        .collect();
    let [(first, peer), (second, name)] = told.try_into().unwrap();
    let layers = (first.as_deref(), second.as_deref());
    assert_eq!(layers, (Some("clients"), Some("other")));
    // How to provide it.
    assert!(peer.contains("connect_info"), "{peer}");
    assert!(name.contains("must set its name"), "{name}");
}

/// Story: whoever switched a thousand breakers to the mode that they were in had a thousand lines of a change.
#[test]
fn a_mode_is_logged_when_it_is_another_one() {
    let capture = LogCapture::new();
    let layer = BreakerLayer::builder("orders").build().unwrap();
    capture.run(|| {
        let handle = layer.handle();
        let modes = [Mode::Enforce, Mode::Shadow, Mode::Off, Mode::Enforce];
        for mode in modes.into_iter().flat_map(|mode| [mode; 2]) {
            handle.set_mode(mode);
            assert_eq!(handle.mode(), mode);
        }
    });
    let modes: Vec<_> = capture
        .events()
        .into_iter()
        .filter_map(|event| event.field("mode"))
        .collect();
    assert_eq!(modes, ["Shadow", "Off", "Enforce"]);
}
