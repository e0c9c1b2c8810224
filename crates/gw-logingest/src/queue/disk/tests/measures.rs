//! What is measured of queues beside each other.

use gw_testkit::metrics_capture::MetricsCapture;
use tokio::sync::oneshot;

use super::world::{batch, config};
use crate::fs::sim::SimFs;
use crate::queue::disk::config::Config;
use crate::queue::disk::engine::{Engine, Parts};

/// A queue of this name, as it is measured with so many batches in it.
fn measure(name: Option<&str>, batches: u128) {
    let config = Config {
        name: name.map(Into::into),
        ..config()
    };
    let Parts {
        engine,
        mut committer,
        ..
    } = Engine::prepare(SimFs::default(), &config).unwrap();
    assert_eq!(engine.name(), name);
    for id in 0..batches {
        engine.submit(batch(id, 100), oneshot::channel().0).unwrap();
    }
    while let Some(work) = engine.take_work(&committer) {
        committer.turn(work);
    }
    committer.start();
}

/// Story: the gauges of two queues were one, and showed whichever had been looked at last.
#[tokio::test(start_paused = true)]
async fn queues_with_names_have_gauges_of_their_own() {
    let metrics = MetricsCapture::new();
    metrics.run(|| {
        measure(Some("audit"), 1);
        measure(Some("access"), 3);
        measure(None, 2);
    });
    for (labels, batches) in [
        (&[("queue", "audit")] as &[_], 1),
        (&[("queue", "access")], 3),
        (&[], 2),
    ] {
        let events = f64::from(batches);
        metrics.assert_gauge("gateway_logingest_queue_events", labels, events);
        let groups = metrics.histogram("gateway_logingest_commit_group_size", labels);
        assert_eq!(groups, [events]);
        assert!(metrics.gauge("gateway_logingest_queue_bytes", labels) > 0.0);
    }
}
