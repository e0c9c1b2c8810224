//! The layer in a typed pipeline: it fits where its keys are available. That it does not fit elsewhere is asserted
//! at compile time as well.

use gw_core::stage::{FactSet, NoFacts, Stage};
use gw_ratelimit::RateLimitLayer;
use gw_ratelimit::key::{ClientIp, Consumer, Global, Header, Route};
use static_assertions::{assert_impl_all, assert_not_impl_any, assert_type_eq_all};

type WithClient = <NoFacts as FactSet>::WithClientAddr;
type WithRoute = <NoFacts as FactSet>::WithRoute;
type All = <<WithClient as FactSet>::WithRoute as FactSet>::WithIdentity;

type Anywhere = RateLimitLayer<(Global, (Header, ()))>;
type ByAddress = RateLimitLayer<(ClientIp, ())>;
type ByConsumer = RateLimitLayer<(Global, (Consumer, (ClientIp, ())))>;
type ByRouteAndAddress = RateLimitLayer<((Route, ClientIp), ())>;

assert_impl_all!(Anywhere: Stage<NoFacts>, Stage<All>);
assert_impl_all!(ByAddress: Stage<WithClient>, Stage<All>);
assert_impl_all!(ByConsumer: Stage<All>);
assert_impl_all!(ByRouteAndAddress: Stage<All>);

assert_not_impl_any!(ByAddress: Stage<NoFacts>, Stage<WithRoute>);
assert_not_impl_any!(ByConsumer: Stage<NoFacts>, Stage<WithClient>);
assert_not_impl_any!(ByRouteAndAddress: Stage<WithRoute>, Stage<WithClient>);

assert_type_eq_all!(<ByAddress as Stage<WithClient>>::Facts, WithClient);

#[test]
fn the_list_of_keys_is_inferred() {
    fn stage<F: FactSet, S: Stage<F>>(stage: S) -> S::Layer {
        stage.into_layer()
    }
    use gw_ratelimit::{Policy, Quota};
    let layer = RateLimitLayer::builder()
        .policy(Policy::new("ip", Quota::per_second(1)).key(ClientIp::new()))
        .policy(Policy::new("who", Quota::per_second(1)).key((Consumer, Route)))
        .build();
    assert!(layer.map(stage::<All, _>).is_ok());
}

/// Two limits in one pipeline refuse under two names.
#[tokio::test]
async fn the_observer_is_told_the_slot() {
    use gw_core::record::Record;
    use gw_ratelimit::{Policy, Quota};
    use http::{Request, Response};
    use tower::{Layer as _, ServiceExt as _, service_fn};

    for slot in ["pre_auth_limit", "post_auth_limit"] {
        let none = Policy::new("ip", Quota::per_hour(1)).key(ClientIp::new());
        let layer = RateLimitLayer::builder().policy(none).build().unwrap();
        let layer = Stage::<All>::into_layer_in(layer, slot);
        let service = layer.layer(service_fn(async |_: Request<()>| {
            Ok::<_, std::convert::Infallible>(Response::new(gw_core::Body::empty()))
        }));
        let record = Record::default();
        for _ in 0..2 {
            let mut request = Request::new(());
            let client = gw_core::context::ClientAddr::new([192, 0, 2, 1].into());
            request.extensions_mut().insert(client);
            request.extensions_mut().insert(record.clone());
            service.clone().oneshot(request).await.unwrap();
        }
        assert_eq!(record.exchange().refused_by, Some(slot));
    }
}
