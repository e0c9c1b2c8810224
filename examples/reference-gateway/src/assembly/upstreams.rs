//! `[upstreams.*]` as upstreams, and what sends to them.

pub(super) mod attempts;
mod health;
mod hedging;
pub(super) mod time;

use std::sync::Arc;

use gw_breaker::outlier::Outliers;
use gw_breaker::{BreakerHandle, BreakerService, ContentClassifier, Fail, ResponseBody, Single};
use gw_core::key::TrustedProxies;
use gw_pipeline::upstream::{
    Forward, HostHeader, PoolConfig, Protocol, Transport, Upstream, UpstreamBody,
};
use gw_retry::hedge::HedgeHandle;
use gw_retry::{Mode, ReplayPool, Retry, RetryHandle};
use http::Uri;
use tower_layer::Stack;

use self::hedging::Hedging;
use self::time::{TimeLeft, TimeLeftLayer};
use super::Fault;
use crate::config::{Config, KeyPath, table};

/// What stands in front of the connections of each upstream.
pub(super) type UpstreamStack =
    Retry<Hedging<BreakerService<TimeLeft<Transport>, Single, ContentClassifier, Fail>>>;

/// What its answers are made of.
pub(super) type UpstreamAnswer =
    gw_retry::ResponseBody<ResponseBody<UpstreamBody, ContentClassifier>>;

/// What an operator reads and changes of one upstream.
#[derive(Debug, Clone)]
pub struct UpstreamControls {
    /// Its connections.
    pub upstream: Upstream<UpstreamStack>,
    /// Whether it is asked at all.
    pub breaker: BreakerHandle,
    /// Which of its endpoints are.
    pub outliers: Outliers,
    /// What is sent to it again.
    pub retries: RetryHandle,
    /// The routes that ask for it, and whether it is done for them.
    pub retried: Vec<(String, Mode)>,
    /// What is sent to it a second time meanwhile, by the routes that ask for it.
    pub hedges: Vec<(String, HedgeHandle)>,
}

pub(super) fn upstreams(config: &Config) -> Result<Vec<UpstreamControls>, Fault> {
    // One bound on the bodies that are kept, whichever upstream they go to.
    let pool = ReplayPool::new(table::Retry::MOST_KEPT);
    config
        .upstreams
        .iter()
        .map(|(name, written)| upstream(config, name, written, pool.clone()))
        .collect()
}

fn upstream(
    config: &Config,
    name: &str,
    written: &table::Upstream,
    replay: ReplayPool,
) -> Result<UpstreamControls, Fault> {
    let budget = attempts::budget(name, &written.retry_budget)?;
    let retry = attempts::retries(budget.clone(), replay);
    let retries = retry.handle();
    let breaker = health::breaker(name, &written.breaker)?;
    let handle = breaker.handle();
    let hedges = attempts::hedges(config, name, &budget, handle.breaker())?;
    let hedged = hedges.handles().filter_map(|(route, handle)| {
        let route = config.routes.get(route)?;
        Some((route.name.clone(), handle))
    });
    let hedged = hedged.collect();
    let outliers = health::outliers(name, &written.eject)?;
    let endpoints = written.endpoints.iter().map(ToString::to_string);
    let set = outliers
        .endpoints(endpoints)
        .map_err(|error| Fault::new(at(name).key("endpoints"), error.rule()))?;
    let mut builder = Upstream::builder(name)
        .protocol(protocol(written.protocol))
        .connect_timeout(written.connect_timeout)
        .send_timeout(written.send_timeout)
        .host_header(host_header(written.host_header))
        .pool(pool(&written.pool))
        .retry(retry)
        .hedge(hedges)
        // Innermost: an attempt is told what is left when it asks for a connection.
        .breaker(Stack::new(TimeLeftLayer, breaker));
    // One alone is never ejected, so nobody need be asked.
    if set.len() > 1 {
        builder = builder.endpoint_health(Arc::new(set));
    }
    for (index, endpoint) in written.endpoints.iter().enumerate() {
        let uri = endpoint.to_string().parse::<Uri>();
        let key = || at(name).key("endpoints").index(index);
        builder = builder.endpoint(uri.map_err(|error| Fault::new(key(), error.to_string()))?);
    }
    let upstream = builder
        .build()
        .map_err(|error| Fault::new(at(name).below(error.field()), error.rule()))?;
    Ok(UpstreamControls {
        upstream,
        breaker: handle,
        outliers,
        retries,
        retried: attempts::retried(config, name),
        hedges: hedged,
    })
}

/// Where the file has an upstream.
fn at(name: &str) -> KeyPath {
    KeyPath::of("upstreams").key(name)
}

const fn protocol(written: table::Protocol) -> Protocol {
    match written {
        table::Protocol::Http1 => Protocol::Http1,
        table::Protocol::Http2 => Protocol::Http2,
        table::Protocol::Auto => Protocol::Auto,
    }
}

const fn host_header(written: table::HostHeader) -> HostHeader {
    match written {
        table::HostHeader::Preserve => HostHeader::Preserve,
        table::HostHeader::Upstream => HostHeader::Upstream,
    }
}

fn pool(written: &table::Pool) -> PoolConfig {
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    PoolConfig::new()
        .max_connections(count(written.max_connections.get()))
        .max_idle(count(written.max_idle))
        .idle_timeout(written.idle_timeout)
        .queue(count(written.queue))
        .queue_timeout(written.queue_timeout)
}

pub(super) fn forward(
    config: &Config,
    upstreams: &[UpstreamControls],
    proxies: TrustedProxies,
) -> Result<Forward<UpstreamStack>, Fault> {
    let names = &config.auth.identity_headers;
    let upstreams = upstreams.iter().map(|it| it.upstream.clone());
    let forward = Forward::new(upstreams)
        .map_err(|error| Fault::new("upstreams", format!("{} {}", error.field(), error.rule())))?
        .trusted_proxies(proxies)
        .request_id_header(config.server.request_id.header.clone())
        .protect([
            names.consumer.clone(),
            names.user.clone(),
            names.scopes.clone(),
        ]);
    Ok(forward)
}
