//! The gauge of a state whose breaker is forgotten, and the one of how many breakers there are.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use gw_breaker::{BreakerLayer, State, UpstreamName};
use gw_testkit::metrics_capture::MetricsCapture;
use http::Request;
use metrics::{
    Counter, Gauge, GaugeFn, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
};
use support::{Inner, SECOND, config};
use tokio::time::advance;
use tower::{Layer as _, ServiceExt as _};

const STATE: &str = "gateway_circuit_breaker_state";

/// Story: the gauge of an open breaker that was forgotten said for ever that its upstream was kept away. And who held its handle
/// still, or recorded its gauge, had it say so of the breaker that was made anew under the name.
#[tokio::test(start_paused = true)]
async fn who_is_forgotten_shows_nothing_any_more() {
    let layer = BreakerLayer::builder("other")
        .config(config())
        .per_upstream()
        .capacity(NonZeroU32::MIN)
        .idle(20 * SECOND)
        .build()
        .unwrap();
    let inner = Inner::new();
    let send = async |upstream, status| {
        inner.status(status);
        let mut request = Request::new(());
        request.extensions_mut().insert(UpstreamName::new(upstream));
        layer.layer(inner.clone()).oneshot(request).await.unwrap();
    };
    let recorder = MetricsCapture::new();
    let orders = [("upstream", "orders")];
    let lived = async {
        for _ in 0..3 {
            send("orders", 500).await;
        }
        recorder.assert_gauge(STATE, &orders, 1.0);
        let orphan = layer.handle().upstream("orders").unwrap();
        send("new", 200).await;
        advance(20 * SECOND).await;
        send("new", 200).await;
        assert!(layer.handle().upstream("orders").is_none());
        recorder.assert_gauge(STATE, &orders, 0.0);
        orphan.record_gauges();
        recorder.assert_gauge(STATE, &orders, 0.0);
        // One of the same name is not the same.
        send("orders", 200).await;
        let successor = layer.handle().upstream("orders").unwrap();
        orphan.reset();
        orphan.force_open();
        recorder.assert_gauge(STATE, &orders, 0.0);
        successor.force_open();
        recorder.assert_gauge(STATE, &orders, 1.0);
        orphan.reset();
        orphan.record_gauges();
        recorder.assert_gauge(STATE, &orders, 1.0);
        // Who waits for its changes hears of them all the same.
        let mut changes = orphan.subscribe();
        orphan.force_open();
        assert_eq!(changes.changed().await, Some(State::ForcedOpen));
    };
    recorder.scope(lived).await;
}

/// The gauge that has this label, and what happens just before it is next set to a value.
#[derive(Clone)]
struct Watched(&'static str, Arc<Mutex<Shown>>);

#[derive(Default)]
struct Shown {
    value: f64,
    before: Option<(f64, Box<dyn FnOnce() + Send>)>,
}

impl Watched {
    fn new(label: &'static str) -> Self {
        Self(label, Arc::default())
    }

    fn before(&self, value: f64, happens: impl FnOnce() + Send + 'static) {
        self.1.lock().unwrap().before = Some((value, Box::new(happens)));
    }

    /// What it shows, once that has happened.
    fn shows(&self) -> f64 {
        let shown = self.1.lock().unwrap();
        assert!(shown.before.is_none(), "it was never set to that");
        shown.value
    }
}

impl GaugeFn for Watched {
    fn increment(&self, _: f64) {}

    fn decrement(&self, _: f64) {}

    fn set(&self, value: f64) {
        let mut shown = self.1.lock().unwrap();
        let before = shown.before.take_if(|(at, _)| *at == value);
        drop(shown);
        if let Some((_, happens)) = before {
            happens();
        }
        self.1.lock().unwrap().value = value;
    }
}

impl Recorder for Watched {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        match key.labels().any(|label| label.value() == self.0) {
            true => Gauge::from_arc(Arc::new(self.clone())),
            false => Gauge::noop(),
        }
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// Story: between a breaker's being forgotten and its gauge's being set to 0 another thread could make one anew that opened; the
/// gauge said until its next change that it kept nothing away.
#[tokio::test(start_paused = true)]
async fn who_is_made_anew_meanwhile_is_shown() {
    let layer = BreakerLayer::builder("other").config(config());
    let layer = layer.per_upstream().idle(20 * SECOND).build().unwrap();
    let inner = Inner::new();
    let call = {
        let (layer, inner) = (layer.clone(), inner.clone());
        move |upstream: &'static str| {
            inner.status(200);
            let mut request = Request::new(());
            request.extensions_mut().insert(UpstreamName::new(upstream));
            layer.layer(inner.clone()).oneshot(request)
        }
    };
    let shown = Watched::new("orders");
    let _recorder = metrics::set_default_local_recorder(&shown);
    call("orders").await.unwrap();
    call("one").await.unwrap();
    advance(20 * SECOND).await;
    let handle = layer.handle();
    let meanwhile = {
        let call = call.clone();
        move || {
            let mut called = std::pin::pin!(call("orders"));
            let mut context = Context::from_waker(Waker::noop());
            assert!(called.as_mut().poll(&mut context).is_ready());
            handle.upstream("orders").unwrap().force_open();
            // For the call that this one came in between of.
            inner.status(200);
        }
    };
    shown.before(0.0, meanwhile);
    call("another").await.unwrap();
    assert_eq!(shown.shows(), 1.0);
}

/// Story: of two threads that made a breaker each, the one that was first may have set the gauge last. It showed one too few until
/// another one was made, which may be never.
#[test]
fn they_are_counted_whoever_is_last() {
    let layer = BreakerLayer::builder("other").config(config());
    let layer = layer.per_upstream().build().unwrap();
    let call = move |upstream: &'static str| {
        let inner = Inner::new();
        inner.status(200);
        let mut request = Request::new(());
        request.extensions_mut().insert(UpstreamName::new(upstream));
        let mut called = std::pin::pin!(layer.layer(inner).oneshot(request));
        let mut context = Context::from_waker(Waker::noop());
        assert!(called.as_mut().poll(&mut context).is_ready());
    };
    let shown = Watched::new("other");
    let _recorder = metrics::set_default_local_recorder(&shown);
    let meanwhile = call.clone();
    shown.before(1.0, move || {
        meanwhile("two");
        meanwhile("three");
    });
    call("one");
    assert_eq!(shown.shows(), 3.0);
}

/// Story: the gauge was registered anew for each new key, under the recorder's lock.
#[tokio::test(start_paused = true)]
async fn the_gauge_of_how_many_there_are_is_registered_once() {
    let layer = BreakerLayer::builder("other").config(config());
    let layer = layer.per_upstream().build().unwrap();
    let inner = Inner::new();
    let send = async |upstream| {
        inner.status(200);
        let mut request = Request::new(());
        request.extensions_mut().insert(UpstreamName::new(upstream));
        layer.layer(inner.clone()).oneshot(request).await.unwrap();
    };
    let recorder = MetricsCapture::new();
    recorder.scope(send("one")).await;
    // Whoever has the handle needs no recorder.
    send("two").await;
    recorder.assert_gauge("gateway_circuit_breakers", &[("layer", "other")], 2.0);
}
