//! Why not the exporter alone: it keeps each sample of a histogram, with the time at which it came, until somebody sorts it
//! into its bucket. With four samples a request that is a clock to read, a list to append to, and memory to hand to another
//! thread, four times. Here a sample is counted in its bucket at once. Its counters and gauges also note each change, for series
//! that are to be forgotten after a while, and all threads count in one place; here each has a place of its own. What has no
//! known buckets is the exporter's.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};
use metrics_exporter_prometheus::{LabelSet, PrometheusRecorder};

use super::histogram::Histogram;
use super::scalar::{Counter, Gauge};

/// A recorder that counts nearly all itself, and leaves histograms whose buckets it does not know to the exporter's.
pub(super) struct Counting {
    exporter: PrometheusRecorder,
    counted: Arc<Counted>,
}

/// The name of a histogram, and the upper bounds of its buckets.
pub(super) type Buckets = (&'static str, &'static [f64]);

/// What is counted here.
#[derive(Debug)]
pub(super) struct Counted {
    buckets: Vec<Buckets>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    counters: Series<Counter>,
    gauges: Series<Gauge>,
    histograms: Series<Histogram>,
    help: BTreeMap<String, SharedString>,
}

/// Those with the same name are neighbours.
type Series<T> = BTreeMap<Key, Arc<T>>;

fn register<T>(series: &mut Series<T>, key: &Key, new: impl FnOnce() -> T) -> Arc<T> {
    let series = series.entry(key.to_retained());
    Arc::clone(series.or_insert_with(|| Arc::new(new())))
}

impl Counted {
    /// With histograms that have these buckets.
    pub(super) fn new(buckets: Vec<Buckets>) -> Self {
        let known = Mutex::default();
        Self { buckets, known }
    }

    fn bounds(&self, name: &str) -> Option<&'static [f64]> {
        let mut buckets = self.buckets.iter();
        buckets.find_map(|(known, bounds)| (*known == name).then_some(*bounds))
    }

    fn describe(&self, key: &KeyName, description: SharedString) {
        let help = &mut self.lock().help;
        help.insert(key.as_str().to_owned(), description);
    }

    /// Appends all of it in the text format of Prometheus.
    pub(super) fn render(&self, page: &mut String) {
        let known = self.lock();
        known.families(page, "counter", &known.counters, |page, key, counter| {
            line(page, key, None, None, counter.value());
        });
        known.families(page, "gauge", &known.gauges, |page, key, gauge| {
            line(page, key, None, None, gauge.value());
        });
        known.families(page, "histogram", &known.histograms, write);
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing under the lock leaves a map half changed, so a poisoned one is still good.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn families<T>(
        &self,
        page: &mut String,
        kind: &str,
        series: &Series<T>,
        write: impl Fn(&mut String, &Key, &T),
    ) {
        let mut last = None;
        for (key, it) in series {
            let name = key.name();
            if last.replace(name) != Some(name) {
                if let Some(help) = self.help.get(name) {
                    write_help_line(page, name, None, None, help);
                }
                write_type_line(page, name, None, None, kind);
            }
            write(page, key, it);
        }
    }
}

fn write(page: &mut String, key: &Key, histogram: &Histogram) {
    let mut count = 0;
    for (bound, up_to) in histogram.up_to() {
        let bound = match bound.is_finite() {
            true => bound.to_string(),
            false => "+Inf".to_owned(),
        };
        line(page, key, Some("bucket"), Some(("le", bound)), up_to);
        count = up_to;
    }
    line(page, key, Some("sum"), None, histogram.sum());
    line(page, key, Some("count"), None, count);
}

fn line(
    page: &mut String,
    key: &Key,
    suffix: Option<&'static str>,
    label: Option<(&'static str, String)>,
    value: impl Display,
) {
    let labels = LabelSet::from_key_and_global(key, &Default::default());
    write_metric_line(page, key.name(), suffix, &labels, label, value, None);
}

impl Counting {
    pub(super) const fn new(exporter: PrometheusRecorder, counted: Arc<Counted>) -> Self {
        Self { exporter, counted }
    }
}

impl Recorder for Counting {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.counted.describe(&key, description);
    }

    fn describe_gauge(&self, key: KeyName, _: Option<Unit>, description: SharedString) {
        self.counted.describe(&key, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        match self.counted.bounds(key.as_str()) {
            Some(_) => self.counted.describe(&key, description),
            None => self.exporter.describe_histogram(key, unit, description),
        }
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        register(&mut self.counted.lock().counters, key, Counter::new).into()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        register(&mut self.counted.lock().gauges, key, Gauge::new).into()
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> metrics::Histogram {
        match self.counted.bounds(key.name()) {
            Some(bounds) => {
                let new = || Histogram::new(bounds);
                register(&mut self.counted.lock().histograms, key, new).into()
            }
            None => self.exporter.register_histogram(key, metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::Level;
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    use super::*;

    const BUCKETS: [Buckets; 2] = [
        ("wait_seconds", &[0.005, 0.01, 2.5]),
        ("calls", &[0.0, 1.0, 8.0]),
    ];

    /// What some histograms, a counter and a gauge look like on `recorder`'s page.
    fn record(recorder: &impl Recorder) {
        let metadata = Metadata::new("test", Level::INFO, None);
        let samples = [0.001, 0.005, 0.0075, 1.0, 2.5, 3.25, 1e9];
        for name in ["wait_seconds", "calls", "other"] {
            recorder.describe_histogram(
                name.into(),
                Some(Unit::Seconds),
                "It's \"quoted\".".into(),
            );
            for route in ["a", "b\"\\\n"] {
                let key = Key::from_parts(name, vec![metrics::Label::new("route", route)]);
                // As two layers do that count into one series.
                for sample in samples {
                    recorder.register_histogram(&key, &metadata).record(sample);
                }
            }
        }
        for (route, count) in [("a", 7), ("b\"\\\n", 11)] {
            let labels = vec![metrics::Label::new("route", route)];
            let key = Key::from_parts("requests_total", labels);
            recorder.register_counter(&key, &metadata).increment(count);
        }
        recorder
            .register_gauge(&Key::from_name("active"), &metadata)
            .set(3.5);
        recorder.describe_counter("requests_total".into(), None, "Requests.".into());
        recorder.describe_gauge("active".into(), None, "Active ones.".into());
    }

    fn sorted(page: &str) -> Vec<&str> {
        let mut lines: Vec<_> = page.lines().filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn the_page_is_that_of_the_exporter_alone() {
        let exporter = BUCKETS
            .iter()
            .fold(PrometheusBuilder::new(), |it, (name, bounds)| {
                let name = Matcher::Full((*name).to_owned());
                it.set_buckets_for_metric(name, bounds).unwrap()
            });
        let exporter = exporter.build_recorder();
        record(&exporter);
        let expected = exporter.handle().render();

        let exporter = PrometheusBuilder::new().build_recorder();
        let handle = exporter.handle();
        let counted = Arc::new(Counted::new(BUCKETS.to_vec()));
        record(&Counting::new(exporter, Arc::clone(&counted)));
        let mut page = handle.render();
        counted.render(&mut page);
        assert_eq!(sorted(&page), sorted(&expected), "{page}");
        let first = page.find("wait_seconds_bucket").unwrap();
        assert!(page.find("# TYPE wait_seconds ").unwrap() < first);
        assert_eq!(page.matches("# TYPE wait_seconds ").count(), 1);
    }
}
