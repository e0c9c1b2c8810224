//! `[[routes]]` as a table that finds them.

use gw_core::context::Criticality;
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
        .lane(route.lane.as_str())
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
    let built = built.upstream(forward.upstream.as_str());
    let built = if serves_grpc(config, &forward.upstream) {
        built.grpc_streams(timeouts_of_calls(&route.timeouts))
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
    Timeouts::new()
        .attempt(timeouts.longest_attempt())
        .first_byte(timeouts.first_byte())
        .idle(timeouts.idle())
}

/// Those of gRPC calls, whose streams may be silent, before the head as well: what is not written is as long as what is around it.
fn timeouts_of_calls(timeouts: &table::Timeouts) -> Timeouts {
    let attempt = timeouts.longest_attempt();
    Timeouts::new()
        .attempt(attempt)
        .first_byte(timeouts.first_byte.unwrap_or(attempt))
        .idle(timeouts.idle.unwrap_or(timeouts.request))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    /// Story: streams that were silent for 30 s were cut, however long their route let them be.
    #[test]
    fn grpc_calls_may_be_silent_until_a_written_timer() {
        let hour = table::Timeouts {
            request: s(3600),
            ..table::Timeouts::default()
        };
        let calls = |timeouts: &table::Timeouts| {
            let Timeouts {
                attempt,
                first_byte,
                idle,
                ..
            } = timeouts_of_calls(timeouts);
            [attempt, first_byte, idle]
        };
        assert_eq!(calls(&hour), [s(3600); 3]);
        let attempt = table::Timeouts {
            attempt: Some(s(20)),
            ..hour.clone()
        };
        assert_eq!(calls(&attempt), [s(20), s(20), s(3600)]);
        let written = table::Timeouts {
            first_byte: Some(s(5)),
            idle: Some(s(60)),
            ..hour.clone()
        };
        assert_eq!(calls(&written), [s(3600), s(5), s(60)]);
        // What is no call has the usual ones.
        assert_eq!(timeouts(&hour).first_byte, s(15));
        assert_eq!(timeouts(&hour).idle, s(30));
    }
}
