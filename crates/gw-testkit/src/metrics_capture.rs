//! The metrics that code under test has recorded, and nobody else's.
//!
//! A [`MetricsCapture`] is a recorder for one scope, a closure or a future, so tests may run side by side.
//!
//! Code under test registers its metrics lazily, at their first use, and a handle stays with the recorder under
//! which it was registered. So the first use must happen inside the scope; from then on the handle counts into
//! this capture, whichever thread uses it. A metric that was never used is absent, not 0. Tasks spawned inside
//! the scope are outside of it: wrap them by [`MetricsCapture::scope`] as well.
//!
//! Reading does not disturb the values, unlike a snapshot of metrics-util's `DebuggingRecorder`, which sets
//! them to 0 and so makes a gauge wrong for the rest of the test. Hence a recorder of our own over the same
//! registry.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_util::registry::{AtomicStorage, Registry};

/// Captures metrics. Clones are the same capture.
///
/// Labels are given as pairs in any order, and must be all the labels that the metric has.
#[derive(Clone, Debug)]
pub struct MetricsCapture {
    recorder: Arc<CaptureRecorder>,
}

/// One metric with its labels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Series {
    /// The name of the metric.
    pub name: String,
    /// The labels, sorted.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: Value,
}

/// The value of a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(f64),
    /// All values recorded by a histogram, sorted.
    Histogram(Vec<f64>),
}

/// What code under test has said about a metric.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Description {
    /// The unit.
    pub unit: Option<Unit>,
    /// The text.
    pub text: String,
}

struct CaptureRecorder {
    registry: Registry<Key, AtomicStorage>,
    descriptions: Mutex<BTreeMap<String, Description>>,
}

impl MetricsCapture {
    /// An empty capture.
    pub fn new() -> Self {
        Self {
            recorder: Arc::new(CaptureRecorder {
                registry: Registry::atomic(),
                descriptions: Mutex::default(),
            }),
        }
    }

    /// Runs `scope` with this capture as the recorder of the thread.
    pub fn run<T>(&self, scope: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&self.recorder, scope)
    }

    /// Runs a future with this capture as the recorder, on whichever thread it is polled.
    pub async fn scope<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        poll_fn(|cx| self.run(|| future.as_mut().poll(cx))).await
    }

    /// All metrics, sorted by name and labels.
    pub fn series(&self) -> Vec<Series> {
        let registry = &self.recorder.registry;
        let mut all = Vec::new();
        registry.visit_counters(|key, counter| {
            all.push(Series::new(
                key,
                Value::Counter(counter.load(Ordering::SeqCst)),
            ));
        });
        registry.visit_gauges(|key, gauge: &Arc<AtomicU64>| {
            let bits = gauge.load(Ordering::SeqCst);
            all.push(Series::new(key, Value::Gauge(f64::from_bits(bits))));
        });
        registry.visit_histograms(|key, histogram| {
            let mut values = histogram.data();
            values.sort_by(f64::total_cmp);
            all.push(Series::new(key, Value::Histogram(values)));
        });
        all.sort_by(|a, b| (&a.name, &a.labels).cmp(&(&b.name, &b.labels)));
        all
    }

    /// The metric of that name with exactly these labels.
    pub fn find(&self, name: &str, labels: &[(&str, &str)]) -> Option<Value> {
        let labels = sorted(labels.iter().copied());
        let same = |series: &Series| series.name == name && series.labels == labels;
        self.series()
            .into_iter()
            .find(same)
            .map(|series| series.value)
    }

    /// The counter of that name with exactly these labels.
    ///
    /// # Panics
    ///
    /// If there is none; the message lists what there is.
    #[track_caller]
    pub fn counter(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        match self.find(name, labels) {
            Some(Value::Counter(value)) => value,
            other => self.missing("counter", name, labels, other),
        }
    }

    /// The gauge of that name with exactly these labels.
    ///
    /// # Panics
    ///
    /// If there is none; the message lists what there is.
    #[track_caller]
    pub fn gauge(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        match self.find(name, labels) {
            Some(Value::Gauge(value)) => value,
            other => self.missing("gauge", name, labels, other),
        }
    }

    /// The values, sorted, of the histogram of that name with exactly these labels.
    ///
    /// # Panics
    ///
    /// If there is none; the message lists what there is.
    #[track_caller]
    pub fn histogram(&self, name: &str, labels: &[(&str, &str)]) -> Vec<f64> {
        match self.find(name, labels) {
            Some(Value::Histogram(values)) => values,
            other => self.missing("histogram", name, labels, other),
        }
    }

    /// The sum of all counters of that name, whatever their labels; 0 if there is none.
    pub fn counter_sum(&self, name: &str) -> u64 {
        let of_name = self
            .series()
            .into_iter()
            .filter(|series| series.name == name);
        let counts = of_name.map(|series| match series.value {
            Value::Counter(value) => value,
            Value::Gauge(_) | Value::Histogram(_) => 0,
        });
        counts.sum()
    }

    /// Asserts the value of a counter.
    #[track_caller]
    pub fn assert_counter(&self, name: &str, labels: &[(&str, &str)], expected: u64) {
        assert_eq!(
            self.counter(name, labels),
            expected,
            "counter {name}{labels:?}"
        );
    }

    /// Asserts the value of a gauge, exactly.
    #[track_caller]
    pub fn assert_gauge(&self, name: &str, labels: &[(&str, &str)], expected: f64) {
        assert_eq!(self.gauge(name, labels), expected, "gauge {name}{labels:?}");
    }

    /// Asserts how many values a histogram has recorded.
    #[track_caller]
    pub fn assert_recorded(&self, name: &str, labels: &[(&str, &str)], expected: usize) {
        let values = self.histogram(name, labels);
        assert_eq!(
            values.len(),
            expected,
            "histogram {name}{labels:?} recorded {values:?}"
        );
    }

    /// Asserts that no metric of that name was used.
    #[track_caller]
    pub fn assert_absent(&self, name: &str) {
        let of_name = |series: &Series| series.name == name;
        let found = self.series().into_iter().find(of_name);
        assert_eq!(found, None, "a metric that should be absent");
    }

    /// What was said about a metric of that name.
    pub fn description(&self, name: &str) -> Option<Description> {
        self.recorder.descriptions().get(name).cloned()
    }

    #[track_caller]
    fn missing(&self, kind: &str, name: &str, labels: &[(&str, &str)], other: Option<Value>) -> ! {
        let found = other
            .map(|value| format!(", but a {value:?}"))
            .unwrap_or_default();
        panic!(
            "no {kind} {name}{labels:?}{found}; there is {:#?}",
            self.series()
        );
    }
}

impl Default for MetricsCapture {
    fn default() -> Self {
        Self::new()
    }
}

impl Series {
    fn new(key: &Key, value: Value) -> Self {
        Self {
            name: key.name().to_owned(),
            labels: sorted(key.labels().map(|label| (label.key(), label.value()))),
            value,
        }
    }
}

impl CaptureRecorder {
    fn descriptions(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Description>> {
        self.descriptions
            .lock()
            .expect("no code panics while it holds the descriptions")
    }

    fn describe(&self, name: &KeyName, unit: Option<Unit>, text: &SharedString) {
        let description = Description {
            unit,
            text: text.to_string(),
        };
        self.descriptions()
            .insert(name.as_str().to_owned(), description);
    }
}

impl metrics::Recorder for CaptureRecorder {
    fn describe_counter(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }

    fn describe_gauge(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, text: SharedString) {
        self.describe(&name, unit, &text);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.registry
            .get_or_create_counter(&key.to_retained(), |new| new.clone().into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.registry
            .get_or_create_gauge(&key.to_retained(), |new| new.clone().into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.registry
            .get_or_create_histogram(&key.to_retained(), |new| new.clone().into())
    }
}

impl fmt::Debug for CaptureRecorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CaptureRecorder").finish_non_exhaustive()
    }
}

fn sorted<'a>(labels: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<(String, String)> {
    let mut labels: Vec<_> = labels
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    labels.sort();
    labels
}
