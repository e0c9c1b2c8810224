//! `[[routes]]`

use std::path::PathBuf;

use serde::Deserialize;

use super::{Cache, Canary, Hedge, LogIngest, Match, Retry, Server, ShadowTraffic, Timeouts};
use crate::config::finding::{Findings, KeyPath};
use crate::config::value::{optional, optional_size_or_zero};

/// What happens to the requests that match.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub name: String,
    pub matching: Match,
    pub target: Target,
    /// Its own, or the server's default.
    pub lane: String,
    pub access: Access,
    /// Names of `[limits.*]`, asked before authentication.
    pub limits: Vec<String>,
    /// JSON Schema of the request body.
    pub schema: Option<PathBuf>,
    /// Its own, or the server's.
    pub max_body_bytes: u64,
    pub timeouts: Timeouts,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    Upstream(Box<Forward>),
    Service(Service),
}

/// An upstream and what stands in front of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Forward {
    pub upstream: String,
    pub retry: Option<Retry>,
    pub hedge: Option<Hedge>,
    pub cache: Option<Cache>,
    pub canary: Option<Canary>,
    pub shadow: Option<ShadowTraffic>,
}

/// Services inside the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    LogIngest,
}

/// Who may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Everyone, unasked.
    Public,
    Authenticated {
        /// Names of `[auth.*.*]`, at least one. Any of them will do.
        by: Vec<String>,
        /// All of them are needed.
        scopes: Vec<String>,
        /// Names of `[limits.*]`, asked after authentication.
        limits: Vec<String>,
    },
}

/// A route as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RouteTable {
    pub name: String,
    #[serde(rename = "match")]
    pub matching: Match,
    pub upstream: Option<String>,
    pub service: Option<Service>,
    pub lane: Option<String>,
    public: Option<bool>,
    auth: Option<Vec<String>>,
    #[serde(default)]
    pub limits: Vec<String>,
    #[serde(default)]
    pub consumer_limits: Vec<String>,
    #[serde(default)]
    pub scopes: Vec<String>,
    #[serde(default, deserialize_with = "optional")]
    pub schema: Option<PathBuf>,
    #[serde(default, deserialize_with = "optional_size_or_zero")]
    pub max_body_bytes: Option<u64>,
    #[serde(default)]
    pub timeouts: Timeouts,
    pub retry: Option<Retry>,
    pub hedge: Option<Hedge>,
    pub cache: Option<Cache>,
    pub canary: Option<Canary>,
    pub shadow: Option<ShadowTraffic>,
}

impl RouteTable {
    /// Reports what contradicts itself; `None` where no route can be made of it.
    pub(super) fn settle(
        self,
        server: &Server,
        ingest: &LogIngest,
        at: &KeyPath,
        findings: &mut Findings,
    ) -> Option<Route> {
        let access = self.access(at, findings);
        let target = self.target(at, findings)?;
        let larger = self.max_body_bytes > Some(ingest.max_body_bytes);
        findings.check(
            larger && target == Target::Service(Service::LogIngest),
            at.key("max_body_bytes"),
            "must not be larger than `max_body_bytes` of [log_ingest], which refuses more",
        );
        // The intake has a limit of its own, which is the route's unless it says otherwise.
        let max_body_bytes = match target {
            Target::Service(Service::LogIngest) => ingest.max_body_bytes,
            Target::Upstream(_) => server.max_body_bytes,
        };
        Some(Route {
            access: access?,
            target,
            name: self.name,
            matching: self.matching,
            lane: self.lane.unwrap_or_else(|| server.default_lane.clone()),
            limits: self.limits,
            schema: self.schema,
            max_body_bytes: self.max_body_bytes.unwrap_or(max_body_bytes),
            timeouts: self.timeouts,
        })
    }

    /// The authenticators that are named.
    pub(in crate::config) fn auth(&self) -> &[String] {
        self.auth.as_deref().unwrap_or_default()
    }

    fn access(&self, at: &KeyPath, findings: &mut Findings) -> Option<Access> {
        match (self.public == Some(true), self.auth().is_empty()) {
            (false, true) => {
                let rule = "who may call must be written out: `public = true`, or names in `auth`";
                let written = match (self.public, &self.auth) {
                    (_, Some(_)) => at.key("auth"),
                    (Some(_), None) => at.key("public"),
                    (None, None) => at.clone(),
                };
                findings.at(written, rule);
                None
            }
            (true, false) => {
                findings.at(
                    at.key("auth"),
                    "contradicts `public = true`: a route has one or the other",
                );
                None
            }
            (true, true) => {
                let rule = "needs to know the caller: add `auth`, or leave this out";
                findings.check(!self.scopes.is_empty(), at.key("scopes"), rule);
                findings.check(
                    !self.consumer_limits.is_empty(),
                    at.key("consumer_limits"),
                    rule,
                );
                Some(Access::Public)
            }
            (false, false) => Some(Access::Authenticated {
                by: self.auth().to_vec(),
                scopes: self.scopes.clone(),
                limits: self.consumer_limits.clone(),
            }),
        }
    }

    fn target(&self, at: &KeyPath, findings: &mut Findings) -> Option<Target> {
        match (&self.upstream, self.service) {
            (None, None) => {
                findings.at(
                    at.clone(),
                    "who answers must be written out: `upstream` or `service`",
                );
                None
            }
            (Some(_), Some(_)) => {
                findings.at(
                    at.key("service"),
                    "contradicts `upstream`: a route has one or the other",
                );
                None
            }
            (None, Some(service)) => {
                let forwarding = [
                    ("retry", self.retry.is_some()),
                    ("hedge", self.hedge.is_some()),
                    ("cache", self.cache.is_some()),
                    ("canary", self.canary.is_some()),
                    ("shadow", self.shadow.is_some()),
                    ("timeouts.attempt", self.timeouts.attempt.is_some()),
                    ("timeouts.first_byte", self.timeouts.first_byte.is_some()),
                    ("timeouts.idle", self.timeouts.idle.is_some()),
                ];
                for (key, written) in forwarding {
                    findings.check(
                        written,
                        at.below(key),
                        "only goes with `upstream`: a service answers in the gateway",
                    );
                }
                Some(Target::Service(service))
            }
            (Some(upstream), None) => Some(Target::Upstream(Box::new(Forward {
                upstream: upstream.clone(),
                retry: self.retry.clone(),
                hedge: self.hedge.clone(),
                cache: self.cache.clone(),
                canary: self.canary.clone(),
                shadow: self.shadow.clone(),
            }))),
        }
    }
}
