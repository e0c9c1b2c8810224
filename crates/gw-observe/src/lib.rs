#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod access_log;
mod answer;
mod body;
mod error;
mod future;
mod layer;
mod observation;
mod ratio;
mod request_body;
mod service;
mod telemetry;
pub mod trace;
mod verdict;
mod vocabulary;

pub use gw_core::context::PeerAddr;
pub use gw_core::key::TrustedProxies;

pub use gw_core::{Code, ConfigError};

pub use self::access_log::{AccessLog, AccessLogHandle};
pub use self::body::ResponseBody;
pub use self::error::INTERNAL;
pub use self::future::ResponseFuture;
pub use self::layer::{ObserveBuilder, ObserveLayer, Trust};
pub use self::request_body::RequestBody;
pub use self::service::Observe;
#[cfg(feature = "metrics")]
pub use self::telemetry::{HISTOGRAM_BUCKETS, describe};
pub use self::vocabulary::{Class, EndedBy, Phase, ResponseSource};
