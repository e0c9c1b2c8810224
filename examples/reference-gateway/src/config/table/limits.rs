//! `[limits.NAME]`

use std::num::NonZeroU32;

use gw_core::Mode;
use serde::Deserialize;

use crate::config::finding::{Findings, KeyPath};
use crate::config::value::{Key, Rate, ServiceUrl, optional_whole};

/// A rate limit.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    pub key: Key,
    /// IPv6 addresses that share so many leading bits count as one client.
    pub prefix6: u8,
    pub rate: Rate,
    /// What may come at once on top of nothing; as much as `rate` counts where it is not written.
    pub burst: NonZeroU32,
    /// `None`: counted in this instance alone.
    pub store: Option<SharedStore>,
    pub mode: Mode,
}

/// Where several instances count together.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedStore {
    /// `redis://` or `rediss://`
    pub url: ServiceUrl,
    /// Whether this instance borrows permits in advance, so that the hot path stays local.
    pub leased: bool,
    pub on_error: OnStoreError,
}

/// What happens while the store does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnStoreError {
    /// Counts in this instance.
    #[default]
    Local,
    Open,
    Closed,
}

impl OnStoreError {
    /// As it is written in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Open => "open",
            Self::Closed => "closed",
        }
    }
}

/// A limit as written: `mode` also knows `leased`, and two keys depend on others.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct LimitTable {
    pub key: Key,
    #[serde(default, deserialize_with = "optional_whole::<_, _, 16, 128>")]
    prefix6: Option<u8>,
    rate: Rate,
    burst: Option<NonZeroU32>,
    store: Option<ServiceUrl>,
    on_store_error: Option<OnStoreError>,
    #[serde(default)]
    mode: LimitMode,
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum LimitMode {
    #[default]
    Enforce,
    Shadow,
    Off,
    /// Enforced, with leases from the store.
    Leased,
}

impl LimitTable {
    /// The addresses of one customer's network usually share a /64.
    const PREFIX6: u8 = 64;

    pub(super) fn settle(self, at: &KeyPath, findings: &mut Findings) -> Limit {
        findings.check(
            self.prefix6.is_some() && self.key != Key::Ip,
            at.key("prefix6"),
            "only goes with key = \"ip\": leave it out",
        );
        let leased = self.mode == LimitMode::Leased;
        let store = self.store.map(|url| {
            let redis = matches!(url.scheme(), "redis" | "rediss");
            findings.check(
                !redis,
                at.key("store"),
                "must start with redis:// or rediss://",
            );
            SharedStore {
                url,
                leased,
                on_error: self.on_store_error.unwrap_or_default(),
            }
        });
        if store.is_none() {
            let rule = "needs a `store` that instances share: write one, or leave this out";
            findings.check(leased, at.key("mode"), rule);
            findings.check(
                self.on_store_error.is_some(),
                at.key("on_store_error"),
                rule,
            );
        }
        Limit {
            key: self.key,
            prefix6: self.prefix6.unwrap_or(Self::PREFIX6),
            rate: self.rate,
            burst: self.burst.unwrap_or(self.rate.count),
            store,
            mode: match self.mode {
                LimitMode::Enforce | LimitMode::Leased => Mode::Enforce,
                LimitMode::Shadow => Mode::Shadow,
                LimitMode::Off => Mode::Off,
            },
        }
    }
}
