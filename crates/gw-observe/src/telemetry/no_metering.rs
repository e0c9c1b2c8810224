use gw_core::context::RouteMatch;

use crate::access_log::Outcome;
use crate::observation::Observed;

#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteIndex;

#[derive(Debug)]
pub(crate) struct RequestMetrics;

impl RequestMetrics {
    pub(crate) fn new(_: usize) -> Self {
        Self
    }

    pub(crate) fn enter(&self, _: Option<&RouteMatch>) -> RouteIndex {
        RouteIndex
    }

    pub(crate) fn ended(&self, _: &Observed<'_>, _: Option<RouteIndex>) {}
}

#[derive(Debug, Default)]
pub(crate) struct LineMetrics;

impl LineMetrics {
    pub(crate) fn register(&self) {}

    pub(crate) fn add(&self, _: Outcome, _: u64) {}

    pub(crate) fn reopening_fails(&self, _: bool) {}
}
