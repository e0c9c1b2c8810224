//! The cap, the queue, and what happens to connections between requests.

use std::num::NonZeroU32;
use std::time::Duration;

use gw_core::context::{Attempt, Deadline, UpstreamName};
use gw_core::record::Record;
use gw_pipeline::upstream::{ErrorKind, PoolConfig};
use gw_testkit::Gate;
use gw_testkit::body::ScriptedBody;
use gw_testkit::upstream::{At, Progress, ReadBody, Reply, Upstream, always, in_order};
use http_body::SizeHint;
use http_body_util::BodyExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::*;

fn cap(max_connections: usize, queue: usize) -> PoolConfig {
    PoolConfig::new()
        .max_connections(max_connections)
        .queue(queue)
        .queue_timeout(Duration::from_secs(10))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cap_is_exact_under_load() {
    let gate = Gate::new();
    let held = Reply::ok().body("done").hold(At::Start, &gate);
    let upstream = Upstream::start(always(held)).await;
    let gateway = pooled(&upstream, cap(8, 200));
    let mut clients = JoinSet::new();
    for _ in 0..200 {
        let forward = forward(&gateway);
        clients.spawn(async move { fetch(&forward, get("/")).await });
    }
    gate.reached(8).await;
    until("the others to queue", &gateway, |it| {
        it.snapshot().queued == 192
    })
    .await;
    let snapshot = gateway.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.open_connections), (8, 8));
    // Without the feature `metrics` as well: callers have no `cfg`.
    gateway.record_gauges();
    assert_eq!(upstream.in_flight(), 8);
    gate.open();
    while let Some(answered) = clients.join_next().await {
        assert_eq!(answered.unwrap(), (200, "done".to_owned()));
    }
    // The upstream is the judge: never more than eight, and each connection served all the way through.
    assert_eq!(upstream.peak_in_flight(), 8);
    assert_eq!(upstream.connections().peak, 8);
    assert_eq!(upstream.connections().total, 8);
    let snapshot = gateway.snapshot();
    assert_eq!((snapshot.in_flight, snapshot.queued), (0, 0));
    assert_eq!(snapshot.name, UpstreamName::new(NAME));
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let gateway = pooled(&upstream, cap(1, 1));
    let forward = forward(&gateway);
    let first = tokio::spawn({
        let forward = forward.clone();
        async move { fetch(&forward, get("/first")).await }
    });
    gate.reached(1).await;
    let second = tokio::spawn({
        let forward = forward.clone();
        async move { fetch(&forward, get("/second")).await }
    });
    until("the second to queue", &gateway, |it| {
        it.snapshot().queued == 1
    })
    .await;
    let rejection = send(&forward, get("/third")).await.unwrap_err();
    assert_eq!(
        (rejection.code().name(), kind(&rejection)),
        ("OVERLOADED", ErrorKind::QueueFull)
    );
    let wait = rejection.retry_after_hint().unwrap().seconds();
    assert!((1..=2).contains(&wait), "{wait}");
    gate.open();
    assert_eq!(first.await.unwrap().0, 200);
    assert_eq!(second.await.unwrap().0, 200);
    let paths: Vec<_> = upstream
        .requests()
        .iter()
        .map(|it| it.target.clone())
        .collect();
    assert_eq!(paths, ["/first", "/second"]);
}

/// Story: it was looked up before the wait for a slot where the first copy is, which had none by then either.
#[tokio::test]
async fn a_second_copy_that_waited_goes_to_another_endpoint_than_the_first() {
    let gate = Gate::new();
    let held = || always(Reply::ok().hold(At::Start, &gate));
    let endpoints = [Upstream::start(held()).await, Upstream::start(held()).await];
    let second = format!("http://{}", endpoints[1].addr()).parse().unwrap();
    let gateway = builder(endpoints[0].addr()).endpoint(second);
    let gateway = gateway.pool(cap(1, 3)).build().unwrap();
    let record = Record::default();
    let mut clients = JoinSet::new();
    // Another request has the turn in between.
    for (queued, target) in ["/holding", "/first", "/other", "/second"]
        .iter()
        .enumerate()
    {
        let mut request = get(target);
        if ["/first", "/second"].contains(target) {
            request.extensions_mut().insert(record.clone());
        }
        if *target == "/second" {
            let number = NonZeroU32::MIN.saturating_add(1);
            request.extensions_mut().insert(Attempt(number));
        }
        let forward = forward(&gateway);
        clients.spawn(async move { fetch(&forward, request).await });
        until("it to wait", &gateway, |it| {
            let snapshot = it.snapshot();
            (snapshot.in_flight, snapshot.queued) == (1, queued)
        })
        .await;
    }
    gate.open();
    while let Some(answered) = clients.join_next().await {
        assert_eq!(answered.unwrap().0, 200);
    }
    let requests = endpoints.each_ref().map(Upstream::requests);
    let had = |target| {
        requests
            .each_ref()
            .map(|it| it.iter().any(|it| it.target == target))
    };
    assert_ne!(had("/first"), had("/second"));
}

#[tokio::test]
async fn the_queue_has_a_time_limit_and_is_not_the_upstreams_fault() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let pool = cap(1, 8).queue_timeout(Duration::from_millis(20));
    let gateway = pooled(&upstream, pool);
    let forward = forward(&gateway);
    let record = Record::default();
    let holding = tokio::spawn({
        let forward = forward.clone();
        async move { send(&forward, get("/")).await }
    });
    upstream.arrived(1).await;
    let mut queued = get("/");
    queued.extensions_mut().insert(record.clone());
    assert_eq!(
        refused(&forward, queued).await,
        ("OVERLOADED", ErrorKind::QueueTimeout)
    );
    assert_eq!(record.exchange().attempts, 0);
    assert_eq!(record.exchange().upstream, Some(UpstreamName::new(NAME)));
    assert_eq!(upstream.requests().len(), 1);
    holding.abort();
}

#[tokio::test]
async fn a_deadline_that_passes_in_the_queue_is_a_timeout() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let pool = cap(1, 8).queue_timeout(10 * HOUR);
    let gateway = pooled(&upstream, pool);
    let forward = forward(&gateway);
    let mut first = get("/");
    first.extensions_mut().insert(PATIENT);
    let holding = tokio::spawn(forward.clone().oneshot(first));
    upstream.arrived(1).await;
    let mut hurried = get("/");
    let deadline = Deadline::after(Instant::now(), HOUR).unwrap();
    hurried.extensions_mut().insert(deadline);
    hurried.extensions_mut().insert(PATIENT);
    let rejection = in_time(forward.oneshot(hurried)).await.unwrap_err();
    assert_eq!(
        (rejection.code().name(), kind(&rejection)),
        ("GATEWAY_TIMEOUT", ErrorKind::QueueDeadline)
    );
    assert_eq!(upstream.requests().len(), 1);
    holding.abort();
}

#[tokio::test]
async fn a_client_that_leaves_gives_everything_back_and_stops_the_upstream() {
    let upstream = Upstream::start(always(Reply::ok().stall(At::Start))).await;
    let gateway = pooled(&upstream, cap(1, 8));
    let forward = forward(&gateway);
    let holding = tokio::spawn({
        let forward = forward.clone();
        async move { send(&forward, get("/")).await }
    });
    upstream.arrived(1).await;
    let queued = tokio::spawn({
        let forward = forward.clone();
        async move { send(&forward, get("/")).await }
    });
    until("the second to queue", &gateway, |it| {
        it.snapshot().queued == 1
    })
    .await;
    queued.abort();
    assert!(queued.await.unwrap_err().is_cancelled());
    assert_eq!(gateway.snapshot().queued, 0);
    holding.abort();
    assert!(holding.await.unwrap_err().is_cancelled());
    assert_eq!(gateway.snapshot().in_flight, 0);
    upstream.ended(1).await;
    assert_eq!(upstream.requests()[0].progress, Progress::ClientLeft);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn a_body_that_is_dropped_gives_everything_back() {
    let upstream = Upstream::start(always(Reply::ok().body("0123456789").stall(At::Body(3)))).await;
    let gateway = plain(&upstream);
    let response = send(&forward(&gateway), get("/")).await.unwrap();
    let mut body = Box::pin(response.into_body());
    let frame = body.frame().await.unwrap().unwrap();
    assert_eq!(frame.into_data().unwrap(), "012");
    assert_eq!(gateway.snapshot().in_flight, 1);
    drop(body);
    assert_eq!(gateway.snapshot().in_flight, 0);
    upstream.ended(1).await;
    assert_eq!(upstream.requests()[0].progress, Progress::ClientLeft);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn the_slot_is_free_with_the_last_frame_and_not_before() {
    let gate = Gate::new();
    let reply = Reply::ok().body("0123456789").hold(At::Body(3), &gate);
    let upstream = Upstream::start(always(reply)).await;
    let gateway = plain(&upstream);
    let response = send(&forward(&gateway), get("/")).await.unwrap();
    let mut body = Box::pin(response.into_body());
    body.frame().await.unwrap().unwrap();
    gate.reached(1).await;
    assert_eq!(gateway.snapshot().in_flight, 1);
    assert!(!http_body::Body::is_end_stream(&body));
    gate.open();
    let last = body.frame().await.unwrap().unwrap();
    assert_eq!(last.into_data().unwrap(), "3456789");
    // Not polled again: a server that knows the length would not do that either.
    assert!(http_body::Body::is_end_stream(&body));
    assert_eq!(gateway.snapshot().in_flight, 0);
}

/// Story: requests that an upstream refused before it had read them kept their slots for five seconds, if their clients sent slowly.
/// Fifty a second of one client's took all there are, and everybody else was refused.
#[tokio::test]
async fn a_refused_upload_has_no_slot_that_others_need() {
    let gate = Gate::new();
    let replies = [
        Reply::status(429).read_body(ReadBody::After),
        Reply::ok().hold(At::Start, &gate),
        Reply::status(429).read_body(ReadBody::After),
    ];
    let upstream = Upstream::start(in_order(replies)).await;
    let gateway = pooled(&upstream, cap(2, 0));
    let forward = forward(&gateway);
    let record = Record::default();
    let slow = || {
        let script = ScriptedBody::script().data("abc").hold();
        let (body, handle) = script.claim_size(SizeHint::with_exact(10)).build();
        let mut slow = post(body);
        slow.extensions_mut().insert(record.clone());
        (slow, handle)
    };
    let (request, _client) = slow();
    assert_eq!(fetch(&forward, request).await.0, 429);
    tokio::task::yield_now().await;
    assert_eq!(gateway.snapshot().in_flight, 1);
    // The last slot.
    let holding = tokio::spawn({
        let forward = forward.clone();
        async move { fetch(&forward, get("/")).await }
    });
    gate.reached(1).await;
    assert_eq!(gateway.snapshot().in_flight, 1);
    // Again the last one, from the beginning.
    let (request, _client) = slow();
    assert_eq!(fetch(&forward, request).await.0, 429);
    tokio::task::yield_now().await;
    assert_eq!(gateway.snapshot().in_flight, 1);
    let exchange = record.exchange();
    assert!(exchange.code.is_none() && exchange.cause.is_none());
    gate.open();
    assert_eq!(holding.await.unwrap().0, 200);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let upstream = Upstream::start(always(Reply::ok().chunks(["a", "b"]))).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    for _ in 0..5 {
        assert_eq!(fetch(&forward, get("/")).await, (200, "ab".to_owned()));
    }
    assert_eq!(upstream.connections().total, 1);
    assert_eq!(gateway.snapshot().open_connections, 1);
    drop((forward, gateway));
    // Nothing keeps a connection that nobody can use any more.
    upstream.open_connections(0).await;
}

/// Story: with more clients than connections were kept, each wave of requests closed those that the next one had to make again, at
/// more than twice the cost; and where the upstream's backlog was full, a second went by before the next try.
#[tokio::test]
async fn idle_connections_are_bounded_in_number() {
    let gate = Gate::new();
    let upstream = Upstream::start(always(Reply::ok().hold(At::Start, &gate))).await;
    let gateway = pooled(&upstream, cap(8, 8).max_idle(2));
    for _ in 0..3 {
        let mut clients = JoinSet::new();
        for _ in 0..5 {
            let forward = forward(&gateway);
            clients.spawn(async move { fetch(&forward, get("/")).await });
        }
        gate.reached(5).await;
        assert_eq!(gateway.snapshot().open_connections, 5);
        gate.release(5);
        clients.join_all().await;
    }
    assert_eq!(upstream.connections().total, 5);
    // A while after the last one.
    upstream.open_connections(2).await;
    gate.open();
    let none = pooled(&upstream, cap(8, 8).max_idle(0));
    fetch(&forward(&none), get("/")).await;
    is_quiet(&none).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_time() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let pool = cap(8, 8).idle_timeout(Duration::from_millis(20));
    let gateway = pooled(&upstream, pool);
    fetch(&forward(&gateway), get("/")).await;
    is_quiet(&gateway).await;
    upstream.open_connections(0).await;
    assert_eq!(fetch(&forward(&gateway), get("/")).await.0, 200);
    assert_eq!(upstream.connections().total, 2);
}

#[tokio::test]
async fn endpoints_take_turns() {
    let first = Upstream::start(always(Reply::ok().body("first"))).await;
    let second = Upstream::start(always(Reply::ok().body("second"))).await;
    let both = builder(first.addr())
        .endpoint(second.url().parse().unwrap())
        .build()
        .unwrap();
    let forward = forward(&both);
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.push(fetch(&forward, get("/")).await.1);
    }
    assert_eq!(seen, ["first", "second", "first", "second"]);
    assert_eq!(
        (first.connections().total, second.connections().total),
        (1, 1)
    );
}

/// Story: who found no room for another connection went to the endpoint whose turn it was all the same. With more endpoints than
/// one most requests closed one endpoint's idle connection, and made another one's.
#[tokio::test]
async fn at_the_cap_who_has_the_turn_need_not_have_the_connection() {
    let endpoints = [always(Reply::ok()), always(Reply::ok())];
    let [first, second] = endpoints.map(Upstream::start);
    let (first, second) = (first.await, second.await);
    let both = builder(first.addr()).endpoint(second.url().parse().unwrap());
    let both = both.pool(cap(1, 1)).build().unwrap();
    for _ in 0..64 {
        fetch(&forward(&both), get("/")).await;
    }
    // One of eight turns that would need another connection gets it: so each has its share.
    let made = [&first, &second].map(|it| it.connections().total);
    assert_eq!(made, [3, 2]);
    let shares = [&first, &second].map(|it| it.requests().len());
    assert_eq!(shares.iter().sum::<usize>(), 64);
    assert!(shares.iter().all(|it| *it >= 24), "{shares:?}");
}

#[tokio::test]
async fn a_request_is_never_sent_twice() {
    for method in ["GET", "POST"] {
        // On a fresh connection, and on one that served a request before.
        let replies = [
            Reply::ok().reset(At::Start),
            Reply::ok(),
            Reply::ok().cut(At::Start),
            Reply::ok(),
        ];
        let upstream = Upstream::start(in_order(replies)).await;
        let gateway = plain(&upstream);
        let forward = forward(&gateway);
        let broken = ("BAD_GATEWAY", ErrorKind::Answer);
        assert_eq!(
            refused(&forward, request(method, "/", "body")).await,
            broken
        );
        assert_eq!(fetch(&forward, get("/")).await.0, 200);
        assert_eq!(
            refused(&forward, request(method, "/", "body")).await,
            broken
        );
        assert_eq!(upstream.requests().len(), 3);
        assert_eq!(upstream.requests()[2].on_connection, 1);
        assert_eq!(gateway.snapshot().in_flight, 0);
    }
}

#[tokio::test]
async fn an_old_upstream_gets_a_connection_per_request() {
    // Once it has seen HTTP/1.0, hyper speaks that too, and cannot send a body of unknown length any more.
    let raw = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    let upstream = Upstream::start(always(Reply::raw(raw).keep_open())).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    for _ in 0..2 {
        assert_eq!(fetch(&forward, get("/")).await, (200, "ok".to_owned()));
    }
    assert_eq!(upstream.connections().total, 2);
    assert_eq!(upstream.requests()[1].minor_version, 1);
}

#[tokio::test]
async fn the_record_tells_who_served_and_how_long_it_took() {
    let upstream = Upstream::start(always(Reply::ok().body("ok"))).await;
    let record = Record::default();
    let mut recorded = get("/");
    recorded.extensions_mut().insert(record.clone());
    fetch(&forward(&plain(&upstream)), recorded).await;
    let exchange = record.exchange();
    assert_eq!(exchange.upstream, Some(UpstreamName::new(NAME)));
    assert_eq!(exchange.attempts, 1);
    assert!(exchange.upstream_time.unwrap() > Duration::ZERO);
}

/// Story: a request that was given up in the queue left the upstream's name beside the endpoint of the one before. The next attempt
/// was to pass over that number, and could be refused on account of it.
#[tokio::test]
async fn the_record_has_no_endpoint_of_another_upstream() {
    let upstream = Upstream::start(always(Reply::ok())).await;
    let record = Record::default();
    record.update(|exchange| {
        exchange.upstream = Some(UpstreamName::new("another"));
        exchange.endpoint = Some(7);
    });
    let mut late = get("/");
    late.extensions_mut().insert(record.clone());
    late.extensions_mut().insert(Deadline::at(Instant::now()));
    refused(&forward(&plain(&upstream)), late).await;
    let exchange = record.exchange();
    assert_eq!(exchange.upstream, Some(UpstreamName::new(NAME)));
    assert_eq!(exchange.endpoint, None);
}
