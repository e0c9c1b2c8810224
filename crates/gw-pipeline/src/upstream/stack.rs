//! The slots behind `Forward`, and their order.

use crate::pipeline::slot::Slot;

/// States that `Self` stands in front of `Inner` on the way to an upstream.
#[diagnostic::on_unimplemented(
    message = "`{Inner}` cannot be placed behind `{Self}`: the order of what stands in front of an upstream is fixed",
    label = "`{Inner}` must stand in front of `{Self}`, and each slot is filled once",
    note = "the order is Cache, Shadow, Retry, Hedge, Breaker, then the upstream's own attempt timer, endpoints and connections; \
            slots may be left out",
    note = "a retry asks the breaker anew for each attempt, and the breaker sees the attempt's timer expire"
)]
pub trait InFrontOf<Inner> {}

/// In front of every slot.
#[derive(Debug, Clone, Copy)]
pub enum Front {}

macro_rules! slots {
    ($($(#[$doc:meta])* $slot:ident = $name:literal;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy)]
            pub enum $slot {}

            impl Slot for $slot {
                const NAME: &'static str = $name;
            }
        )+

        order!(Front $($slot)+);
    };
}

/// Implements [`InFrontOf`] for each pair of the list in which the left one stands first.
macro_rules! order {
    ($first:ident) => {};
    ($first:ident $($later:ident)+) => {
        $(
            // Without this, an error lists every allowed pair instead of the sentence above.
            #[diagnostic::do_not_recommend]
            impl InFrontOf<$later> for $first {}
        )+
        order!($($later)+);
    };
}

slots! {
    /// Answers what is known already.
    Cache = "cache";
    /// Sends a share, or a copy, elsewhere.
    Shadow = "shadow";
    /// Tries again.
    Retry = "retry";
    /// Tries a second time at once.
    Hedge = "hedge";
    /// Stops calling what is broken.
    Breaker = "breaker";
}
