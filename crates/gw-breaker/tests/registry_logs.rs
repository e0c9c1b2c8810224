//! Log lines. Alone in its binary, see `outlier_logs.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Barrier, Mutex};
use std::thread;

use gw_breaker::key::ClientIp;
use gw_breaker::{BreakerConfig, BreakerLayer, ByUpstream, Keyed, Mode, State, UpstreamName};
use gw_testkit::Listener;
use gw_testkit::log_capture::LogCapture;
use http::Request;
use support::{Inner, config};
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

/// Runs it; at the first line that is logged meanwhile something `happens`.
fn at_the_first_line(happens: impl FnOnce() + Send + 'static, run: impl FnOnce()) {
    // As long as there is one, all lines are enabled, whichever thread comes to them first.
    let _bystander = LogCapture::new();
    let happens = Mutex::new(Some(happens));
    let listener = Listener::new(move || {
        let happens = happens.lock().unwrap().take();
        if let Some(happens) = happens {
            happens();
        }
    });
    tracing::subscriber::with_default(listener, run);
}

type Upstreams = BreakerLayer<Keyed<ByUpstream>>;

/// A layer that knows so many upstreams.
fn upstreams(names: u32) -> Upstreams {
    let layer = BreakerLayer::builder("other").per_upstream();
    let layer = layer.build().unwrap();
    (0..names).for_each(|name| ask(&layer, &name.to_string()));
    layer
}

fn ask(layer: &Upstreams, name: &str) {
    let mut request = Request::new(());
    request.extensions_mut().insert(UpstreamName::new(name));
    drop(layer.layer(Inner::new()).call(request));
}

/// The one mode and the one configuration that all have, and a newcomer, too.
fn of_all(layer: &Upstreams) -> (Mode, BreakerConfig) {
    let handle = layer.handle();
    ask(layer, &format!("newcomer {}", handle.all().len()));
    let all = handle.all();
    let of_all: Vec<_> = all.iter().map(|one| (one.mode(), one.config())).collect();
    let (mode, config) = *of_all.first().unwrap();
    assert!(
        of_all.iter().all(|one| *one == (mode, config)),
        "{of_all:?}"
    );
    assert_eq!(mode, handle.mode());
    (mode, config)
}

/// Story: each breaker told of the change before the next one was changed. A listener that made another change was undone for all
/// but the first one, while newcomers began with what it had set: after `Off` and `Enforce`, most breakers stayed off, for good.
#[test]
fn a_listener_may_make_another_change() {
    let layer = upstreams(3);
    let [handle, listener] = [(); 2].map(|()| layer.handle());
    at_the_first_line(
        move || listener.set_mode(Mode::Enforce),
        || handle.set_mode(Mode::Off),
    );
    assert_eq!(of_all(&layer).0, Mode::Enforce);

    let [once, twice] = [1, 2].map(|times| config().consecutive_failures(times));
    let listener = handle.clone();
    at_the_first_line(
        move || listener.reconfigure(&twice).unwrap(),
        || handle.reconfigure(&once).unwrap(),
    );
    assert_eq!(of_all(&layer).1, twice);
}

/// Story: a listener that panicked at the first line of the kill switch left all breakers as they were.
#[test]
fn a_listener_that_panics_leaves_none_as_it_was() {
    let layer = upstreams(3);
    let handle = layer.handle();
    let panics = |change: &dyn Fn()| {
        let change = AssertUnwindSafe(|| at_the_first_line(|| panic!("as it was told"), change));
        catch_unwind(change).unwrap_err();
    };
    panics(&|| handle.set_mode(Mode::Off));
    assert_eq!(of_all(&layer).0, Mode::Off);
    panics(&|| handle.reconfigure(&config()).unwrap());
    assert_eq!(of_all(&layer).1, config());
}

/// Story: of two changes at once one was what newcomers began with, and the other what was left with those that were there.
#[test]
fn of_two_changes_at_once_one_holds_for_all() {
    let layer = upstreams(100);
    let handle = layer.handle();
    let begin = Barrier::new(2);
    let change = |mode, times| {
        begin.wait();
        handle.set_mode(mode);
        let config = config().consecutive_failures(times);
        handle.reconfigure(&config).unwrap();
    };
    for _ in 0..200 {
        thread::scope(|threads| {
            threads.spawn(|| change(Mode::Off, 1));
            change(Mode::Shadow, 2);
        });
        of_all(&layer);
    }
}
