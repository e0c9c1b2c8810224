//! What the layers count, and the page that shows it.

mod counting;
mod histogram;
mod scalar;
mod shards;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use self::counting::{Counted, Counting};

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
        let counted = Arc::new(Counted::new(&gw_observe::HISTOGRAM_BUCKETS));
        let metrics = Self {
            exporter: exporter.handle(),
            counted: Arc::clone(&counted),
        };
        // If someone else's recorder counts already, the page stays empty, and the gateway serves all the same.
        _ = metrics::set_global_recorder(Counting::new(exporter, counted));
        gw_ratelimit::describe();
        gw_bulkhead::describe();
        gw_breaker::describe();
        gw_breaker::outlier::describe();
        gw_observe::describe();
        gw_retry::describe();
        gw_logingest::describe();
        gw_pipeline::server::describe();
        gw_pipeline::upstream::describe();
        metrics
    }

    /// All that is counted, in the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut page = self.exporter.render();
        self.counted.render(&mut page);
        page
    }
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
