//! `retry`, `hedge` and `retry_budget`: what is sent more than once, and how much of that an upstream must bear.

use gw_breaker::{Breaker, State};
use gw_pipeline::upstream::copy_extensions;
use gw_retry::hedge::HedgeLayer;
use gw_retry::{Backoff, Budget, ConfigError, Mode, ReplayPool, RetryLayer, RetryPolicy};
use http::Method;
use tokio::time::Instant;

use super::super::Fault;
use super::hedging::HedgingLayer;
use crate::config::{Config, KeyPath, table};

pub(super) fn budget(name: &str, written: &table::RetryBudget) -> Result<Budget, Fault> {
    Budget::builder(name)
        .ratio(written.ratio.get())
        .min_per_second(written.min_per_second)
        .mode(written.mode)
        .build()
        .map_err(|error| fault(&super::at(name).key("retry_budget"), &error))
}

/// Sends again what routes say, and nothing else.
pub(super) fn retries(budget: Budget, pool: ReplayPool) -> RetryLayer {
    RetryLayer::builder(budget)
        .policy(RetryPolicy::none())
        .replay_pool(pool)
        .copy_extensions(copy_extensions)
        .build()
}

/// The policy that goes along with a route's requests.
pub(crate) fn policy(route: usize, written: &table::Retry) -> Result<Option<RetryPolicy>, Fault> {
    if written.mode == Mode::Off {
        return Ok(None);
    }
    let methods = written.methods.iter().cloned();
    let policy = RetryPolicy::builder()
        .max_attempts(written.max_attempts.get())
        .shadow(written.mode == Mode::Shadow)
        .backoff(Backoff::full_jitter(
            written.backoff.base,
            written.backoff.max,
        ))
        .replay_max(usize::try_from(written.replay_max).unwrap_or(usize::MAX));
    let policy = match written.require_idempotency_key {
        true => policy.methods(NO_METHOD).keyed_methods(methods),
        false => policy.methods(methods),
    };
    let policy = policy.build().map_err(|error| {
        let key = match error.field() {
            "keyed_methods" => "methods",
            same => same,
        };
        Fault::new(at_route(route).key("retry").below(key), error.rule())
    })?;
    Ok(Some(policy))
}

const NO_METHOD: [Method; 0] = [];

/// The routes that lead to the upstream `name` and ask for retries, with their modes.
pub(super) fn retried(config: &Config, name: &str) -> Vec<(String, Mode)> {
    let routes = config.routes.iter().filter_map(|it| match &it.target {
        table::Target::Upstream(forward) if forward.upstream == name => {
            Some((it.name.clone(), forward.retry.as_ref()?.mode))
        }
        _ => None,
    });
    routes.collect()
}

/// The hedges of the routes that lead to the upstream `name`.
pub(super) fn hedges(
    config: &Config,
    name: &str,
    budget: &Budget,
    breaker: &Breaker,
) -> Result<HedgingLayer, Fault> {
    let hedged = config
        .routes
        .iter()
        .enumerate()
        .filter_map(|(route, it)| match &it.target {
            table::Target::Upstream(forward) if forward.upstream == name => Some((
                route,
                forward.hedge.as_ref()?,
                is_retried(forward.retry.as_ref()),
            )),
            _ => None,
        });
    hedged
        .map(|(route, written, retried)| {
            let breaker = breaker.clone();
            let layer = HedgeLayer::builder(name)
                .percentile(written.percentile.get())
                .max_extra_load(written.max_extra_load.get())
                .mode(written.mode)
                .budget(budget.clone())
                .fills_budget(!retried)
                .gate(move || is_well(&breaker))
                .copy_extensions(copy_extensions)
                .build()
                .map_err(|error| fault(&at_route(route).key("hedge"), &error))?;
            Ok((route, layer))
        })
        .collect()
}

/// Whether the retry layer counts the requests of a route in the budget.
fn is_retried(written: Option<&table::Retry>) -> bool {
    written.is_some_and(|retry| retry.mode != Mode::Off && retry.max_attempts.get() > 1)
}

/// Whether the upstream is not known to be in trouble. A breaker that only watches changes nothing.
fn is_well(breaker: &Breaker) -> bool {
    breaker.mode() != Mode::Enforce
        || matches!(
            breaker.state(Instant::now()),
            State::Closed | State::ForcedClosed | State::Disabled
        )
}

fn at_route(number: usize) -> KeyPath {
    KeyPath::of("routes").index(number)
}

fn fault(table: &KeyPath, error: &ConfigError) -> Fault {
    Fault::new(table.below(error.field()), error.rule())
}
