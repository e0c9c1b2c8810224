//! `[[routes]]` as a table that finds them.

use gw_core::context::{Criticality, Lane, UpstreamName};
use gw_pipeline::Timeouts;
use gw_pipeline::inbound::{Route, RouteTable};

use super::Fault;
use super::upstreams::attempts;
use crate::config::Config;
use crate::config::table;

/// The routes, each at the place where the configuration has it.
pub(super) fn routes(config: &Config) -> Result<RouteTable, Fault> {
    let numbered = config.routes.iter().enumerate();
    let routes: Result<Vec<_>, _> = numbered
        .map(|(number, route)| self::route(config, number, route))
        .collect();
    RouteTable::builder()
        .routes(routes?)
        .build()
        .map_err(|error| Fault::of_routes(&error, &config.routes))
}

fn route(config: &Config, number: usize, route: &table::Route) -> Result<Route, Fault> {
    let matching = &route.matching;
    let built = match &matching.path {
        table::PathMatch::Prefix(prefix) => Route::prefix(&route.name, prefix.as_str()),
        table::PathMatch::Template(path) => Route::path(&route.name, path.as_str()),
    };
    let built = match matching.methods.is_empty() {
        true => built,
        false => built.methods(matching.methods.iter().cloned()),
    };
    let built = built
        .lane(Lane::new(route.lane.as_str()))
        .deadline(route.timeouts.request)
        .timeouts(timeouts(&route.timeouts))
        .max_body_bytes(route.max_body_bytes);
    let built = match &matching.host {
        Some(host) => built.host(host.as_str()),
        None => built,
    };
    let built = matching.headers.iter().fold(built, |built, (name, value)| {
        built.header(name.clone(), value.clone())
    });
    let built = match config.lanes.lane.get(&route.lane) {
        Some(lane) => built.criticality(criticality(lane.criticality)),
        None => built,
    };
    let table::Target::Upstream(forward) = &route.target else {
        return Ok(built);
    };
    let built = built.upstream(UpstreamName::new(forward.upstream.as_str()));
    let built = if serves_grpc(config, &forward.upstream) {
        built.grpc_streams()
    } else {
        built
    };
    let retry = forward.retry.as_ref();
    let policy = retry.map(|retry| attempts::policy(number, retry));
    Ok(match policy.transpose()?.flatten() {
        Some(policy) => built.extension(policy),
        None => built,
    })
}

/// Whether gRPC can be behind the route: it needs HTTP/2 on the way there.
fn serves_grpc(config: &Config, upstream: &str) -> bool {
    let upstream = config.upstreams.get(upstream);
    upstream.is_some_and(|upstream| upstream.protocol == table::Protocol::Http2)
}

fn timeouts(timeouts: &table::Timeouts) -> Timeouts {
    Timeouts {
        attempt: timeouts.longest_attempt(),
        first_byte: timeouts.first_byte,
        idle: timeouts.idle,
    }
}

/// The two crates order them alike; the configuration names the most important first.
pub(super) fn criticality(written: table::Criticality) -> Criticality {
    match written {
        table::Criticality::CriticalPlus => Criticality::CriticalPlus,
        table::Criticality::Critical => Criticality::Critical,
        table::Criticality::SheddablePlus => Criticality::SheddablePlus,
        table::Criticality::Sheddable => Criticality::Sheddable,
    }
}
