use gw_core::Code;

/// In the extensions of an answer whose body must not reach the client: an upstream's account of its own failure.
///
/// The answer stage puts the envelope for the code in its place; the status stays.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplaceBody(pub(crate) &'static Code);
