#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod at_hand;
pub mod attempt;
pub mod awaited;
pub mod body;
pub mod call;
pub mod classify;
pub mod config;
pub mod context;
pub mod endpoint;
pub mod key;
pub mod late;
pub mod mode;
pub mod on_reject;
pub mod one_line;
pub mod record;
pub mod rejection;
pub mod retry_after;
pub mod stage;
pub mod telling;

pub use self::attempt::{AttemptError, Failure};
pub use self::body::{Body, BoxError};
pub use self::config::ConfigError;
pub use self::mode::Mode;
pub use self::on_reject::{
    Fail, LayerError, OnReject, Problem, RejectContext, Respond, RespondWith,
};
pub use self::rejection::{Code, Detail, FieldPath, GrpcStatus, Rejection};
pub use self::retry_after::RetryAfter;
