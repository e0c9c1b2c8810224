//! Connections that were used before and close as the next request comes.

use std::time::Duration;

use gw_core::attempt::Failure;
use gw_pipeline::upstream::{ErrorKind, PoolConfig};
use gw_testkit::Gate;
use gw_testkit::upstream::{At, Received, Reply, Upstream};
use http::HeaderValue;
use tokio::time::Instant;
use tower::ServiceExt as _;

use crate::support::*;

/// An upstream whose connections answer so many requests, and do this to all that follow.
async fn after(answered: usize, reply: Reply) -> Upstream {
    Upstream::start(
        move |request: &Received| match request.on_connection < answered {
            true => Reply::ok().body("done"),
            false => reply.clone(),
        },
    )
    .await
}

/// Method, target and fields, as they came.
fn heads(upstream: &Upstream) -> Vec<String> {
    let received = upstream.requests().into_iter();
    let head = |it: Received| format!("{} {} {:?}", it.method, it.target, it.headers);
    received.map(head).collect()
}

/// Which connections the requests came on.
fn connections(upstream: &Upstream) -> Vec<usize> {
    upstream.requests().iter().map(|it| it.connection).collect()
}

/// Story: an upstream closed a connection that had been idle just as the next request was written to it. Clients got 502 for a
/// page, from an upstream that was well.
#[tokio::test]
async fn what_is_safe_is_sent_again_on_a_new_connection() {
    for reply in [Reply::ok().cut(At::Start), Reply::ok().reset(At::Start)] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let upstream = after(1, reply.clone()).await;
            let gateway = plain(&upstream);
            let forward = forward(&gateway);
            fetch(&forward, get("/")).await;
            let mut sent = request(method, "/a%2Fb?x=%20&y", "");
            for odd in [&b"\xe4 \""[..], b"2", b""] {
                let odd = HeaderValue::from_bytes(odd).unwrap();
                sent.headers_mut().append("x-odd", odd);
            }
            assert_eq!(fetch(&forward, sent).await.0, 200, "{method}");
            assert_eq!(connections(&upstream), [0, 0, 1]);
            let heads = heads(&upstream);
            assert_eq!(heads[1], heads[2]);
            assert!(heads[1].starts_with(&format!("{method} /a%2Fb?x=%20&y ")));
            assert_eq!(gateway.snapshot().in_flight, 0);
        }
    }
}

/// Story: a head of more than 8 KiB was not kept, so that a client with many cookies got the 502.
#[tokio::test]
async fn a_long_head_is_sent_again_as_well() {
    let upstream = after(2, Reply::ok().cut(At::Start)).await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    let long = || {
        let mut sent = request("GET", "/", "");
        let cookie = HeaderValue::try_from("y".repeat(32 * 1024)).unwrap();
        sent.headers_mut().insert("cookie", cookie);
        sent
    };
    for sent in [get("/"), long(), long(), get("/"), get("/"), long()] {
        assert_eq!(fetch(&forward, sent).await.0, 200);
    }
    assert_eq!(connections(&upstream), [0, 0, 0, 1, 1, 1, 2, 2]);
    let heads = heads(&upstream);
    assert_eq!(heads[2], heads[3]);
    assert_eq!(heads[5], heads[6]);
}

#[tokio::test]
async fn what_is_not_safe_is_sent_once() {
    let bare = ["POST", "PUT", "DELETE", "PATCH", "PURGE"].map(|method| request(method, "/", ""));
    let with_body = ["POST", "GET"].map(|method| request(method, "/", "some data"));
    for sent in bare.into_iter().chain(with_body) {
        let name = sent.method().clone();
        let upstream = after(2, Reply::ok().reset(At::Start)).await;
        let gateway = plain(&upstream);
        let forward = forward(&gateway);
        // The second of these might have been sent again, and must not be in the place of what follows.
        for path in ["/1", "/2"] {
            fetch(&forward, get(path)).await;
        }
        let refusal = refused(&forward, sent).await;
        assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Answer), "{name}");
        assert_eq!(connections(&upstream), [0, 0, 0], "{name}");
        is_quiet(&gateway).await;
    }
}

#[tokio::test]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    for reply in [
        Reply::ok().cut(At::Head(1)),
        Reply::ok().reset(At::Head(12)),
        Reply::ok()
            .interims(1, 103, [("link", "</a>")])
            .cut(At::Start),
        Reply::raw("no answer"),
    ] {
        let upstream = after(1, reply).await;
        let gateway = plain(&upstream);
        let forward = forward(&gateway);
        fetch(&forward, get("/")).await;
        let refusal = refused(&forward, get("/")).await;
        assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Answer));
        assert_eq!(connections(&upstream), [0, 0]);
        is_quiet(&gateway).await;
    }
}

#[tokio::test]
async fn it_is_sent_once_more_at_most() {
    let upstream = Upstream::start(|request: &Received| match request.index {
        0 => Reply::ok(),
        _ => Reply::ok().cut(At::Start),
    })
    .await;
    let gateway = plain(&upstream);
    let forward = forward(&gateway);
    fetch(&forward, get("/")).await;
    let refusal = refused(&forward, get("/")).await;
    assert_eq!(refusal, ("BAD_GATEWAY", ErrorKind::Answer));
    assert_eq!(connections(&upstream), [0, 0, 1]);
    is_quiet(&gateway).await;
}

/// An upstream that goes away closes all of its connections: there would be no end of it.
#[tokio::test]
async fn no_other_idle_connection_is_tried() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |request: &Received| match request.on_connection {
        0 => Reply::ok().hold(At::Start, &held),
        _ => Reply::ok().cut(At::Start),
    })
    .await;
    let pool = PoolConfig::new().max_connections(2);
    let gateway = pooled(&upstream, pool);
    let forward = forward(&gateway);
    let both = [1, 2].map(|_| {
        let forward = forward.clone();
        tokio::spawn(async move { fetch(&forward, get("/")).await })
    });
    gate.reached(2).await;
    gate.open();
    for answered in both {
        assert_eq!(answered.await.unwrap().0, 200);
    }
    assert_eq!(gateway.snapshot().idle_connections, 2);
    assert_eq!(fetch(&forward, get("/")).await.0, 200);
    // There was room for the new one only after the other idle one was closed, or the one that was lost.
    let used = connections(&upstream);
    assert_eq!((used.len(), used[3]), (4, 2));
    assert_eq!(upstream.connections().peak, 2);
}

#[tokio::test]
async fn both_are_one_attempt() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |request: &Received| match request.index {
        0 => Reply::ok().hold(At::Start, &held),
        1 => Reply::ok().cut(At::Start),
        _ => Reply::ok().stall(At::Start),
    })
    .await;
    let pool = PoolConfig::new()
        .max_connections(1)
        .queue_timeout(10 * HOUR);
    let gateway = pooled(&upstream, pool);
    let sending = forward(&gateway);
    let mut before = get("/");
    before.extensions_mut().insert(PATIENT);
    let before = tokio::spawn(sending.clone().oneshot(before));
    gate.reached(1).await;
    let mut request = get("/");
    request.extensions_mut().insert(PATIENT.attempt(HOUR));
    let start = Instant::now();
    let answer = tokio::spawn(sending.oneshot(request));
    until("a request to wait", &gateway, |it| {
        it.snapshot().queued == 1
    })
    .await;
    pass(HOUR / 2).await;
    gate.open();
    assert_eq!(text(before.await.unwrap().unwrap()).await, "");
    upstream.arrived(3).await;
    assert_eq!(connections(&upstream), [0, 0, 1]);
    let rejection = in_time(answer).await.unwrap().unwrap_err();
    assert_eq!(kind(&rejection), ErrorKind::AttemptTimeout);
    let took = start.elapsed();
    assert!(took >= HOUR && took < HOUR + HOUR / 10, "{took:?}");
    is_quiet(&gateway).await;
}

/// Story: an upstream killed its workers at their own time limit, which closed their connections without a byte. Each dear page
/// was asked for twice, and no budget knew.
#[tokio::test]
async fn what_is_lost_late_is_sent_once() {
    let gate = Gate::new();
    let upstream = after(1, Reply::ok().hold(At::Start, &gate).cut(At::Start)).await;
    let gateway = plain(&upstream);
    let sending = forward(&gateway);
    fetch(&sending, get("/")).await;
    let mut request = get("/");
    request.extensions_mut().insert(PATIENT);
    let answer = tokio::spawn(sending.oneshot(request));
    gate.reached(1).await;
    pass(Duration::from_secs(2)).await;
    gate.open();
    let rejection = answer.await.unwrap().unwrap_err();
    assert_eq!(rejection.code().name(), "BAD_GATEWAY");
    assert_eq!(kind(&rejection), ErrorKind::Answer);
    assert_eq!(connections(&upstream), [0, 0]);
    is_quiet(&gateway).await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_made_does_not_say_that_nothing_was_sent() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::start(move |request: &Received| match request.index {
        0 => Reply::ok(),
        _ => Reply::ok().hold(At::Start, &held),
    })
    .await;
    let gateway = plain(&upstream);
    let sending = forward(&gateway);
    fetch(&sending, get("/")).await;
    let answer = tokio::spawn(async move { send(&sending, get("/")).await });
    gate.reached(1).await;
    upstream.stop().await;
    let rejection = answer.await.unwrap().unwrap_err();
    assert_eq!(kind(&rejection), ErrorKind::Answer);
    assert_eq!(rejection.failure(), Failure::Unknown);
    is_quiet(&gateway).await;
}
