//! A pipeline as data, and what it lacks.
#![allow(clippy::unwrap_used, reason = "assertions")]

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use gw_core::classify::Outcome;
use gw_core::endpoint::EndpointHealth;
use gw_core::stage::{FactSet, Stage};
use gw_core::{Body, Problem};
use gw_pipeline::inbound::{
    ApiKeys, ApiKeysLayer, IpFilterLayer, RequestIdLayer, Route, RouteResolveLayer, RouteTable,
};
use gw_pipeline::outbound::AnswerLayer;
use gw_pipeline::pipeline::{Plain, StageKind};
use gw_pipeline::upstream::{Forward, PoolConfig, Transport, Upstream, UpstreamBuilder};
use gw_pipeline::{Description, Pipeline, TrustedProxies, plain};
use http::{Request, Response, Uri};
use tokio::time::Instant;
use tower::layer::util::Identity;
use tower::service_fn;

/// A layer from elsewhere.
const ANY: Plain<Identity> = plain(Identity::new());

/// The names of the findings, with the slots that they are about.
fn found(description: &Description) -> Vec<(&'static str, String)> {
    let found = description.lint();
    let names = found.iter().map(|it| (it.name(), it.slots().join("+")));
    names.collect()
}

/// What is expected of [`found`].
fn only(name: &'static str, slots: &str) -> Vec<(&'static str, String)> {
    vec![(name, slots.to_owned())]
}

fn resolve() -> RouteResolveLayer {
    let table = RouteTable::builder().route(Route::prefix("all", "/"));
    RouteResolveLayer::new(table.build().unwrap())
}

fn ip_filter() -> IpFilterLayer {
    IpFilterLayer::new(TrustedProxies::none())
}

fn api_keys() -> ApiKeysLayer {
    ApiKeysLayer::new(ApiKeys::builder().build().unwrap())
}

/// An upstream with so many endpoints.
fn orders(endpoints: u16) -> UpstreamBuilder {
    (1..=endpoints).fold(Upstream::builder("orders"), |builder, port| {
        let endpoint = format!("http://127.0.0.1:{port}");
        builder.endpoint(Uri::try_from(endpoint).unwrap())
    })
}

/// A pipeline that lacks nothing, in front of an upstream.
fn in_front_of<S: Clone>(upstream: Upstream<S>) -> Description {
    let forward = Forward::new([upstream]).unwrap();
    Pipeline::builder()
        .observe(ANY)
        .route_resolve(resolve())
        .admit(ANY)
        .upstreams(forward.describe())
        .forward_keeping_deadline(forward)
        .describe()
        .clone()
}

#[derive(Debug)]
struct AllWell;

impl EndpointHealth for AllWell {
    fn is_usable(&self, _: usize, _: Instant) -> bool {
        true
    }

    fn report(&self, _: usize, _: Outcome, _: Duration, _: Instant) {}
}

async fn answer(_: Request<Body>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::empty()))
}

#[test]
fn every_slot_is_described_in_order() {
    let upstream = orders(2)
        .cache(Identity::new())
        .shadow(Identity::new())
        .retry(Identity::new())
        .hedge(Identity::new())
        .breaker(Identity::new())
        .endpoint_health(Arc::new(AllWell))
        .pool(PoolConfig::new().max_connections(7))
        .build()
        .unwrap();
    let forward: Forward<Transport> = Forward::new([upstream]).unwrap();
    let pipeline = Pipeline::builder()
        .observe(ANY)
        .request_id(RequestIdLayer::new())
        .answer(AnswerLayer::new().on_reject(Problem::new()))
        .route_resolve(resolve())
        .ip_filter(ip_filter())
        .pre_auth_limit(ANY)
        .admit(ANY)
        .authenticate(api_keys())
        .post_auth_limit(ANY)
        .authorize(ANY)
        .validate(ANY)
        .transform(plain(tower::limit::GlobalConcurrencyLimitLayer::new(1)))
        .upstreams(forward.describe())
        .forward_keeping_deadline(forward);
    let expected = "observe: Identity (plain)
request_id: RequestIdLayer
answer: Problem
route_resolve: RouteResolveLayer
ip_filter: IpFilterLayer
pre_auth_limit: Identity (plain)
admit: Identity (plain)
authenticate: ApiKeysLayer
post_auth_limit: Identity (plain)
authorize: Identity (plain)
validate: Identity (plain)
transform: GlobalConcurrencyLimitLayer (plain)
forward: Forward (keeps the deadline itself)
orders: cache Identity, shadow Identity, retry Identity, hedge Identity, breaker Identity, attempt timer, balance over 2 with \
                    endpoint health, pool of 7
";
    assert_eq!(pipeline.describe().to_string(), expected);

    let described = pipeline.describe();
    let admit = described.stage("admit").unwrap();
    assert_eq!(
        (admit.kind(), admit.type_name()),
        (StageKind::Foreign, "tower_layer::identity::Identity")
    );
    assert!(admit.facts().route && admit.facts().client_addr && !admit.facts().identity);
    assert!(described.stage("forward").unwrap().facts().identity);
    assert_eq!(described.stages().len(), 13);
    let upstream = &described.upstreams()[0];
    assert_eq!(upstream.name().as_str(), "orders");
    assert_eq!(upstream.layers().len(), 5);
    assert_eq!((upstream.endpoints(), upstream.max_connections()), (2, 7));
    assert_eq!(found(described), []);
}

#[test]
fn what_is_built_tells_the_same_and_its_clones_allocate_nothing_for_it() {
    let builder = Pipeline::builder().request_id(RequestIdLayer::new());
    let of_stages = builder.describe().clone();
    assert_eq!(builder.into_layer().describe(), &of_stages);

    let builder = Pipeline::builder().forward(service_fn(answer));
    let described = builder.describe().clone();
    let service = builder.build();
    assert_eq!(service.describe(), &described);
    assert_eq!(
        described.to_string(),
        "answer: Respond\nforward: ServiceFn\n"
    );
    let used = allocation_counter::measure(|| drop(service.clone()));
    assert_eq!(used.count_total, 0, "{used:?}");
}

/// A stage of one's own that finds out who calls where nobody expects it.
struct Certificate;

impl<F: FactSet> Stage<F> for Certificate {
    type Facts = F::WithIdentity;
    type Layer = Identity;

    fn into_layer(self) -> Identity {
        Identity::new()
    }
}

#[test]
fn nothing_is_found_in_short_pipelines_that_are_well() {
    let well = Pipeline::builder()
        .observe(ANY)
        .route_resolve(resolve())
        .admit(ANY);
    assert_eq!(found(well.describe()), []);
    let well = well.forward(service_fn(answer));
    assert_eq!(found(well.describe()), []);
    assert_eq!(found(&in_front_of(orders(1).build().unwrap())), []);

    let without_keys = Pipeline::builder()
        .observe(Certificate)
        .admit(ANY)
        .post_auth_limit(ANY)
        .authorize(ANY);
    assert_eq!(found(without_keys.describe()), []);
}

#[test]
fn refusals_that_nobody_logs_are_found() {
    let pipeline = Pipeline::builder().admit(ANY);
    let found_here = pipeline.describe().lint();
    let [unobserved] = &*found_here else {
        panic!("{found_here:?}");
    };
    assert_eq!(
        unobserved.to_string(),
        "unobserved (observe): requests that are refused, or that their clients leave, are in no log and no metric: fill `observe`"
    );
    assert_eq!(unobserved.upstream(), None);
}

/// Story: a slow log endpoint held all places of a gateway, and logins were answered 504.
#[test]
fn routes_that_nothing_isolates_are_found() {
    let pipeline = Pipeline::builder().observe(ANY);
    assert_eq!(found(pipeline.describe()), only("unisolated", "admit"));
}

/// Story: gateways verified tokens before they limited requests, and a flood of bad tokens cost a signature check each.
#[test]
fn credentials_that_nothing_limits_are_found() {
    let pipeline = Pipeline::builder()
        .observe(ANY)
        .admit(ANY)
        .authenticate(api_keys())
        .post_auth_limit(ANY);
    assert_eq!(
        found(pipeline.describe()),
        only("credentials_unlimited", "pre_auth_limit+authenticate")
    );
}

#[test]
fn a_limit_that_knows_no_client_is_found() {
    let pipeline = Pipeline::builder()
        .observe(ANY)
        .pre_auth_limit(ANY)
        .admit(ANY);
    assert_eq!(
        found(pipeline.describe()),
        only("limit_without_client", "ip_filter+pre_auth_limit")
    );
}

#[test]
fn stages_that_ask_who_calls_where_nobody_knows_are_found() {
    let pipeline = || Pipeline::builder().observe(ANY).admit(ANY);
    assert_eq!(
        found(pipeline().post_auth_limit(ANY).describe()),
        only("caller_unknown", "authenticate+post_auth_limit")
    );
    assert_eq!(
        found(pipeline().authorize(ANY).describe()),
        only("caller_unknown", "authenticate+authorize")
    );
}

#[test]
fn layers_that_do_not_give_the_fact_of_their_slot_are_found() {
    let pipeline = Pipeline::builder()
        .observe(ANY)
        .route_resolve(ANY)
        .admit(ANY);
    assert_eq!(
        found(pipeline.describe()),
        only("fact_missing", "route_resolve")
    );
    // A limit and an authorization behind them are not found a second time.
    let pipeline = Pipeline::builder()
        .observe(ANY)
        .ip_filter(ANY)
        .pre_auth_limit(ANY)
        .admit(ANY);
    assert_eq!(
        found(pipeline.describe()),
        only("fact_missing", "ip_filter")
    );
    let pipeline = Pipeline::builder()
        .observe(ANY)
        .ip_filter(ip_filter())
        .pre_auth_limit(ANY)
        .admit(ANY)
        .authenticate(ANY)
        .authorize(ANY);
    assert_eq!(
        found(pipeline.describe()),
        only("fact_missing", "authenticate")
    );
}

#[test]
fn what_is_sent_again_without_a_breaker_is_found() {
    let retry = orders(1).retry(Identity::new());
    let hedge = orders(1).hedge(Identity::new());
    let described = in_front_of(retry.clone().build().unwrap());
    assert_eq!(
        found(&described),
        only("resent_without_breaker", "retry+breaker")
    );
    let finding = described.lint().remove(0);
    assert_eq!(finding.upstream().unwrap().as_str(), "orders");
    assert!(finding.to_string().starts_with("orders: resent_"));
    assert_eq!(
        found(&in_front_of(hedge.clone().build().unwrap())),
        only("resent_without_breaker", "hedge+breaker")
    );
    for broken in [
        in_front_of(retry.breaker(Identity::new()).build().unwrap()),
        in_front_of(hedge.breaker(Identity::new()).build().unwrap()),
    ] {
        assert_eq!(found(&broken), []);
    }
}

/// Story: one endpoint of four failed whatever it was sent. That is a quarter of the upstream's requests, and its breaker stayed
/// closed.
#[test]
fn endpoints_that_nobody_watches_are_found() {
    let described = in_front_of(orders(2).build().unwrap());
    assert_eq!(found(&described), only("endpoints_unwatched", "balance"));
    let watched = orders(2).endpoint_health(Arc::new(AllWell));
    assert_eq!(found(&in_front_of(watched.build().unwrap())), []);
}
