use gw_ratelimit::RateLimitHandle;
use gw_ratelimit::redis::SharedLimiter;

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

/// Limits with one store.
#[derive(Debug, Clone)]
pub struct StoreControls {
    pub limiter: SharedLimiter,
    pub leased: bool,
    pub on_error: OnStoreError,
}
