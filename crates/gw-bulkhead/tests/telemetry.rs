//! Metrics, and the span of a request.
#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use gw_bulkhead::{Entry, LaneConfig, Lanes, Mode};
use gw_core::Body;
use gw_testkit::metrics_capture::MetricsCapture;
use http::{Request, Response};
use support::{call, inner, one_lane, places, poll, request};
use tokio::time::Instant;
use tower::Layer as _;

const CORE: &[(&str, &str)] = &[("lane", "core")];

#[tokio::test(start_paused = true)]
async fn what_a_lane_counts() {
    let lane = LaneConfig::new("core")
        .queue(1)
        .max_hold(Duration::from_secs(60));
    let layer = one_lane(1, lane);
    // Installed after the layer was built.
    let capture = MetricsCapture::new();
    capture.run(gw_bulkhead::describe);
    capture
        .scope(async {
            let (service, _inner) = inner();
            let mut service = layer.layer(service);
            let mut first = call(&mut service, request()).await;
            let mut second = call(&mut service, request()).await;
            assert!(poll(&mut first).is_pending() && poll(&mut second).is_pending());
            capture.assert_gauge("gateway_lane_in_flight", CORE, 1.0);
            capture.assert_gauge("gateway_lane_queued", CORE, 1.0);
            capture.assert_gauge("gateway_lane_limit", CORE, 1.0);
            drop(call(&mut service, request()).await);
            // In the queue for too long, and in flight for too long.
            assert_eq!(second.await.unwrap().status(), 503);
            assert_eq!(first.await.unwrap().status(), 504);
            layer.handle().resize(places(5));
            drop(layer.handle().drain());
            drop(call(&mut service, request()).await);
        })
        .await;
    for reason in ["queue_full", "queue_timeout", "max_hold", "draining"] {
        capture.assert_counter(
            "gateway_lane_rejections_total",
            &[("lane", "core"), ("reason", reason)],
            1,
        );
    }
    assert_eq!(capture.counter_sum("gateway_lane_rejections_total"), 4);
    capture.assert_gauge("gateway_lane_in_flight", CORE, 0.0);
    capture.assert_gauge("gateway_lane_queued", CORE, 0.0);
    capture.assert_gauge("gateway_lane_limit", CORE, 5.0);
    for series in capture.series() {
        assert!(
            capture.description(&series.name).is_some(),
            "{} is not described",
            series.name
        );
    }
}

/// Story: what a lane that was only tried out let pass was counted as refused, and told so in a warning.
#[test]
fn what_a_lane_in_shadow_mode_would_refuse_is_counted_apart() {
    let lane = LaneConfig::new("core").mode(Mode::Shadow);
    let lanes = Lanes::new(places(1), [lane]).unwrap();
    let core = lanes.find("core").unwrap();
    let capture = MetricsCapture::new();
    capture.run(|| {
        gw_bulkhead::describe();
        let first = lanes.enter(core, Instant::now());
        let second = lanes.enter(core, Instant::now());
        drop((first, second));
        // This one is a refusal all the same.
        drop(lanes.drain());
        drop(lanes.enter(core, Instant::now()));
    });
    let full = [("lane", "core"), ("reason", "lane_full")];
    capture.assert_counter("gateway_shadow_lane_rejections_total", &full, 1);
    let draining = [("lane", "core"), ("reason", "draining")];
    capture.assert_counter("gateway_lane_rejections_total", &draining, 1);
    assert_eq!(capture.counter_sum("gateway_lane_rejections_total"), 1);
    let described = capture.description("gateway_shadow_lane_rejections_total");
    assert!(described.is_some());
}

#[tokio::test(start_paused = true)]
async fn what_a_lane_in_shadow_mode_would_cut_is_counted_apart() {
    let lane = LaneConfig::new("core").max_hold(Duration::from_secs(60));
    let layer = one_lane(1, lane.mode(Mode::Shadow));
    let capture = MetricsCapture::new();
    capture
        .scope(async {
            let (service, _inner) = inner();
            let running = call(&mut layer.layer(service), request()).await;
            let beyond = Duration::from_secs(100);
            assert!(tokio::time::timeout(beyond, running).await.is_err());
        })
        .await;
    let held = [("lane", "core"), ("reason", "max_hold")];
    capture.assert_counter("gateway_shadow_lane_rejections_total", &held, 1);
    assert_eq!(capture.counter_sum("gateway_lane_rejections_total"), 0);
}

#[test]
fn lanes_are_seen_before_their_first_request() {
    let lane = LaneConfig::new("core").cap(0.5);
    let layer = one_lane(10, lane);
    let capture = MetricsCapture::new();
    capture.run(|| layer.handle().record_gauges());
    capture.assert_gauge("gateway_lane_limit", CORE, 5.0);
    capture.assert_gauge("gateway_lane_in_flight", CORE, 0.0);
    capture.assert_gauge("gateway_lane_queued", CORE, 0.0);
}

#[test]
fn a_resize_before_the_recorder_is_installed_leaves_the_gauges_to_it() {
    // Story: a total was set from a configuration before the recorder was there, and by that the gauges were registered with
    // none, for good.
    let layer = one_lane(10, LaneConfig::new("core").cap(0.5));
    layer.handle().resize(places(20));
    let capture = MetricsCapture::new();
    capture.run(|| {
        layer.handle().record_gauges();
        capture.assert_gauge("gateway_lane_limit", CORE, 10.0);
        layer.handle().resize(places(30));
        capture.assert_gauge("gateway_lane_limit", CORE, 15.0);
    });
}

#[test]
fn a_switch_of_modes_counts_who_waited_out_of_the_queue() {
    let lanes = Lanes::new(places(1), [LaneConfig::new("core").queue(1)]).unwrap();
    let core = lanes.find("core").unwrap();
    let capture = MetricsCapture::new();
    capture.run(|| {
        let first = lanes.try_admit(core).unwrap();
        let Entry::Queued(waiting) = lanes.enter(core, Instant::now()) else {
            unreachable!()
        };
        lanes.set_mode(Mode::Shadow);
        capture.assert_gauge("gateway_lane_queued", CORE, 0.0);
        drop((first, waiting));
        capture.assert_gauge("gateway_lane_in_flight", CORE, 0.0);
    });
}

#[test]
fn a_limit_that_is_found_is_shown_as_it_moves() {
    use gw_bulkhead::limit::{Aimd, Limit, Outcome};

    let limit = Limit::adaptive(Aimd::default()).min(1).max(100).initial(1);
    let lanes = Lanes::new(limit, [LaneConfig::new("core")]).unwrap();
    let core = lanes.find("core").unwrap();
    let capture = MetricsCapture::new();
    capture.run(|| {
        let permit = lanes.try_admit(core).unwrap();
        capture.assert_gauge("gateway_lane_limit", CORE, 1.0);
        let later = Instant::now() + Duration::from_secs(1);
        for _ in 0..10 {
            lanes.record(
                core,
                later - Duration::from_millis(5),
                later,
                Outcome::Answered,
            );
        }
        capture.assert_gauge("gateway_lane_limit", CORE, 2.0);
        drop(permit);
    });
}

#[cfg(feature = "threads")]
#[tokio::test]
async fn the_span_crosses_to_the_lanes_thread() {
    use gw_bulkhead::BulkheadLayer;
    use tracing::Instrument as _;

    // The lane's thread is outside of any scope, so this one is for the whole process.
    tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap();
    let layer = BulkheadLayer::builder(places(1))
        .lane(LaneConfig::new("core").threads(1))
        .with_threads();
    let layer = layer.build().unwrap();
    let mut service = layer.layer(tower::service_fn(|_: Request<()>| async {
        let name = tracing::Span::current().metadata().map(|span| span.name());
        Ok::<_, Infallible>(Response::new(Body::from(name.unwrap_or("none"))))
    }));
    let answer = async { call(&mut service, request()).await.await.unwrap() };
    let body = answer
        .instrument(tracing::info_span!("of the caller"))
        .await
        .into_body();
    let text = http_body_util::BodyExt::collect(body)
        .await
        .unwrap()
        .to_bytes();
    assert_eq!(text, "of the caller");
}
