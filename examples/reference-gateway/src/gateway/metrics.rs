use std::sync::OnceLock;
use std::time::Duration;

use gw_observe::HISTOGRAM_BUCKETS;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// The registry of this process, which the layers count into.
pub(super) fn registry() -> PrometheusHandle {
    static REGISTRY: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let builder =
            HISTOGRAM_BUCKETS
                .iter()
                .fold(PrometheusBuilder::new(), |builder, (name, buckets)| {
                    let name = Matcher::Full((*name).to_owned());
                    // Fails only for an empty list, which none of these is.
                    builder
                        .set_buckets_for_metric(name, buckets)
                        .unwrap_or_default()
                });
        // If someone else's recorder counts already, the page stays empty, and the gateway serves all the same.
        let handle = builder
            .install_recorder()
            .unwrap_or_else(|_| PrometheusBuilder::new().build_recorder().handle());
        gw_ratelimit::describe();
        gw_bulkhead::describe();
        gw_observe::describe();
        gw_logingest::describe();
        gw_pipeline::upstream::describe();
        handle
    };
    REGISTRY.get_or_init(install).clone()
}

/// How often the registry is tidied: without it, it grows between scrapes. Each histogram keeps its samples until then,
/// and what it keeps for longer than this leaves the caches: that was worth 4 % of the CPU time per request.
const UPKEEP: Duration = Duration::from_millis(200);

/// Keeps the registry tidy, for ever.
pub(super) async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}
