//! W3C Trace Context, level 2: reading, printing, and what a gateway does with it.
//!
//! [`TraceParent`] and [`tracestate`] are pure and know no HTTP types but bytes.

mod hex;
mod parent;
mod propagate;
mod state;

pub(crate) use self::hex::push_hex;
pub use gw_core::context::{SpanId, TraceContext, TraceId};

pub use self::parent::{Flags, TraceParent};
pub(crate) use self::propagate::receive;
pub use self::state::{Tracestate, tracestate};

/// Without the optional white space around it (RFC 9110 section 5.6.3).
fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
