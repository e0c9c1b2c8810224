//! Telling foreign code of something: a recorder of metrics, a subscriber of log lines.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Tells something where a panic of a recorder or a subscriber must go no further: in destructors, which run while another panic
/// unwinds as well, and a second one would end the process.
///
/// # Examples
///
/// ```
/// use gw_core::telling::contained;
///
/// struct Place;
///
/// impl Drop for Place {
///     fn drop(&mut self) {
///         // What is to be given back is given back before.
///         contained(|| panic!("the recorder's"));
///     }
/// }
///
/// drop(Place);
/// ```
pub fn contained(tell: impl FnOnce()) {
    // The panic hook has spoken for it.
    drop(catch_unwind(AssertUnwindSafe(tell)));
}
