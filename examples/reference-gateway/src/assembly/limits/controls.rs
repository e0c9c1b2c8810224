use std::sync::Arc;
use std::time::Duration;

use gw_ratelimit::RateLimitHandle;
use gw_ratelimit::redis::SharedLimiter;
use tokio::task::JoinSet;

use crate::config::table::OnStoreError;

/// What an operator reads of the limits that one stage asks.
#[derive(Debug, Clone)]
pub struct LimitControls {
    /// The name of the stage's slot.
    pub stage: &'static str,
    /// Those that this instance counts alone.
    pub local: RateLimitHandle,
    /// Those that it shares.
    pub stores: Vec<StoreControls>,
}

impl LimitControls {
    /// The handles of all limits, those that are shared last.
    pub fn handles(&self) -> impl Iterator<Item = (RateLimitHandle, Option<&StoreControls>)> {
        let shared = self.stores.iter();
        let shared = shared.map(|store| (store.limiter.handle(), Some(store)));
        std::iter::once((self.local.clone(), None)).chain(shared)
    }
}

/// Connects to the stores from the runtime that this is called in, which is to hold their connections from then on. Takes as
/// long as `within` at the most: a store that is not there is looked for again when it is asked.
///
/// # Cancel safety
///
/// What was begun goes on.
pub(crate) async fn connect_stores(limits: &[LimitControls], within: Duration) {
    let mut connecting = JoinSet::new();
    for limiter in limiters(limits) {
        connecting.spawn(async move { limiter.connect().await });
    }
    let all = async { while connecting.join_next().await.is_some() {} };
    // Requests find out which of them are there.
    _ = tokio::time::timeout(within, all).await;
}

/// Gives back what was leased in advance and not spent, and tells the stores what they were not told of yet. Called when
/// the traffic has ended. Takes as long as `within` at the most, however many stores there are and whatever they answer.
///
/// # Cancel safety
///
/// What was not given back runs off by itself.
pub(crate) async fn close_stores(limits: &[LimitControls], within: Duration) {
    let mut closing = JoinSet::new();
    for limiter in limiters(limits) {
        closing.spawn(async move { limiter.close(within).await });
    }
    // How often cells were given back is nobody's concern by now.
    while closing.join_next().await.is_some() {}
}

fn limiters(limits: &[LimitControls]) -> impl Iterator<Item = SharedLimiter> {
    let stores = limits.iter().flat_map(|limits| &limits.stores);
    stores.map(|store| store.limiter.clone())
}

/// Limits with one store.
#[derive(Debug, Clone)]
pub struct StoreControls {
    /// What metrics call it.
    pub label: Arc<str>,
    pub limiter: SharedLimiter,
    pub leased: bool,
    pub on_error: OnStoreError,
}
