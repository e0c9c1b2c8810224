use std::io;
use std::net::TcpListener;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use axum::Router;
use gw_pipeline::server::{Server, ServerConfig};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::oneshot;

use super::UPKEEP;

/// For requests of operators that are under way when the traffic has ended.
const GRACE: Duration = Duration::from_secs(1);

/// A listener with a thread and a runtime of its own. Ends, and is waited for, when it is dropped.
pub(super) struct Side {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Side {
    /// Serves `router` on a thread called `name`, which also keeps `metrics` tidy if it is given them.
    pub(super) fn start(
        name: &str,
        listener: TcpListener,
        router: Router,
        metrics: Option<PrometheusHandle>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let listener = {
            let _in_runtime = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let config = ServerConfig::builder()
            .shutdown_grace(GRACE)
            .build()
            .map_err(io::Error::other)?;
        let (stop, stopped) = oneshot::channel();
        let serve = async move {
            if let Some(metrics) = metrics {
                tokio::spawn(upkeep(metrics));
            }
            // These listeners are for the machine's own tools, which need few connections and little time.
            let server = Server::new(config);
            let _drained = server
                .serve(listener, router, async { drop(stopped.await) })
                .await;
        };
        let thread = Builder::new()
            .name(name.to_owned())
            .spawn(move || runtime.block_on(serve))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

async fn upkeep(metrics: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP).await;
        metrics.run_upkeep();
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        // Dropping the sender is the signal.
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic over there has been printed, and must not become one here.
            _ = thread.join();
        }
    }
}
