//! HTTP/1.1 as bytes: heads, message bodies and the socket they come from.
//!
//! Stricter than most peers on purpose. What a gateway sends must be right, so a bare line feed, two lengths or
//! an empty chunk size is reported as malformed instead of being understood somehow.

mod body;
mod head;
mod headers;
mod socket;

pub(crate) use self::body::{Decoder, Payload};
pub(crate) use self::head::{RequestHead, ResponseHead};
pub use self::headers::RawHeaders;
pub(crate) use self::socket::{Socket, Stop};
