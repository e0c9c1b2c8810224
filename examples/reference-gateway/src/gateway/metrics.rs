use std::sync::OnceLock;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

/// The registry of this process, which the layers count into.
pub(super) fn registry() -> PrometheusHandle {
    static REGISTRY: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new();
        // If someone else's recorder counts already, the page stays empty, and the gateway serves all the same.
        let handle = builder
            .install_recorder()
            .unwrap_or_else(|_| PrometheusBuilder::new().build_recorder().handle());
        gw_ratelimit::describe();
        gw_bulkhead::describe();
        gw_logingest::describe();
        handle
    };
    REGISTRY.get_or_init(install).clone()
}
