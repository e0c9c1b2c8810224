//! The whole file, as written and as the gateway uses it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::{
    Admin, Auth, HealthListener, IpFilter, Lanes, Limit, LimitTable, LogIngest, Observe, Response,
    Route, RouteTable, Server, Upstream,
};
use crate::config::finding::{Findings, KeyPath};

/// A configuration that has passed every check: names resolve, defaults are filled in, paths are
/// joined.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub server: Server,
    pub health: HealthListener,
    pub admin: Admin,
    pub observe: Observe,
    pub ip: IpFilter,
    pub auth: Auth,
    pub limits: BTreeMap<String, Limit>,
    pub lanes: Lanes,
    pub upstreams: BTreeMap<String, Upstream>,
    /// In the order of the file; at least one.
    pub routes: Vec<Route>,
    pub response: Response,
    pub log_ingest: LogIngest,
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct File {
    pub server: Server,
    pub health: HealthListener,
    pub admin: Admin,
    pub observe: Observe,
    pub ip: IpFilter,
    pub auth: Auth,
    pub limits: BTreeMap<String, LimitTable>,
    pub lanes: Lanes,
    pub upstreams: BTreeMap<String, Upstream>,
    pub routes: Vec<RouteTable>,
    pub response: Response,
    pub log_ingest: LogIngest,
}

impl File {
    /// Reports what contradicts itself; `None` if there is no configuration without it.
    pub(in crate::config) fn settle(self, base: &Path, findings: &mut Findings) -> Option<Config> {
        let Self {
            server,
            health,
            admin,
            observe,
            ip,
            auth,
            upstreams,
            response,
            log_ingest,
            mut lanes,
            ..
        } = self;
        let limits = self
            .limits
            .into_iter()
            .map(|(name, table)| {
                let limit = table.settle(&KeyPath::of("limits").key(&name), findings);
                (name, limit)
            })
            .collect();
        let count = self.routes.len();
        let routes: Vec<Route> = self
            .routes
            .into_iter()
            .enumerate()
            .filter_map(|(i, table)| {
                table.settle(
                    &server,
                    &log_ingest,
                    &KeyPath::of("routes").index(i),
                    findings,
                )
            })
            .collect();
        if routes.len() < count {
            return None;
        }
        lanes.add_core(&server.default_lane);
        let mut config = Config {
            server,
            health,
            admin,
            observe,
            ip,
            auth,
            limits,
            lanes,
            upstreams,
            routes,
            response,
            log_ingest,
        };
        config.anchor(base);
        Some(config)
    }
}
