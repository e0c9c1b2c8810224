use tokio::task::JoinSet;
use tower_layer::Layer;

use super::bodies::AnyBody;
use super::subject::{Admits, Inner, Layered, answered, apply, inner, is_refusal, request};
use crate::patience::within;

const APPLICATIONS: usize = 16;

/// One request through each of sixteen applications of the layer: exactly as many reach the inner service as one
/// application would let pass.
pub async fn sixteen_layers_share_one_limit<L, B, S, Q>(layer: L, admits: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let (service, handle) = inner::<B, Q>();
    let mut calls = JoinSet::new();
    for _ in 0..APPLICATIONS {
        let mut layered = apply::<L, B, Q>(&layer, &service);
        ready(&mut layered).await;
        calls.spawn(layered.call(request()));
    }
    let admitted = admits.of(APPLICATIONS);
    handle.flying(admitted).await;
    let refused = ended(&mut calls, APPLICATIONS - admitted);
    for result in within("the refused calls", refused).await {
        assert!(
            is_refusal(&answered(result)),
            "what is not admitted is refused"
        );
    }
    assert_eq!(handle.peak_in_flight(), admitted);
    assert_eq!(handle.calls(), admitted);
    assert!(handle.violations().is_empty(), "{:?}", handle.violations());
}

/// A refused request does not reach the inner service, and is answered while the service still works on others.
pub async fn touches_nothing_when_it_refuses<L, B, S, Q>(layer: L, admits: Admits)
where
    B: AnyBody,
    Q: Send + 'static,
    L: Layer<Inner<B, Q>, Service = S>,
    S: Layered + 'static,
{
    let (service, handle) = inner::<B, Q>();
    let limit = match admits {
        Admits::All => return,
        Admits::InFlight(limit) | Admits::Total(limit) => limit,
    };
    let mut flying = Vec::new();
    for _ in 0..limit {
        let mut layered = apply::<L, B, Q>(&layer, &service);
        ready(&mut layered).await;
        flying.push(tokio::spawn(layered.call(request())));
    }
    handle.flying(limit).await;
    for _ in 0..3 {
        let mut layered = apply::<L, B, Q>(&layer, &service);
        ready(&mut layered).await;
        let answer = answered(within("a refusal", layered.call(request())).await);
        assert!(is_refusal(&answer), "the limit is used up");
    }
    assert_eq!(handle.calls(), limit, "a refused request is not passed on");
    flying.iter().for_each(|call| call.abort());
}

/// Polls the service until it is ready.
pub(super) async fn ready<S: Layered>(service: &mut S) {
    let ready = std::future::poll_fn(|cx| service.poll_ready(cx));
    assert!(
        within("the layer to be ready", ready).await.is_ok(),
        "the layer fails although the inner service is ready"
    );
}

/// What `count` of the tasks end with, those that end first.
pub(super) async fn ended<T: 'static>(tasks: &mut JoinSet<T>, count: usize) -> Vec<T> {
    let mut results = Vec::new();
    while results.len() < count {
        let ended = tasks.join_next().await.expect("as many tasks");
        results.push(ended.expect("no panic"));
    }
    results
}
