//! What the layers count, and the page that shows it.

mod counting;
mod histogram;
mod scalar;
mod shards;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use self::counting::{Buckets, Counted, Counting};

/// The registry of this process, which the layers count into.
#[derive(Debug, Clone)]
pub struct Metrics {
    exporter: PrometheusHandle,
    counted: Arc<Counted>,
}

impl Metrics {
    /// The registry, which is installed when this is called for the first time.
    pub(super) fn installed() -> Self {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        INSTALLED.get_or_init(Self::install).clone()
    }

    fn install() -> Self {
        let exporter = PrometheusBuilder::new().build_recorder();
        let counted = Arc::new(Counted::new(buckets().collect()));
        let metrics = Self {
            exporter: exporter.handle(),
            counted: Arc::clone(&counted),
        };
        // If someone else's recorder counts already, the page stays empty, and the gateway serves all the same.
        _ = metrics::set_global_recorder(Counting::new(exporter, counted));
        describe();
        metrics
    }

    /// All that is counted, in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut page = self.exporter.render();
        self.counted.render(&mut page);
        page
    }
}

/// The buckets of all histograms, by name.
fn buckets() -> impl Iterator<Item = Buckets> {
    let observe = gw_observe::HISTOGRAM_BUCKETS.iter();
    observe
        .chain(gw_ratelimit::redis::HISTOGRAM_BUCKETS.iter())
        .chain(gw_logingest::HISTOGRAM_BUCKETS)
        .copied()
}

fn describe() {
    gw_ratelimit::describe();
    gw_bulkhead::describe();
    gw_breaker::describe();
    gw_breaker::outlier::describe();
    gw_observe::describe();
    gw_retry::describe();
    gw_logingest::describe();
    gw_pipeline::server::describe();
    gw_pipeline::upstream::describe();
}

/// How often the exporter is tidied: it keeps each sample of its histograms until then, and grows.
const UPKEEP: Duration = Duration::from_secs(1);

/// Keeps the exporter tidy, for ever.
pub(super) async fn upkeep(metrics: Metrics) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.exporter.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use metrics::{
        Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit,
    };

    use super::*;

    /// The names of the histograms that were described.
    #[derive(Default)]
    struct Described(RefCell<Vec<String>>);

    impl Recorder for Described {
        fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

        fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
            self.0.borrow_mut().push(name.as_str().to_owned());
        }

        fn register_counter(&self, _: &Key, _: &Metadata<'_>) -> Counter {
            Counter::noop()
        }

        fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
            Gauge::noop()
        }

        fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
            Histogram::noop()
        }
    }

    /// Story: those of other crates than gw-observe had none and were summaries, which cannot be added up over instances.
    #[test]
    fn each_histogram_has_its_buckets() {
        let described = Described::default();
        metrics::with_local_recorder(&described, describe);
        let mut described = described.0.into_inner();
        described.sort();
        let mut known: Vec<_> = buckets().map(|(name, _)| name).collect();
        known.sort_unstable();
        assert_eq!(described, known);
    }
}
