//! Stages on the way in: from the request's arrival to the service that answers it.

mod client_fault;

pub use self::client_fault::{ClientFault, Fault};
