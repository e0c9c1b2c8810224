//! Single values that are written as strings with a rule of their own, parsed once.

mod http_names;
mod key;
mod net;
mod path;
mod ratio;
mod text;
mod units;
mod whole;

pub use key::{Balance, Key};
pub use net::{Endpoint, HttpUrl, ServiceUrl};
pub use path::{PathTemplate, Prefix};
pub use ratio::{Percent, Ratio};
pub use units::Rate;

pub(super) use http_names::answer_fields;
pub(super) use key::{client_keys, early_key};
pub(super) use ratio::{percent_above_zero, quantile, ratio_above_zero};
pub(super) use text::{FromText, Text, list, optional, text, text_or_off};
pub(super) use units::{count, duration_or_zero, optional_size_or_zero, size, size_or_zero};
pub(super) use whole::{optional_whole, whole};
