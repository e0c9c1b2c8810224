//! Stages on the way in: from the request's arrival to the service that answers it.

mod client_fault;
mod head;
mod identity_headers;
mod ip_filter;
mod path;
mod request_body;
mod request_id;
mod resolve;
mod route;

pub use self::client_fault::{ClientFault, Fault};
pub use self::head::HeadLimits;
pub use self::identity_headers::{IdentityHeaders, IdentityHeadersLayer, IdentityHeadersService};
pub use self::ip_filter::{IpFilter, IpFilterLayer};
pub use self::path::EncodedSlash;
pub use self::request_body::{BodyTimers, RequestBody};
pub use self::request_id::{AcceptId, RequestIdFuture, RequestIdLayer, RequestIdService};
pub(crate) use self::resolve::LateRefusal;
pub use self::resolve::{NotFound, RouteResolve, RouteResolveLayer};
pub use self::route::{Route, RouteTable, RouteTableBuilder};
