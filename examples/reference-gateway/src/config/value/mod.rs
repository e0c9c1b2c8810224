//! Single values that are written as strings with a rule of their own, parsed once.

mod http_names;
mod key;
mod net;
mod path;
mod ratio;
mod text;
mod units;

pub(crate) use key::{Balance, Key};
pub(crate) use net::{Endpoint, HttpUrl, ServiceUrl};
pub(crate) use path::{PathTemplate, Prefix};
pub(crate) use ratio::{Percent, Ratio};
pub(crate) use units::Rate;

pub(super) use ratio::{ratio_above_zero, ratio_below_one};
pub(super) use text::{FromText, Text, list, optional, text, text_or_off};
pub(super) use units::{count, duration_or_zero, optional_size_or_zero, size, size_or_zero};
