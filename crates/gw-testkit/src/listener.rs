//! Foreign code that is told of things, and what it may do then.

use std::fmt;
use std::sync::Arc;
use std::task::{Wake, Waker};

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Recorder,
    SharedString, Unit,
};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};

/// Does something whenever it is told of a log line, as a [`Subscriber`], or of a metric, as a [`Recorder`]. Clones do the same.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn() + Send + Sync>);

impl Listener {
    /// Calls `hears` each time.
    pub fn new(hears: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(hears))
    }

    /// Panics each time, as one does that prints to a closed stream.
    pub fn panicking() -> Self {
        Self::new(|| panic!("the listener panics, as it was asked to"))
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Subscriber for Listener {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {
        self.0();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

impl Recorder for Listener {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, _: &Key, _: &metrics::Metadata<'_>) -> Counter {
        Counter::from_arc(Arc::new(self.clone()))
    }

    fn register_gauge(&self, _: &Key, _: &metrics::Metadata<'_>) -> Gauge {
        Gauge::from_arc(Arc::new(self.clone()))
    }

    fn register_histogram(&self, _: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        Histogram::from_arc(Arc::new(self.clone()))
    }
}

impl CounterFn for Listener {
    fn increment(&self, _: u64) {
        self.0();
    }

    fn absolute(&self, _: u64) {
        self.0();
    }
}

impl GaugeFn for Listener {
    fn increment(&self, _: f64) {
        self.0();
    }

    fn decrement(&self, _: f64) {
        self.0();
    }

    fn set(&self, _: f64) {
        self.0();
    }
}

impl HistogramFn for Listener {
    fn record(&self, _: f64) {
        self.0();
    }
}

/// A waker that calls `looks` when it is woken and when the last of its clones is dropped: it stands for one that comes back for a lock
/// then, as a task's does that is dropped with what it holds.
pub fn nosy_waker(looks: impl Fn() + Send + Sync + 'static) -> Waker {
    Waker::from(Arc::new(Nosy(looks)))
}

struct Nosy<F: Fn()>(F);

impl<F: Fn() + Send + Sync + 'static> Wake for Nosy<F> {
    fn wake(self: Arc<Self>) {
        self.0();
    }
}

impl<F: Fn()> Drop for Nosy<F> {
    fn drop(&mut self) {
        self.0();
    }
}
