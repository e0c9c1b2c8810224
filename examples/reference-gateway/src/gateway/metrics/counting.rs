//! Why not the exporter alone: it keeps each sample of a histogram, with the time at which it came, until somebody sorts it
//! into its bucket. With four samples a request that is a clock to read, a list to append to, and memory to hand to another
//! thread, four times. Here a sample is counted in its bucket at once. What has no known buckets is the exporter's, and so are
//! counters and gauges.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::{Counter, Gauge, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::formatting::{
    write_help_line, write_metric_line, write_type_line,
};
use metrics_exporter_prometheus::{LabelSet, PrometheusRecorder};

use super::histogram::Histogram;

/// A recorder that counts the samples of some histograms itself, and leaves everything else to the exporter's.
pub(super) struct Counting {
    exporter: PrometheusRecorder,
    histograms: Arc<Histograms>,
}

/// Histograms whose buckets are known.
#[derive(Debug)]
pub(super) struct Histograms {
    buckets: &'static [(&'static str, &'static [f64])],
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Those with the same name are neighbours.
    series: BTreeMap<Key, Arc<Histogram>>,
    help: BTreeMap<String, SharedString>,
}

impl Histograms {
    /// Those with these names and the upper bounds of their buckets.
    pub(super) fn new(buckets: &'static [(&'static str, &'static [f64])]) -> Self {
        let known = Mutex::default();
        Self { buckets, known }
    }

    fn bounds(&self, name: &str) -> Option<&'static [f64]> {
        let mut buckets = self.buckets.iter();
        buckets.find_map(|(known, bounds)| (*known == name).then_some(*bounds))
    }

    fn register(&self, key: &Key, bounds: &'static [f64]) -> Arc<Histogram> {
        let mut known = self.lock();
        let series = known.series.entry(key.to_retained());
        Arc::clone(series.or_insert_with(|| Arc::new(Histogram::new(bounds))))
    }

    /// Appends them in the text format of Prometheus.
    pub(super) fn render(&self, page: &mut String) {
        let known = self.lock();
        let mut last = None;
        for (key, histogram) in &known.series {
            let name = key.name();
            if last.replace(name) != Some(name) {
                if let Some(help) = known.help.get(name) {
                    write_help_line(page, name, None, None, help);
                }
                write_type_line(page, name, None, None, "histogram");
            }
            write(page, key, histogram);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing under the lock leaves a map half changed, so a poisoned one is still good.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(page: &mut String, key: &Key, histogram: &Histogram) {
    let labels = LabelSet::from_key_and_global(key, &Default::default());
    let mut count = 0;
    for (bound, up_to) in histogram.up_to() {
        let bound = match bound.is_finite() {
            true => bound.to_string(),
            false => "+Inf".to_owned(),
        };
        let bound = Some(("le", bound));
        write_metric_line(
            page,
            key.name(),
            Some("bucket"),
            &labels,
            bound,
            up_to,
            None,
        );
        count = up_to;
    }
    let none = None::<(_, &str)>;
    write_metric_line(
        page,
        key.name(),
        Some("sum"),
        &labels,
        none,
        histogram.sum(),
        None,
    );
    write_metric_line(page, key.name(), Some("count"), &labels, none, count, None);
}

impl Counting {
    pub(super) const fn new(exporter: PrometheusRecorder, histograms: Arc<Histograms>) -> Self {
        Self {
            exporter,
            histograms,
        }
    }
}

impl Recorder for Counting {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.exporter.describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        if self.histograms.bounds(key.as_str()).is_none() {
            return self.exporter.describe_histogram(key, unit, description);
        }
        let help = &mut self.histograms.lock().help;
        help.insert(key.as_str().to_owned(), description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.exporter.register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.exporter.register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> metrics::Histogram {
        match self.histograms.bounds(key.name()) {
            Some(bounds) => self.histograms.register(key, bounds).into(),
            None => self.exporter.register_histogram(key, metadata),
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics::Level;
    use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};

    use super::*;

    const BUCKETS: [(&str, &[f64]); 2] = [
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
        let name = Key::from_name("requests_total");
        recorder.register_counter(&name, &metadata).increment(7);
        recorder
            .register_gauge(&Key::from_name("active"), &metadata)
            .set(3.0);
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
        let histograms = Arc::new(Histograms::new(&BUCKETS));
        record(&Counting::new(exporter, Arc::clone(&histograms)));
        let mut page = handle.render();
        histograms.render(&mut page);
        assert_eq!(sorted(&page), sorted(&expected), "{page}");
        let first = page.find("wait_seconds_bucket").unwrap();
        assert!(page.find("# TYPE wait_seconds ").unwrap() < first);
        assert_eq!(page.matches("# TYPE wait_seconds ").count(), 1);
    }
}
