use std::future::poll_fn;
use std::task::Poll;

use gw_core::Rejection;
use tower_layer::Layer;

use super::bodies::AnyBody;
use super::limit::ready;
use super::subject::{Admits, FAILED, Inner, Layered, apply, inner, request};
use crate::patience::within;

/// The layer is pending while the inner service is, is woken with it, and never calls one that was not ready or has failed.
pub async fn forwards_readiness<L, B, S, Q>(layer: L, _: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + Clone + Send + 'static,
{
    let (service, handle) = inner::<B, Q>();
    handle.set_not_ready();
    let mut layered = apply::<L, B, Q>(&layer, &service);
    // Several polls are allowed, and none of them reserves anything.
    for _ in 0..3 {
        let pending = poll_fn(|cx| Poll::Ready(layered.poll_ready(cx).is_pending()));
        assert!(pending.await, "the layer is ready before the inner service");
    }
    let waiting = tokio::spawn(async move {
        ready(&mut layered).await;
        layered
    });
    tokio::task::yield_now().await;
    handle.set_ready();
    let mut layered = within("the layer to be woken", waiting)
        .await
        .expect("no panic");

    // The clone was not polled ready, and must not be what is called.
    let _clone = layered.clone();
    let call = tokio::spawn(layered.call(request()));
    handle.flying(1).await;
    assert!(handle.violations().is_empty(), "{:?}", handle.violations());
    call.abort();
    passes_on_failed_readiness::<L, B, S, Q>(&layer).await;
}

/// Who waits for an inner service that fails instead of getting ready hears of it. A layer that answers errors may say that it is
/// ready, and answer this one when it is called.
async fn passes_on_failed_readiness<L, B, S, Q>(layer: &L)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + Send + 'static,
{
    let (service, handle) = inner::<B, Q>();
    handle.set_not_ready();
    let mut layered = apply::<L, B, Q>(layer, &service);
    let waiting = tokio::spawn(async move {
        let ready = poll_fn(|cx| layered.poll_ready(cx)).await;
        ready.map(|()| layered)
    });
    tokio::task::yield_now().await;
    handle.fail_ready(|| Rejection::new(&FAILED));
    let waiting = within("what the layer makes of failed readiness", waiting);
    if let Ok(mut layered) = waiting.await.expect("no panic") {
        drop(within("the layer's answer", layered.call(request())).await);
    }
    assert_eq!(
        handle.calls(),
        0,
        "a service is called that has failed to get ready"
    );
}

/// Services that are ready and idle, as those of open connections are, use up nothing of the limit.
pub async fn holds_nothing_when_idle<L, B, S, Q>(layer: L, admits: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let (service, handle) = inner::<B, Q>();
    let mut idle = Vec::new();
    for _ in 0..16 {
        let mut layered = apply::<L, B, Q>(&layer, &service);
        ready(&mut layered).await;
        idle.push(layered);
    }
    let admitted = admits.of(4);
    let mut calls = Vec::new();
    for _ in 0..admitted {
        let mut layered = apply::<L, B, Q>(&layer, &service);
        ready(&mut layered).await;
        calls.push(tokio::spawn(layered.call(request())));
    }
    handle.flying(admitted).await;
    calls.iter().for_each(|call| call.abort());
}

/// The auto traits that servers ask for; checked by the compiler.
pub async fn is_send_and_clone<L, B, S, Q>(layer: L, _: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S> + Clone + Send + Sync + 'static,
    S: Layered + Clone + Send + Sync + 'static,
{
    let (service, _) = inner::<B, Q>();
    let _clone = apply::<L, B, Q>(&layer.clone(), &service).clone();
}
