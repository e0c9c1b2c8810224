//! The configuration file: read once, checked whole, plain values afterwards.
//!
//! The way of a file, each step in its own module:
//!
//! 1. `source`: bytes to text, with bounds, and offsets to lines and columns.
//! 2. `document`: text to a TOML tree in which every key and value knows its place. A syntax
//!    error ends here, alone.
//! 3. `environment`: `"${NAME}"` becomes the variable's value; places stay those of the file.
//! 4. `read`: the tree into the typed tables of [`table`], through serde. All faults of this kind
//!    are reported together.
//! 5. `rules`: what no single value can know (dangling names, shares that add up, timers that
//!    fit). All reported together.
//! 6. `table::File::settle`: tables as written become [`Config`]: choices are enums, defaults are
//!    filled in, paths are joined.
//!
//! Errors never repeat a string: it may have come from the environment and be a secret. The source
//! line shows what the file says, but for what may be a password.

mod document;
pub mod environment;
pub mod error;
mod finding;
mod key_file;
mod load;
mod read;
mod rules;
mod secrets;
mod source;
mod suggest;
pub mod table;
pub mod value;

#[cfg(test)]
mod tests;

pub use environment::process_environment;
pub use finding::KeyPath;
pub(crate) use key_file::holds_no_key;
pub use key_file::read_keys;
pub use load::blame;
pub(crate) use source::regular_bytes;
pub use table::Config;
