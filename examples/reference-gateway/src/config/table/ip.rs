//! `[ip]`

use gw_core::Mode;
use ipnet::IpNet;
use serde::Deserialize;

use crate::config::value::list;

/// Who may come at all, by client address.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IpFilter {
    /// Empty: everyone.
    #[serde(deserialize_with = "list")]
    pub allow: Vec<IpNet>,
    #[serde(deserialize_with = "list")]
    pub deny: Vec<IpNet>,
    pub mode: Mode,
}
