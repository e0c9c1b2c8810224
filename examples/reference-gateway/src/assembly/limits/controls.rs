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

/// Limits with one store.
#[derive(Debug, Clone)]
pub struct StoreControls {
    pub limiter: SharedLimiter,
    pub leased: bool,
    pub on_error: OnStoreError,
}
