//! The layers beside other projects' ones, in one program: same keys, same requests, taking turns.

pub mod allocations;
pub mod bare;
pub mod breakers;
pub mod bulkhead;
pub mod check;
pub mod contended;
pub mod instructions;
pub mod keyed;
pub mod lanes;
pub mod layers;
pub mod measure;
pub mod program;
pub mod report;
pub mod retries;
pub mod subject;
pub mod walk;

pub use self::subject::{Case, Subject};

/// What a rate limit costs, in the order of the table.
pub const RATE_LIMITS: &[Case] = &[
    Case::new("one key", keyed::one_key),
    Case::new("one key, refused", keyed::refused),
    Case::new("integer keys", keyed::integers),
    Case::new("string keys", keyed::strings),
    Case::new("two threads, one key", contended::one_key),
    Case::new("two threads, spread keys", contended::spread),
    Case::new("layer", layers::admitted),
    Case::new("layer, refused", layers::refused),
];

/// What a bulkhead costs, in the order of the table.
pub const BULKHEADS: &[Case] = &[
    Case::new("a place", bulkhead::place),
    Case::new("two threads, a place", bulkhead::two_threads),
    Case::new("layer", bulkhead::layers::admitted),
    Case::new("two threads, layer", bulkhead::layers::two_threads),
    Case::new("layer, refused", bulkhead::layers::refused),
];

/// What a circuit breaker costs, in the order of the table.
pub const BREAKERS: &[Case] = &[
    Case::new("layer, closed", breakers::layers),
    Case::new("layer, closed, body read", breakers::streams),
    Case::new("layer, open", breakers::open_layers),
    Case::new("alone, closed", breakers::alone),
    Case::new("alone, two threads", breakers::contended),
];

/// The cases of retries, in the order of the table.
pub const RETRIES: &[Case] = &[
    Case::new("retry, first succeeds", retries::first_succeeds),
    Case::new("retry, eight fields", retries::with_fields),
    Case::new("retry, sent once", retries::sent_once),
];
