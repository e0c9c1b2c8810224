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
