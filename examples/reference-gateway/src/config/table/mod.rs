//! The tables of the file as typed values. A type here is both what serde reads and what the
//! gateway uses, except where the two differ in shape (`LimitTable`, `RouteTable`, `File`): those
//! settle into the plain one.

mod auth;
mod file;
mod ip;
mod lanes;
mod limits;
mod log_ingest;
mod matching;
mod mode;
mod observe;
mod paths;
mod policies;
mod response;
mod routes;
mod server;
mod timeouts;
mod upstream_health;
mod upstreams;

pub(crate) use auth::*;
pub(crate) use file::Config;
pub(crate) use ip::*;
pub(crate) use lanes::*;
pub(crate) use limits::*;
pub(crate) use log_ingest::*;
pub(crate) use matching::*;
pub(crate) use mode::*;
pub(crate) use observe::*;
pub(crate) use policies::*;
pub(crate) use response::*;
pub(crate) use routes::*;
pub(crate) use server::*;
pub(crate) use timeouts::*;
pub(crate) use upstream_health::*;
pub(crate) use upstreams::*;

pub(super) use file::File;
