//! What is counted, and what the gauges say.

use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::context::Attempt;
use gw_core::record::Record;
use gw_pipeline::upstream::{ErrorKind, PoolConfig, describe};
use gw_testkit::metrics_capture::MetricsCapture;
use gw_testkit::upstream::{At, Reply, Upstream, always, by_path};
use gw_testkit::{Gate, PATIENCE};
use http_body_util::BodyExt as _;

use crate::support::*;

fn labels<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut labels = vec![("upstream", NAME)];
    labels.extend(pairs);
    labels
}

#[tokio::test]
async fn requests_are_counted_by_outcome_and_gauges_on_demand() {
    let gate = Gate::new();
    let replies = [
        ("/ok", Reply::ok().body("ok")),
        ("/held", Reply::ok().hold(At::Start, &gate)),
        ("/broken", Reply::ok().reset(At::Start)),
        ("/stalled", Reply::ok().stall(At::Start)),
    ];
    let upstream = Upstream::start(by_path(replies, Reply::status(404))).await;
    let pool = PoolConfig::new().max_connections(1);
    let gateway = pooled(&upstream, pool);
    let forward = forward(&gateway);
    // Installed after the upstream was built.
    let capture = MetricsCapture::new();
    capture.run(describe);
    let sending = async {
        for path in ["/ok", "/ok", "/404"] {
            fetch(&forward, get(path)).await;
        }
        gateway.record_gauges();
        let gauge = |state, is| {
            let labels = labels(&[("state", state)]);
            capture.assert_gauge("gateway_upstream_connections", &labels, is);
        };
        gauge("idle", 1.0);
        gauge("active", 0.0);
        let mut held = Box::pin(send(&forward, get("/held")));
        let mut queued = Box::pin(send(&forward, get("/ok")));
        tokio::select! {
            biased;
            _ = &mut held => panic!("the gate is closed"),
            _ = &mut queued => panic!("there is one slot"),
            () = upstream.arrived(4) => {}
        }
        gateway.record_gauges();
        gauge("idle", 0.0);
        gauge("active", 1.0);
        capture.assert_gauge("gateway_upstream_pending_requests", &labels(&[]), 1.0);
        capture.assert_gauge("gateway_upgraded_streams", &labels(&[]), 0.0);
        drop((held, queued));
        refused(&forward, get("/broken")).await;
        let record = Record::default();
        record.update(|exchange| exchange.attempts = 1);
        let mut retried = get("/stalled");
        retried.extensions_mut().insert(record);
        // Before the test's patience ends.
        let hasty = PATIENT.attempt(PATIENCE / 2);
        retried.extensions_mut().insert(hasty);
        let arrived = upstream.requests().len();
        let mut stalled = Box::pin(refused(&forward, retried));
        tokio::select! {
            biased;
            _ = &mut stalled => panic!("there is no answer"),
            () = upstream.arrived(arrived + 1) => {}
        }
        // All that is left to come is the end of the time.
        tokio::time::pause();
        stalled.await;
        tokio::time::resume();
    };
    capture.scope(sending).await;
    for (outcome, attempt, count) in [
        ("answered", "1", 3),
        ("cancelled", "1", 2),
        ("invalid_answer", "1", 1),
        ("attempt_timeout", "2", 1),
    ] {
        let labels = labels(&[("outcome", outcome), ("attempt", attempt)]);
        capture.assert_counter("gateway_upstream_requests_total", &labels, count);
    }
    assert_eq!(capture.counter_sum("gateway_upstream_requests_total"), 7);
    for series in capture.series() {
        let described = capture.description(&series.name);
        assert!(described.is_some(), "{}", series.name);
    }
}

/// The client only sees that the answer breaks off.
#[tokio::test]
async fn an_answer_that_is_cut_is_counted_by_its_timer_and_the_record_says_which() {
    let reply = Reply::ok().body("0123").stall(At::Body(2));
    let upstream = Upstream::start(by_path([("/", reply)], Reply::status(404))).await;
    let gateway = plain(&upstream);
    let capture = MetricsCapture::new();
    capture.run(describe);
    let record = Record::default();
    let mut request = get("/");
    request.extensions_mut().insert(record.clone());
    request
        .extensions_mut()
        .insert(PATIENT.idle(Duration::from_millis(20)));
    let cut = async {
        let answer = send(&forward(&gateway), request).await.unwrap();
        answer.into_body().collect().await.unwrap_err()
    };
    assert_eq!(capture.scope(cut).await.kind(), ErrorKind::IdleTimeout);
    let series = "gateway_upstream_answers_cut_total";
    capture.assert_counter(series, &labels(&[("reason", "idle_timeout")]), 1);
    assert!(capture.description(series).is_some());
    let noted = record.exchange();
    assert_eq!(noted.refused_by, Some("forward"));
    assert_eq!(noted.code.unwrap().name(), "GATEWAY_TIMEOUT");
    assert_eq!(noted.cause, Some("idle_timeout"));
}

/// Story: without an observer, retries were counted as first attempts.
#[tokio::test]
async fn an_attempt_has_its_number_without_a_record() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let forward = forward(&plain(&upstream));
    let capture = MetricsCapture::new();
    let sending = async {
        for (attempt, recorded) in [(1, None), (2, None), (3, Some(1)), (2, Some(2))] {
            let mut request = get("/");
            let extensions = request.extensions_mut();
            extensions.insert(Attempt(NonZeroU32::new(attempt).unwrap()));
            if let Some(attempts) = recorded {
                let record = Record::default();
                record.update(|exchange| exchange.attempts = attempts);
                extensions.insert(record);
            }
            fetch(&forward, request).await;
        }
    };
    capture.scope(sending).await;
    for (attempt, count) in [("1", 1), ("2", 1), ("3+", 2)] {
        let labels = labels(&[("outcome", "answered"), ("attempt", attempt)]);
        capture.assert_counter("gateway_upstream_requests_total", &labels, count);
    }
}
