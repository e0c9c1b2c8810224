//! Single values that are written as strings with a rule of their own, parsed once.

mod http_names;
mod key;
mod net;
mod path;
mod ratio;
mod text;
mod units;

pub use key::{Balance, Key};
pub use net::{Endpoint, HttpUrl, ServiceUrl};
pub use path::{PathTemplate, Prefix};
pub use ratio::{Percent, Ratio};
pub use units::Rate;

pub(super) use ratio::{ratio_above_zero, ratio_below_one};
pub(super) use text::{FromText, Text, list, optional, text, text_or_off};
pub(super) use units::{count, duration_or_zero, optional_size_or_zero, size, size_or_zero};
