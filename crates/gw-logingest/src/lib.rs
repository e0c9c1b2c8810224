#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
pub mod consumer;
pub mod dead_letter;
pub mod event;
mod fs;
pub mod intake;
mod json;
mod layer;
pub mod queue;
pub mod sink;
mod telemetry;

pub use gw_core::context::PeerAddr;
pub use gw_core::{
    Body, BoxError, Code, ConfigError, FieldPath, Mode, OnReject, Problem, RejectContext,
    Rejection, Respond, RespondWith,
};

pub use self::batch::{
    Batch, BatchBuilder, BatchId, Class, ClientId, Corrupt, Event, Events, InvalidClientId,
};
pub use self::event::EventLimits;
pub use self::intake::{IngestHandle, LogIngest, Pressure};
pub use self::layer::{Ingest, IngestLayer, ResponseBody, ResponseFuture};
pub use self::queue::{
    AppendError, DiskQueue, Durability, Leased, MemoryQueue, OpenError, Queue, QueueState,
    QueueStatus, Want,
};
#[cfg(feature = "metrics")]
pub use self::telemetry::{HISTOGRAM_BUCKETS, describe};
