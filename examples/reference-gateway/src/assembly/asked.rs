//! Which routes ask something, by their place in the table.

use gw_core::context::RouteMatch;
use http::request::Parts;

use crate::config::Config;
use crate::config::table::Route;

/// A question to each route, answered when the gateway is built.
#[derive(Debug)]
pub(super) struct Asked {
    routes: Vec<bool>,
    unmatched: bool,
}

impl Asked {
    /// Answers for each route, and for requests that match none.
    pub(super) fn by(config: &Config, route: impl Fn(&Route) -> bool, unmatched: bool) -> Self {
        let routes = config.routes.iter().map(route).collect();
        Self { routes, unmatched }
    }

    pub(super) fn is_anybody(&self) -> bool {
        self.unmatched || self.routes.contains(&true)
    }

    /// The answer for the request's route; no for one that is not in the list, since nothing is known of it.
    pub(super) fn covers(&self, parts: &Parts) -> bool {
        match parts.extensions.get().and_then(RouteMatch::ordinal) {
            Some(ordinal) => self.routes.get(ordinal).copied().unwrap_or(false),
            None => self.unmatched,
        }
    }
}
