//! What is measured of queues beside each other.

use gw_testkit::metrics_capture::MetricsCapture;
use tokio::sync::oneshot;

use super::world::{World, batch, config};
use crate::fs::sim::{Op, SimFs};
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

/// Story: the device hung, and with it the one thread that set the gauges: they stood still while batches piled up.
#[tokio::test(start_paused = true)]
async fn whoever_asks_how_a_queue_stands_sets_its_gauges() {
    let metrics = MetricsCapture::new();
    metrics.run(|| {
        let Parts {
            engine,
            mut committer,
            ..
        } = Engine::prepare(SimFs::default(), &config()).unwrap();
        committer.start();
        let bytes = || metrics.gauge("gateway_logingest_queue_bytes", &[]);
        let before = bytes();
        // Nobody takes it off.
        engine.submit(batch(1, 100), oneshot::channel().0).unwrap();
        assert_eq!(bytes(), before);
        let status = engine.status();
        assert!(bytes() > before);
        assert_eq!(bytes(), status.bytes as f64);
    });
}

/// Story: each time that it was tried to rename a damaged segment, it was counted.
#[test]
fn a_segment_that_is_set_aside_is_counted_once() {
    let metrics = MetricsCapture::new();
    metrics.run(|| {
        let mut world = World::new(SimFs::default());
        world.append(&[3000, 3000]);
        let path = world.path(&world.segments()[0]);
        world.fs.damage(&path, |file| file[512 + 100] ^= 1);
        world.lease(2);
        world.acknowledge_all();
        world.fs.fail(Op::Rename, 0, 3);
        for _ in 0..9 {
            world.append(&[3000]);
        }
        assert_eq!(world.set_aside(), 1);
    });
    metrics.assert_counter("gateway_logingest_segments_broken_total", &[], 1);
}
