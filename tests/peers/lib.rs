//! The layers beside other projects' ones, in one program: same keys, same requests, taking turns.

pub mod check;
pub mod contended;
pub mod instructions;
pub mod keyed;
pub mod layers;
pub mod measure;
pub mod program;
pub mod report;
pub mod retries;
pub mod subject;
pub mod walk;

pub use self::subject::{Case, Subject};

/// The cases of rate limits, in the order of the table.
pub const CASES: &[Case] = &[
    Case::new("one key", keyed::one_key),
    Case::new("one key, refused", keyed::refused),
    Case::new("integer keys", keyed::integers),
    Case::new("string keys", keyed::strings),
    Case::new("two threads, one key", contended::one_key),
    Case::new("two threads, spread keys", contended::spread),
    Case::new("layer", layers::admitted),
    Case::new("layer, refused", layers::refused),
];

/// The cases of retries, in the order of the table.
pub const RETRIES: &[Case] = &[
    Case::new("retry, first succeeds", retries::first_succeeds),
    Case::new("retry, sent once", retries::sent_once),
];
