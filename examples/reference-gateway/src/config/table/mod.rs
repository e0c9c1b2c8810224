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
mod observe;
mod paths;
mod policies;
mod response;
mod routes;
mod server;
mod timeouts;
mod upstream_health;
mod upstreams;

pub use auth::*;
pub use file::Config;
pub use ip::*;
pub use lanes::*;
pub use limits::*;
pub use log_ingest::*;
pub use matching::*;
pub use observe::*;
pub use policies::*;
pub use response::*;
pub use routes::*;
pub use server::*;
pub use timeouts::*;
pub use upstream_health::*;
pub use upstreams::*;

pub(super) use file::File;
