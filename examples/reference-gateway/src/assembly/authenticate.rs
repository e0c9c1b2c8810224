//! `[auth]`, and the routes that name its tables, as one stage.

use gw_pipeline::ConfigError;
use gw_pipeline::inbound::{ApiKeys, ApiKeysLayer, RouteTable, ScopesLayer};
use http::header::AUTHORIZATION;

use super::Fault;
use super::asked::Asked;
use crate::config::table::Access;
use crate::config::{self, Config, KeyPath};

/// The stage that asks who calls. Only routes that are public, and requests without a route unless `default_auth` says
/// otherwise, pass it unasked.
pub(super) fn authenticate(config: &Config) -> Result<ApiKeysLayer, Fault> {
    let auth = &config.auth;
    let mut sets = Vec::new();
    for (name, keys) in &auth.api_keys {
        let asked = named_by(config, name);
        let builder = ApiKeys::builder()
            .header(keys.header.clone())
            .when(move |parts| asked.covers(parts));
        // A file that is not there holds no key: `without_effect` says so.
        let set = if keys.is_missing() {
            builder.build().map_err(|error| error.to_string())
        } else {
            config::read_keys(&keys.file, builder).map_err(|errors| errors.brief())
        };
        let file = || KeyPath::from("auth.api_keys").key(name).key("file");
        let fault = |message| Fault::new(file(), message);
        sets.push(set.map_err(fault)?);
    }
    // Nobody can check a token yet, so that none is good; a route that asks for one must not be open because of that.
    for name in auth.jwt.keys() {
        let asked = named_by(config, name);
        let set = ApiKeys::builder()
            .header(AUTHORIZATION)
            .when(move |parts| asked.covers(parts))
            .build();
        let fault =
            |error: ConfigError| Fault::new(KeyPath::from("auth.jwt").key(name), error.rule());
        sets.push(set.map_err(fault)?);
    }
    let open = config.server.default_auth.is_empty();
    let public = Asked::by(config, |route| route.access == Access::Public, open);
    Ok(ApiKeysLayer::any_of(sets)
        .public(move |parts| public.covers(parts))
        .forward_credentials(auth.forward_credentials))
}

/// The stage that asks for the scopes of routes.
pub(super) fn authorize(config: &Config, table: &RouteTable) -> Result<ScopesLayer, Fault> {
    let needed = config.routes.iter().map(|route| match &route.access {
        Access::Public => (&route.name, Vec::new()),
        Access::Authenticated { scopes, .. } => (&route.name, scopes.clone()),
    });
    ScopesLayer::by_route(table, needed).map_err(|error| Fault::new("routes", error.to_string()))
}

fn named_by(config: &Config, authenticator: &str) -> Asked {
    let among = |names: &[String]| names.iter().any(|name| name == authenticator);
    let route = |access: &Access| match access {
        Access::Public => false,
        Access::Authenticated { by, .. } => among(by),
    };
    Asked::by(
        config,
        |asking| route(&asking.access),
        among(&config.server.default_auth),
    )
}
