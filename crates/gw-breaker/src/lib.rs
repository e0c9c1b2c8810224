#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod config;
pub mod outlier;

pub use self::config::{ConfigError, Mode};
