//! Whom an attempt waits for: its upstream, or somebody else.

use gw_core::awaited::Awaited;
use gw_pipeline::upstream::PoolConfig;
use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use gw_testkit::upstream::{At, Reply, Upstream, always};
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::*;

/// Story: a request that had waited long for a place, in the gateway's own queue, seemed to have waited for the upstream. So
/// breakers opened, and endpoints were ejected, because the gateway was busy.
#[tokio::test]
async fn the_queue_for_a_slot_is_no_wait_for_the_upstream() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let one = PoolConfig::new().max_connections(1);
    let orders = pooled(&upstream, one);
    let forward = forward(&orders);
    let told = || {
        let mut request = get("/");
        let awaited = Awaited::new(Instant::now());
        request.extensions_mut().insert(awaited.clone());
        (awaited, tokio::spawn(forward.clone().oneshot(request)))
    };
    let (first, first_answer) = told();
    gate.reached(1).await;
    assert!(first.since().is_some());
    let (second, second_answer) = told();
    until("the second to be queued", &orders, |it| {
        it.snapshot().queued == 1
    })
    .await;
    assert_eq!(second.since(), None);
    gate.open();
    for answer in [first_answer, second_answer] {
        let answer = answer.await.unwrap().unwrap();
        text(answer).await;
    }
    assert!(second.since() > first.since());
}

/// Story: a client that sent its request slowly made the upstream look slow.
#[tokio::test]
async fn the_client_is_not_the_upstream() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let forward = forward(&plain(&upstream));
    let (body, control) = ScriptedBody::script().data("a").hold().data("b").build();
    let mut request = post(body);
    let begun = Instant::now();
    let awaited = Awaited::new(begun);
    request.extensions_mut().insert(awaited.clone());
    let answer = tokio::spawn(forward.clone().oneshot(request));
    control.held().await;
    assert_eq!(awaited.since(), None);
    let resumed = Instant::now();
    control.resume();
    gate.reached(1).await;
    assert!(awaited.since().unwrap() >= resumed);
    gate.open();
    assert_eq!(answer.await.unwrap().unwrap().status(), 200);
}
