//! Stages on the way in: from the request's arrival to the service that answers it.

#[cfg(feature = "api-keys")]
mod api_keys;
mod client_fault;
mod head;
mod identity_headers;
mod ip_filter;
mod path;
mod request_body;
mod request_id;
mod resolve;
mod route;
mod scopes;

#[cfg(feature = "api-keys")]
pub use self::api_keys::{
    ApiKey, ApiKeys, ApiKeysBuilder, ApiKeysLayer, ApiKeysService, KeyDigest,
};
pub use self::client_fault::{ClientFault, Fault};
pub use self::head::HeadLimits;
#[cfg(feature = "upstream")]
pub(crate) use self::head::not_passed_on;
pub use self::identity_headers::{IdentityHeaders, IdentityHeadersLayer, IdentityHeadersService};
pub use self::ip_filter::{IpFilter, IpFilterLayer};
pub use self::path::EncodedSlash;
pub use self::request_body::{BodyTimers, RequestBody};
pub use self::request_id::{AcceptId, RequestIdFuture, RequestIdLayer, RequestIdService};
pub(crate) use self::resolve::LateRefusal;
pub use self::resolve::{NotFound, RouteResolve, RouteResolveLayer};
pub use self::route::{Route, RouteTable, RouteTableBuilder};
pub use self::scopes::{Scopes, ScopesLayer};
